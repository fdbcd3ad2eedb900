"""What the arrays of a weight file mean: which architecture they fit, and conversion to this model and back.

On one side are arrays by the paths of this model's variables (`conv2_a/kernel`), on the other arrays by a file's own
names, all of them NumPy's. How files are read: `formats`.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping

import numpy as np

from alexnet_tf.network import architectures
from alexnet_tf.weights import formats

Shapes = dict[str, tuple[int, ...]]
Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a file holds a network's weights. All readers, like Keras, compute cross-correlation.

    Attributes:
        kernel: Name of a stage's kernel in the file, with the stage's name in place of {}.
        bias: Name of its bias.
        is_channels_first: Whether convolutions are [out, in, height, width], dense kernels [out, in], and what a dense
            layer reads of a map is ordered by channel, row, column. Otherwise [height, width, in, out], [in, out],
            and row, column, channel, as in Keras.
        is_bgr: Whether conv1 reads blue first.
        is_by_tower: Whether each tower has arrays of its own.
        candidates: Names of the architectures whose weights are in such files; empty: all.
        assumed: The one that is assumed where several fit and nothing in the file decides.
        layer_names: The file's names of the stages, where they are not ours.
    """

    kernel: str
    bias: str
    is_channels_first: bool = False
    is_bgr: bool = False
    is_by_tower: bool = False
    candidates: tuple[str, ...] = ()
    assumed: str | None = None
    layer_names: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def name(self, kind: str, stage_name: str) -> str:
        """Returns the file's name of a "kernel" or "bias" of a stage, or of a tower."""
        return getattr(self, kind).format(self.layer_names.get(stage_name, stage_name))

    def parts(self, stage: architectures.Stage) -> list[tuple[str, tuple[str, ...]]]:
        """Returns (what an array of the file belongs to, the layers of the model that are in it) of a stage."""
        return (
            [(name, (name,)) for name in stage.layer_names] if self.is_by_tower else [(stage.name, stage.layer_names)]
        )


# torchvision/models/alexnet.py: positions in its two Sequential modules.
_TORCHVISION_NAMES = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc6": "classifier.1",
    "fc7": "classifier.4",
    "fc8": "classifier.6",
}

LAYOUTS = {
    # This model's variables by their paths.
    "own": Layout("{}/kernel", "{}/bias", is_by_tower=True),
    # A PyTorch network whose layers are called as our stages; towers are groups.
    "stages": Layout("{}.weight", "{}.bias", is_channels_first=True),
    "torchvision": Layout(
        "{}.weight",
        "{}.bias",
        is_channels_first=True,
        candidates=("torchvision",),
        layer_names=_TORCHVISION_NAMES,
    ),
    # BVLC/caffe, base_conv_layer.cpp and inner_product_layer.cpp: [out, in / group, height, width] and [out, in].
    # Images are BGR, as cv::imread gives them.
    "caffe": Layout("{}[0]", "{}[1]", is_channels_first=True, is_bgr=True, candidates=("caffe", "caffenet")),
    # bvlc_alexnet.npy, as ethereon/caffe-tensorflow converts the caffemodel: transposed, the inputs of fc6 reordered,
    # conv1 still BGR. Its readers compute bvlc_alexnet; caffenet's weights have the same shapes.
    "caffe-tensorflow": Layout("{}[0]", "{}[1]", is_bgr=True, candidates=("caffe", "caffenet"), assumed="caffe"),
}


def file_shapes(architecture: architectures.Architecture, layout: Layout) -> Shapes:
    """Returns the shapes that an architecture's arrays have in a file of a layout, by the file's names."""
    shapes, towers = {}, architecture.tower_shapes()
    for stage in architecture.stages:
        ins, parts = towers[stage.name].kernel[:-1], layout.parts(stage)
        out = stage.filters // len(parts)
        for name, _ in parts:
            shape = (out, *ins[-1:], *ins[:-1]) if layout.is_channels_first else (*ins, out)
            shapes[layout.name("kernel", name)] = shape
            if stage.bias:
                shapes[layout.name("bias", name)] = (out,)
    return shapes


def variable_shapes(architecture: architectures.Architecture) -> Shapes:
    """Returns the shape of each variable of `alexnet.build_model(architecture)` that holds weights, by its path."""
    return file_shapes(architecture, LAYOUTS["own"])


def dropout_counts(architecture: architectures.Architecture) -> Arrays:
    """Returns the other variables of the model, at their start: how many masks each dropout layer has made."""
    return {
        f"{name}_dropout/iteration": np.array(0, "int64")
        for stage in architecture.stages
        if "dropout" in stage.ops
        for name in stage.layer_names
    }


def _with_channels(architecture):
    """Yields each stage with the channels of the maps that one of its groups reads; a dense layer's map is 1 x 1."""
    channels = 3
    for stage in architecture.stages:
        yield stage, channels // stage.groups
        channels = stage.filters


def from_file(architecture: architectures.Architecture, layout: Layout, entries: Mapping[str, np.ndarray]) -> Arrays:
    """Converts a file's arrays to this model's.

    Args:
        architecture: With the file's number of classes.
        layout: The file's.
        entries: Arrays of the shapes of `file_shapes`, by the file's names; those that are missing are missing in the
            result too.

    Returns:
        Arrays of the shapes of `variable_shapes`, by the variable's path.
    """
    arrays = {}
    for stage, channels in _with_channels(architecture):
        for name, layers in layout.parts(stage):
            kernel, bias = (entries.get(layout.name(kind, name)) for kind in ("kernel", "bias"))
            if kernel is not None:
                if layout.is_channels_first:
                    if not stage.kernel_size:
                        side = math.isqrt(kernel.shape[1] // channels)
                        kernel = kernel.reshape(-1, channels, side, side)
                    kernel = kernel.transpose(2, 3, 1, 0)
                if layout.is_bgr and stage is architecture.stages[0]:
                    kernel = kernel[:, :, ::-1]
                if not stage.kernel_size:
                    kernel = kernel.reshape(-1, kernel.shape[-1])
                # A group's filters are consecutive output channels, and so are a tower's (Caffe's conv_layer.cpp).
                for layer, part in zip(layers, np.split(kernel, len(layers), axis=-1)):
                    arrays[f"{layer}/kernel"] = np.ascontiguousarray(part)
            if bias is not None and stage.bias:
                arrays |= {f"{layer}/bias": part for layer, part in zip(layers, np.split(bias, len(layers)))}
    return arrays


def to_file(architecture: architectures.Architecture, layout: Layout, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Converts this model's arrays to those of a PyTorch network: the inverse of `from_file`, bit for bit.

    Args:
        architecture: The model's.
        layout: One that is by stage, channels first, and RGB.
        arrays: By the paths of the model's variables.
    """
    entries = {}
    for stage, channels in _with_channels(architecture):
        kernel = np.concatenate([arrays[f"{layer}/kernel"] for layer in stage.layer_names], axis=-1)
        if not stage.kernel_size:
            side = math.isqrt(len(kernel) // channels)
            kernel = kernel.reshape(side, side, channels, -1)
        kernel = kernel.transpose(3, 2, 0, 1)
        kernel = kernel if stage.kernel_size else kernel.reshape(len(kernel), -1)
        entries[layout.name("kernel", stage.name)] = np.ascontiguousarray(kernel)
        if stage.bias:
            biases = [arrays[f"{layer}/bias"] for layer in stage.layer_names]
            entries[layout.name("bias", stage.name)] = np.concatenate(biases)
    return entries


def differences(expected: Shapes, entries: Mapping[str, np.ndarray]) -> list[str]:
    """Describes what is missing, left over and of another shape in a file; empty if it fits.

    Args:
        expected: Shapes by name.
        entries: Arrays by name.
    """
    kinds = {
        "missing": [name for name in expected if name not in entries],
        "left over": [name for name in entries if name not in expected],
        "other shapes": [
            f"{name}: {entries[name].shape} in the file, {shape} in the network"
            for name, shape in expected.items()
            if name in entries and entries[name].shape != shape
        ],
    }
    return [f"{what}: {_listing(names)}" for what, names in kinds.items() if names]


def _listing(names: Iterable[str], limit: int = 24) -> str:
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(name[:80] for name in names[:limit]) + more


def identify(
    file: formats.WeightFile, architecture: str | None = None, *, partial: bool = False
) -> tuple[architectures.Architecture, str]:
    """Finds the architecture of a file: what it states, or by names and shapes, and by the layers' order if it has one.

    Args:
        file: The weight file.
        architecture: Name of the only architecture to consider.
        partial: Whether arrays may be missing.

    Returns:
        (the architecture with the file's number of classes, how it was found).

    Raises:
        WeightFileError: If none fits (with what is missing, left over and differing), or several do.
    """
    layout, known = LAYOUTS[file.layout], architectures.ARCHITECTURES
    stated = file.architecture if file.architecture in known else None
    chosen = architecture or stated
    fits = {}
    for name in [chosen] if chosen else layout.candidates or known:
        candidate = _with_classes_of(known[name], layout, file.arrays)
        fits[name] = candidate, differences(file_shapes(candidate, layout), file.arrays)
    fitting = [
        name
        for name, (_, problems) in fits.items()
        if not problems or partial and all(each.startswith("missing: ") for each in problems)
    ]
    if not fitting:
        raise _misfit(fits, layout, file.arrays, is_chosen=chosen is not None)
    ordered = fitting if file.steps is None else [name for name in fitting if _steps_of(known[name]) == file.steps]
    order = " ".join(file.steps or [])[:2000]
    if chosen:
        how = "as requested" if architecture else "as the file states"
        how += "" if ordered else f", though the file's layers are in another order: {order}"
    elif not ordered:
        orders = "\n  ".join(f"{name}: {' '.join(_steps_of(known[name]))}" for name in fitting)
        raise formats.WeightFileError(
            f"Its weights have the shapes of {', '.join(fitting)}, but its layers are in another order:\n  the file: "
            f"{order}\n  {orders}\nIf you know what it is: --architecture=NAME."
        )
    elif len(ordered) == 1:
        how = "by its names and shapes" if file.steps is None else "by its shapes and the order of its layers"
    elif layout.assumed in ordered:
        others = ", ".join(name for name in ordered if name != layout.assumed)
        ordered, how = [layout.assumed], f"assumed; it could be {others} too (--architecture)"
    else:
        raise formats.WeightFileError(f"It fits {', '.join(ordered)} alike. Choose one: --architecture=NAME.")
    return fits[(ordered or fitting)[0]][0], how


def _with_classes_of(architecture, layout, entries):
    """Returns the architecture with as many classes as the file's last bias has values, if it has one."""
    bias = entries.get(layout.name("bias", architecture.stages[-1].name))
    if bias is None or bias.ndim != 1 or not bias.size:
        return architecture
    return architectures.with_num_classes(architecture, bias.size)


def _misfit(fits, layout, entries, *, is_chosen):
    """Returns the error that says how the nearest architecture differs, and what helps."""
    name, (nearest, problems) = min(fits.items(), key=lambda item: (len(item[1][1]), sum(map(len, item[1][1]))))
    expected, advice = (
        file_shapes(nearest, layout),
        "" if is_chosen else "\nChoose an architecture yourself: --architecture=NAME.",
    )
    if not expected.keys() & entries.keys():
        advice += f"\nIts names are not known; rename its arrays and save them again: {_listing(expected)}."
    elif all(each in expected and array.shape == expected[each] for each, array in entries.items()):
        advice += "\nTo initialise what is missing at random: --partial."
    nearest_name = name if is_chosen else f"any architecture; the nearest is {name}"
    listed = "\n  ".join(problems)
    return formats.WeightFileError(f"It does not fit {nearest_name}. In the file are\n  {listed}{advice}")


def _steps_of(architecture):
    """Returns an architecture's `WeightFile.steps`: dropout does not affect the logits."""
    lrn = architecture.lrn
    size = 2 * lrn.depth_radius + 1
    words = {"lrn": formats.lrn_step(size, lrn.alpha * size, lrn.beta, lrn.bias)}  # Caffe divides alpha by the size.
    steps = [step for stage in architecture.stages for step in (stage.name, *stage.ops) if step != "dropout"]
    return [words.get(step, step) for step in steps]
