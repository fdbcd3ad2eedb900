"""What a row of the table is, for a person: the table of its layers, and a diagram of its columns."""

import dataclasses
import pathlib

import keras
import numpy as np

from alexnet_tf import alexnet, architectures, atomic_files, errors


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """One line of the table and one box of the diagram.

    Attributes:
        name: The layer's.
        kind: Its class: "Conv2D", "Dense", "MaxPooling2D", ...
        detail: Kernel, stride and the like, or nothing.
        sees: Names of the layers it reads; joins and halves are resolved.
        shape: Of its output, without the batch.
        parameters: Trainable ones.
        multiply_adds: For one image.
    """

    name: str
    kind: str
    detail: str
    sees: tuple[str, ...]
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


def layer_rows(architecture: architectures.Architecture) -> list[LayerRow]:
    """Returns the layers of a row's network in order."""
    model = alexnet.build_model(architecture)
    return [_layer_row(layer) for layer in model.layers if not _is_plumbing(layer)]


def layer_table(architecture: architectures.Architecture) -> str:
    """Returns the table of layers and the totals; the last line is `Total parameters: ...` (trainable ones)."""
    rows = layer_rows(architecture)
    cells = [("layer", "sees", "output", "parameters", "multiply-adds")]
    cells += [(row.name, " + ".join(row.sees), " x ".join(map(str, row.shape)),
               f"{row.parameters:,}" if row.parameters else "", f"{row.multiply_adds:,}" if row.multiply_adds else "")
              for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = [f"{architecture.name}: {architecture.source}", ""]
    for number, line in enumerate(cells):
        left = [text.ljust(width) for text, width in zip(line[:3], widths)]
        right = [text.rjust(width) for text, width in zip(line[3:], widths[3:])]
        lines.append("  ".join(left + right).rstrip())
        if number == 0:
            lines.append("  ".join("-" * width for width in widths))
    lines += ["", f"Total multiply-adds: {sum(row.multiply_adds for row in rows):,}",
              f"Total parameters: {sum(row.parameters for row in rows):,}"]
    return "\n".join(lines)


def _is_plumbing(operation) -> bool:
    """Says whether an operation only joins, halves or reshapes."""
    return not isinstance(operation, keras.layers.Layer) or isinstance(
        operation, (keras.layers.Concatenate, keras.layers.Flatten))


def _seen(tensor) -> tuple[str, ...]:
    """Returns the names of the layers that a tensor comes from."""
    operation, _, index = tensor._keras_history
    if not _is_plumbing(operation):
        return (operation.name,)
    inputs = operation._inbound_nodes[0].input_tensors
    names = tuple(name for each in inputs for name in _seen(each))
    if isinstance(operation, keras.layers.Layer):
        return names
    return tuple(f"{name}[{'ab'[index]}]" for name in names)  # A half.


def _layer_row(layer) -> LayerRow:
    inputs = layer._inbound_nodes[0].input_tensors
    kernel = next((weight for weight in layer.trainable_weights if weight.path.endswith("kernel")), None)
    shape, detail = tuple(layer.output.shape[1:]), ""
    positions = int(np.prod(shape[:-1])) if len(shape) == 3 else 1
    if isinstance(layer, keras.layers.Conv2D):
        detail = f"{layer.kernel_size[0]} x {layer.kernel_size[1]}, stride {layer.strides[0]}, {layer.padding}"
    elif isinstance(layer, keras.layers.MaxPooling2D):
        detail = f"{layer.pool_size[0]} x {layer.pool_size[1]}, stride {layer.strides[0]}"
    return LayerRow(
        name=layer.name, kind=type(layer).__name__, detail=detail,
        sees=tuple(name for tensor in inputs for name in _seen(tensor)), shape=shape,
        parameters=sum(int(np.prod(weight.shape)) for weight in layer.trainable_weights),
        multiply_adds=positions * int(np.prod(kernel.shape)) if kernel is not None else 0)


# The colours of Caffe's draw_net.py.
_COLOURS = {"Conv2D": "#FF5050", "MaxPooling2D": "#FF9900", "Dense": "#CC33FF", "InputLayer": "#E0E0E0"}

_OTHER_COLOUR = "#6495ED"


def draw_diagram(architecture: architectures.Architecture, path: str) -> None:
    """Draws the network from the image down, tower a left and tower b right, each box with its output shape.

    Args:
        architecture: The row.
        path: A .png or .svg file.

    Raises:
        UserError: If the file's ending is another.
    """
    ending = pathlib.Path(path).suffix.lower()
    if ending not in (".png", ".svg"):
        raise errors.UserError(f"--diagram writes .png or .svg files; got {path!r}.")
    from matplotlib.figure import Figure

    places, rows = {}, layer_rows(architecture)
    for row in rows:
        above = [places[name.split("[")[0]][1] for name in row.sees]
        side = {"_a": -1, "_b": 1}.get(next((end for end in ("_a", "_b") if end in row.name), ""), 0)
        places[row.name] = (side, min(above, default=1) - 1)
    depth = 1 - min(y for _, y in places.values())
    figure = Figure(figsize=(9, 0.62 * depth), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(-2.05, 2.05), ylim=(-depth + 0.4, 0.6))
    axes.axis("off")
    for row in rows:
        x, y = places[row.name]
        for name in row.sees:
            from_x, from_y = places[name.split("[")[0]]
            axes.annotate("", (x, y + 0.33), (from_x, from_y - 0.33), arrowprops={"arrowstyle": "->", "lw": 0.8})
        text = f"{row.name}" + (f"  ({row.detail})" if row.detail else "") + "\n" + " x ".join(map(str, row.shape))
        axes.text(x, y, text, ha="center", va="center", fontsize=7.5,
                  bbox={"boxstyle": "round,pad=0.3", "fc": _COLOURS.get(row.kind, _OTHER_COLOUR), "ec": "#404040"})
    axes.set_title(f"{architecture.name}: {architecture.source}", fontsize=9)
    atomic_files.atomic_write(path, lambda file: figure.savefig(file, format=ending[1:], dpi=110))
