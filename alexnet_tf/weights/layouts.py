"""What the arrays of a weight file mean: which architecture they fit, and conversion to this model and back.

On one side are arrays by the paths of this model's variables (`conv2_a/kernel`), on the other arrays by a file's own
names, all of them NumPy's: neither Caffe nor PyTorch is needed. How files are read and written: `formats`.
"""

import numpy as np

from alexnet_tf.network import architectures
from alexnet_tf.weights import caffemodel, containers, prototxt
from alexnet_tf.weights.formats import FORMATS, Layout


def unsupported_reason(architecture: architectures.Architecture, file_format: str) -> str | None:
    """Returns why a format cannot hold an architecture, or None if it can: the matrix of the README.

    Args:
        architecture: Any architecture.
        file_format: One of `formats.WRITTEN`.
    """
    layout = FORMATS[file_format].layout
    assert layout  # It is one of formats.WRITTEN.
    supported = layout.supported
    if supported is None:
        reason = prototxt.unsupported_reason(architecture)
    elif architecture.name not in supported:
        reason = f"its readers compute {' or '.join(supported)} and nothing else"
    else:
        reason = None
    return reason and f"{architecture.name} cannot be written as {file_format}: {reason}"


def kernel_shapes(architecture: architectures.Architecture) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each stage's kernel over all its towers: [height, width, in, out] or [in, out]."""
    shapes = architecture.tower_shapes()
    return {stage.name: (*shapes[stage.name].kernel[:-1], stage.filters) for stage in architecture.stages}


def variable_shapes(architecture: architectures.Architecture) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each variable of `alexnet.build_model(architecture)` that holds weights, by its path."""
    shapes = {}
    for stage in architecture.stages:
        *ins, out = kernel_shapes(architecture)[stage.name]
        for name in stage.layer_names:
            shapes[f"{name}/kernel"] = (*ins, out // stage.towers)
            if stage.bias:
                shapes[f"{name}/bias"] = (out // stage.towers,)
    return shapes


def dropout_counts(architecture: architectures.Architecture) -> dict[str, np.ndarray]:
    """Returns the other variables of the model, at their start: how many masks each dropout layer has made."""
    return {
        f"{name}_dropout/iteration": np.array(0, "int64")
        for stage in architecture.stages
        if "dropout" in stage.ops
        for name in stage.layer_names
    }


def file_shapes(architecture: architectures.Architecture, layout: Layout) -> dict[str, tuple[int, ...]]:
    """Returns the shapes that an architecture's arrays have in a file of a layout, by the file's names."""
    shapes = {}
    for stage in architecture.stages:
        *ins, out = kernel_shapes(architecture)[stage.name]
        if layout.is_channels_first:
            shapes[layout.name("kernel", stage.name)] = (out, *ins[::-1][:1], *ins[:-1])
        else:
            shapes[layout.name("kernel", stage.name)] = (*ins, out)
        if stage.bias:
            shapes[layout.name("bias", stage.name)] = (out,)
    return shapes


def _last_map(architecture: architectures.Architecture) -> tuple[str, int]:
    """Returns the first dense stage and the channels of the map it reads, or ("", 0)."""
    for before, stage in zip(architecture.stages, architecture.stages[1:]):
        if before.kernel_size and not stage.kernel_size:
            return stage.name, before.filters
    return "", 0


def from_file(architecture: architectures.Architecture, layout: Layout, entries: dict) -> dict:
    """Converts a file's arrays to this model's.

    Args:
        architecture: With the file's number of classes.
        layout: The file's.
        entries: Arrays of the shapes of `file_shapes`, by the file's names; those that are missing are missing in the
            result too.

    Returns:
        float32 arrays of the shapes of `variable_shapes`, by the variable's path.
    """
    arrays, (dense_after_map, channels) = {}, _last_map(architecture)
    for stage in architecture.stages:
        if layout.name("kernel", stage.name) not in entries:
            continue
        kernel = entries[layout.name("kernel", stage.name)]
        if layout.is_channels_first:
            if stage.name == dense_after_map:
                kernel = _map_of(kernel, channels)
            kernel = kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T
        if layout.is_bgr and stage is architecture.stages[0]:
            kernel = kernel[:, :, ::-1]
        if not stage.kernel_size:
            kernel = kernel.reshape(-1, stage.filters)
        # A group's filters are consecutive output channels, and so are a tower's (Caffe's conv_layer.cpp).
        for name, part in zip(stage.layer_names, np.split(kernel, stage.towers, axis=-1)):
            arrays[f"{name}/kernel"] = np.ascontiguousarray(part, "float32")
        if stage.bias and layout.name("bias", stage.name) in entries:
            bias = entries[layout.name("bias", stage.name)]
            for name, part in zip(stage.layer_names, np.split(bias, stage.towers)):
                arrays[f"{name}/bias"] = np.ascontiguousarray(part, "float32")
    return arrays


def _map_of(kernel, channels):
    """Returns a kernel [out, channel * architecture * column] as the convolution over the whole map that it is."""
    side = round((kernel.shape[1] // channels) ** 0.5)
    return kernel.reshape(-1, channels, side, side)


def to_file(architecture: architectures.Architecture, layout: Layout, arrays: dict) -> dict:
    """Converts this model's arrays to a file's: the inverse of `from_file`, bit for bit."""
    entries, (dense_after_map, channels) = {}, _last_map(architecture)
    for stage in architecture.stages:
        kernel = np.concatenate([arrays[f"{name}/kernel"] for name in stage.layer_names], axis=-1)
        if layout.is_bgr and stage is architecture.stages[0]:
            kernel = kernel[:, :, ::-1]
        if layout.is_channels_first:
            if stage.name == dense_after_map:
                side = round((kernel.shape[0] // channels) ** 0.5)
                kernel = kernel.reshape(side, side, channels, -1)
            kernel = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
            if not stage.kernel_size:
                kernel = kernel.reshape(stage.filters, -1)
        entries[layout.name("kernel", stage.name)] = np.ascontiguousarray(kernel)
        if stage.bias:
            entries[layout.name("bias", stage.name)] = np.concatenate(
                [arrays[f"{name}/bias"] for name in stage.layer_names]
            )
    return entries


def differences(expected: dict, entries: dict) -> list[str]:
    """Describes what is missing, left over and of another shape in a file; empty if it fits.

    Args:
        expected: Shapes by name.
        entries: Arrays by name.
    """
    missing = [name for name in expected if name not in entries]
    left_over = [name for name in entries if name not in expected]
    differing = [
        f"{name}: {entries[name].shape} in the file, {shape} in the network"
        for name, shape in expected.items()
        if name in entries and entries[name].shape != shape
    ]
    return [
        f"{what}: {_listing(names)}"
        for what, names in (("missing", missing), ("left over", left_over), ("other shapes", differing))
        if names
    ]


def _listing(names, limit: int = 24) -> str:
    return ", ".join(name[:80] for name in names[:limit]) + (
        f" and {len(names) - limit} more" if len(names) > limit else ""
    )


def detect_architecture(
    file_format: str,
    entries: dict[str, np.ndarray],
    *,
    layers: list[caffemodel.Layer] | None = None,
    partial: bool = False,
    architecture: str | None = None,
) -> tuple[architectures.Architecture, str]:
    """Finds the architecture of a file's arrays, by names and shapes, and in a .caffemodel by the layers' order.

    Args:
        file_format: A key of `formats.FORMATS`.
        entries: Arrays by the file's names.
        layers: Of a .caffemodel, in its order.
        architecture: Name of the only architecture to consider.
        partial: Whether arrays may be missing.

    Returns:
        (the architecture with the file's number of classes, how it was found).

    Raises:
        WeightFileError: If none fits (with what is missing, left over and differing), or several do.
    """
    candidates = [architectures.ARCHITECTURES[architecture]] if architecture else _architectures_of(file_format)
    fits = {
        each.name: (each, differences(_shapes(each, file_format), entries))
        for each in (_with_classes_of(each, file_format, entries) for each in candidates)
    }
    fitting = [
        each
        for each, problems in fits.values()
        if not problems or partial and all(each.startswith("missing: ") for each in problems)
    ]
    if not fitting:
        name, (_, problems) = min(fits.items(), key=lambda item: (len(item[1][1]), sum(map(len, item[1][1]))))
        raise containers.WeightFileError(
            f"It does not fit {'' if architecture else 'any architecture; the nearest is '}{name}. In the file are\n  "
            + "\n  ".join(problems)
            + ("" if architecture else "\nChoose an architecture yourself: --architecture=NAME.")
            + _naming_advice(fits[name][0], file_format, entries)
        )
    if architecture:
        return fitting[0], _order_note(fitting[0], layers)
    names = [architecture.name for architecture in fitting]
    if layers is not None:
        return _by_order(fitting, layers), "by its shapes and the order of its layers"
    layout = FORMATS[file_format].layout
    default = layout.default if layout else None
    if default in names:
        others = ", ".join(name for name in names if name != default)
        return fits[default][0], f"assumed; it could be {others} too (--architecture)" if others else "by its shapes"
    if len(fitting) == 1:
        return fitting[0], "by its names and shapes"
    raise containers.WeightFileError(f"It fits {', '.join(names)} alike. Choose one: --architecture=NAME.")


def _naming_advice(architecture, file_format, entries):
    """Returns what helps where a file has the network's arrays under other names, or lacks some of them."""
    expected = _shapes(architecture, file_format)
    if not expected.keys() & entries.keys():
        return f"\nIts names are not known; rename its arrays and save them again: {_listing(list(expected))}."
    if all(name in expected and array.shape == expected[name] for name, array in entries.items()):
        return "\nTo initialise what is missing at random: --partial."
    return ""


def _architectures_of(file_format):
    return [
        each
        for each in architectures.ARCHITECTURES.values()
        if FORMATS[file_format].layout is None or not unsupported_reason(each, file_format)
    ]


def _shapes(architecture, file_format):
    layout = FORMATS[file_format].layout
    return file_shapes(architecture, layout) if layout else variable_shapes(architecture)


def _with_classes_of(architecture, file_format, entries):
    """Returns the architecture with as many classes as the file's last bias has values, if it has one."""
    layout, last = FORMATS[file_format].layout, architecture.stages[-1].name
    bias = entries.get(layout.name("bias", last) if layout else f"{last}/bias")
    if bias is None or bias.ndim != 1 or not bias.size:
        return architecture
    return architectures.with_num_classes(architecture, bias.size)


def _order_note(architecture, layers):
    if layers is None or prototxt.unsupported_reason(architecture):
        return "as requested"
    order = prototxt.layer_signature(layers)
    if order == prototxt.layer_signature(prototxt.to_caffe_layers(architecture)):
        return "as requested"
    return f"as requested, though the file's layers are in another order: {' '.join(order)[:2000]}"


def _by_order(fitting, layers):
    """Returns the architecture that has the layers' order and LRN constants."""
    order = prototxt.layer_signature(layers)
    orders = {each.name: prototxt.layer_signature(prototxt.to_caffe_layers(each)) for each in fitting}
    for architecture in fitting:
        if orders[architecture.name] == order:
            return architecture
    known = "\n  ".join(f"{name}: {' '.join(each)}" for name, each in orders.items())
    raise containers.WeightFileError(
        f"Its weights have the shapes of {', '.join(orders)}, but its layers are none of theirs:\n  the file: "
        f"{' '.join(order)[:2000]}\n  {known}\nIf you know what it is: --architecture=NAME."
    )


def check_finite(arrays: dict) -> None:
    """Refuses weights that are not finite.

    Raises:
        WeightFileError: If there are any, with their names and how many.
    """
    bad = {name: int((~np.isfinite(array)).sum()) for name, array in arrays.items()}
    bad = {name: count for name, count in bad.items() if count}
    if bad:
        raise containers.WeightFileError(
            "Some weights are not finite: "
            + ", ".join(f"{count:,} in {name}" for name, count in bad.items())
            + ". To accept them nevertheless: --allow_nan."
        )
