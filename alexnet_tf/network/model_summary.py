"""What an architecture is, for a person: the table of its layers with their shapes, parameters and multiply-adds.

Everything follows from the architecture's data; no network is built and TensorFlow is not imported.
"""

import dataclasses
from collections.abc import Iterator

from alexnet_tf.network import architectures


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """One line of the table and one part of the diagram.

    Attributes:
        name: The layer's name in `alexnet.build_model`.
        kind: "input", "normalize", "convolution", "dense", or an operation of `architectures.Stage.ops`.
        detail: Kernel size, stride, constants and the like, or nothing.
        inputs: Names of the layers that it reads; `conv1_pool[a]` is a tower's half of a joined layer.
        shape: Of its output, without the batch.
        parameters: Number of trainable ones.
        multiply_adds: For one image.
    """

    name: str
    kind: str
    detail: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    parameters: int = 0
    multiply_adds: int = 0


def layer_rows(architecture: architectures.Architecture) -> list[LayerRow]:
    """Returns the layers of an architecture's network in order, without those that only join, split, pad or reshape."""
    size = architecture.image_size
    rows = [
        LayerRow("images", "input", "RGB in [0, 255]", (), (size, size, 3)),
        LayerRow("normalize", "normalize", _normalization(architecture), ("images",), (size, size, 3)),
    ]
    columns, shapes = ["normalize"], architecture.tower_shapes()
    for stage in architecture.stages:
        added = list(_stage_rows(architecture, stage, columns, shapes[stage.name]))
        columns = [row.name for row in added if row.kind == added[-1].kind]  # One, or one for each tower.
        rows += added
    return rows


def _stage_rows(
    architecture: architectures.Architecture,
    stage: architectures.Stage,
    columns: list[str],
    shapes: architectures.TowerShapes,
) -> Iterator[LayerRow]:
    """Yields the rows of a stage: its weight layers, then each operation, for one tower after the other."""
    if stage.input_towers == "both" or stage.towers == 1:
        inputs = [tuple(columns)] * stage.towers
    elif len(columns) == 1:
        inputs = [(f"{columns[0]}[{tower}]",) for tower in "ab"]
    else:
        inputs = [(name,) for name in columns]
    channels, size = stage.filters // stage.towers, shapes.size
    kind = ("local" if stage.is_local else "convolution") if stage.kernel_size else "dense"
    is_map = stage.kernel_size > 0
    for name, tower_inputs in zip(stage.layer_names, inputs):
        yield LayerRow(
            name,
            kind,
            _weight_detail(stage, name),
            tower_inputs,
            (size, size, channels) if is_map else (channels,),
            shapes.parameters,
            shapes.multiply_adds,
        )
    names, columns = list(stage.layer_names), list(stage.layer_names)
    for operation in stage.ops:
        inputs = [(column,) for column in columns]
        if operation == "lrn" and architecture.lrn_across_towers and len(columns) > 1:
            names, inputs, channels = [stage.name], [tuple(columns)], stage.filters
        if operation == "pool":
            size = shapes.output_size
        columns = [f"{name}_{operation}" for name in names]
        for name, operation_inputs in zip(columns, inputs):
            yield LayerRow(
                name,
                operation,
                _operation_detail(architecture, stage, operation),
                operation_inputs,
                (size, size, channels) if is_map else (channels,),
            )


def _normalization(architecture: architectures.Architecture) -> str:
    mean = ", ".join(f"{value:.1f}" for value in architecture.mean)
    scale = architecture.scale if len({*architecture.scale}) > 1 else architecture.scale[:1]
    divisors = ", ".join(f"{1 / value:.4g}" for value in scale)
    return f"minus {mean}" + (f", divided by {divisors}" if scale != (1,) else "")


def _weight_detail(stage: architectures.Stage, name: str) -> str:
    """Returns a weight layer's kernel size, stride, padding and group."""
    parts = []
    if stage.kernel_size:
        parts = [f"{stage.kernel_size} x {stage.kernel_size}", f"stride {stage.strides}"]
        before, after = stage.padding
        if before == after:
            parts += [f"padding {before}"] if before else []
        else:
            parts.append(f"padding {before} before, {after} after")
    if stage.groups > 1:
        parts.append(f"group {'ab'.index(name[-1]) + 1} of {stage.groups}")
    return ", ".join(parts)


def _operation_detail(architecture: architectures.Architecture, stage: architectures.Stage, operation: str) -> str:
    if operation == "pool":
        return f"{stage.pool.kind}, {stage.pool.size} x {stage.pool.size}, stride {stage.pool.strides}"
    if operation == "dropout":
        return f"rate {architecture.dropout_rate:g}"
    if operation in ("relu", "tanh"):
        return ""
    lrn = architecture.lrn if operation == "lrn" else architecture.same_map_lrn
    width = 2 * lrn.depth_radius + 1
    window = f"n {width}" if operation == "lrn" else f"{width} x {width} pixels"
    return f"{window}, k {lrn.bias:g}, alpha {lrn.alpha:g}, beta {lrn.beta:g}"


def layer_table(architecture: architectures.Architecture) -> str:
    """Returns the table of layers and the totals; the last line is `Total parameters: ...` (trainable ones)."""
    rows = layer_rows(architecture)
    columns = {
        "layer": [row.name for row in rows],
        "reads": [" + ".join(row.inputs) for row in rows],
        "settings": [row.detail for row in rows],
        "output": [" x ".join(map(str, row.shape)) for row in rows],
        "parameters": [_count(row.parameters) for row in rows],
        "multiply-adds": [_count(row.multiply_adds) for row in rows],
    }
    aligned = []
    for title, texts in columns.items():
        width = max(map(len, [title, *texts]))
        align = str.rjust if title in ("parameters", "multiply-adds") else str.ljust
        aligned.append([align(text, width) for text in (title, "-" * width, *texts)])
    return "\n".join(
        [
            f"{architecture.name}: {architecture.source}",
            "",
            *("  ".join(line).rstrip() for line in zip(*aligned)),
            "",
            f"Total multiply-adds: {sum(row.multiply_adds for row in rows):,}",
            f"Total parameters: {sum(row.parameters for row in rows):,}",
        ]
    )


def _count(number: int) -> str:
    return f"{number:,}" if number else ""
