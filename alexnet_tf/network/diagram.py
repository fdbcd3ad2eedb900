"""A picture of an architecture: its towers from the image down to the logits, a box for each stage of each tower."""

import pathlib

from alexnet_tf.network import architectures, model_summary
from alexnet_tf.support import atomic_files, errors

# (fill, edge) by the kind of the box's first layer: Okabe and Ito's hues, which colour-blind people tell apart, made
# pale. The background is transparent and the arrows are grey, so that a picture is legible on white and on black.
_COLOURS = {
    "input": ("#ececec", "#7f7f7f"),
    "normalize": ("#ececec", "#7f7f7f"),
    "convolution": ("#d6e9f8", "#0072b2"),
    "dense": ("#fbe3cf", "#d55e00"),
    "lrn": ("#d3efe6", "#009e73"),
}
_LEGEND = {"convolution": "convolution", "dense": "dense layer", "lrn": "both towers together"}

_ARROW = "#8a8f98"

_TEXT = "#1f2328"


def draw_diagram(architecture: architectures.Architecture, path: str) -> None:
    """Draws the network from the image down, tower a left and tower b right.

    Each box has a stage's layers with their constants, its output shape and its parameters.

    Args:
        architecture: Any architecture.
        path: A .png or .svg file.

    Raises:
        UserError: If the file's ending is another.
    """
    ending = pathlib.Path(path).suffix.lower()
    if ending not in (".png", ".svg"):
        raise errors.UserError(f"--diagram writes .png or .svg files; got {path!r}.")
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    boxes = _boxes(architecture)
    bottoms = _places(boxes)
    depth = -min(y for _, y in bottoms.values())
    figure = Figure(figsize=(9.5, 0.21 * depth + 1.1), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(-2.1, 2.1), ylim=(-depth - 0.5, 0.5))
    axes.axis("off")
    for name, rows in boxes.items():
        _draw_box(axes, name, rows, boxes, bottoms)
    kinds = {rows[0].kind for rows in boxes.values()}
    handles = [
        Patch(facecolor=_COLOURS[kind][0], edgecolor=_COLOURS[kind][1], label=label)
        for kind, label in _LEGEND.items()
        if kind in kinds or kind == "lrn" and _joined(boxes)
    ]
    legend = axes.legend(handles=handles, loc="upper left", fontsize=8, frameon=False, labelcolor=_ARROW)
    legend.set_zorder(0)
    axes.set_title(f"{architecture.name}: {architecture.source}", fontsize=10, color=_ARROW)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "alexnet_tf"}):  # Text stays text.
        metadata = {"Date": None} if ending == ".svg" else None
        atomic_files.atomic_write(
            path, lambda file: figure.savefig(file, format=ending[1:], dpi=110, transparent=True, metadata=metadata)
        )


def _boxes(architecture: architectures.Architecture) -> dict[str, list[model_summary.LayerRow]]:
    """Returns the layers of each box by its name: a weight layer and what follows it in the same tower."""
    boxes: dict[str, list[model_summary.LayerRow]] = {}
    for row in model_summary.layer_rows(architecture):
        ops = ("_same_map_lrn", "_relu", "_lrn", "_pool", "_dropout")
        name = next((row.name.removesuffix(op) for op in ops if row.name.endswith(op)), row.name)
        boxes.setdefault("images" if name == "normalize" else name, []).append(row)
    return boxes


def _joined(boxes: dict[str, list[model_summary.LayerRow]]) -> list[str]:
    """Returns the boxes that hold no weight layer: steps over both towers together."""
    return [name for name, rows in boxes.items() if rows[0].kind not in ("input", "convolution", "dense")]


def _box_of(layer: str, boxes: dict[str, list[model_summary.LayerRow]]) -> str:
    return next(name for name, rows in boxes.items() if layer.split("[")[0] in [row.name for row in rows])


def _lines(rows: list[model_summary.LayerRow]) -> list[str]:
    """Returns a box's text: a line for each layer, then the output's shape and the parameters."""
    names = {"relu": "ReLU", "lrn": "LRN", "same_map_lrn": "same-map LRN", "pool": "pool", "normalize": "normalise"}
    first = rows[0]
    lines = [f"{first.detail}" if first.kind in ("input", "convolution", "dense") else ""]
    for row in rows if not lines[0] else rows[1:]:
        if row.kind not in ("convolution", "dense", "input"):
            lines.append(names.get(row.kind, row.kind) + (f" ({row.detail})" if row.detail else ""))
    parameters = sum(row.parameters for row in rows)
    shape = " × ".join(map(str, rows[-1].shape))
    return [line for line in lines if line] + [f"→ {shape}" + (f"    {parameters:,} parameters" if parameters else "")]


def _places(boxes: dict[str, list[model_summary.LayerRow]]) -> dict[str, tuple[int, float]]:
    """Returns {box: (side, the y of its bottom)}; a unit is a line of text. Towers stand side by side."""
    bottoms: dict[str, tuple[int, float]] = {}
    for name, rows in boxes.items():
        above = [bottoms[_box_of(layer, boxes)][1] for row in rows[:1] for layer in row.inputs]
        side = -1 if name.endswith("_a") else 1 if name.endswith("_b") else 0
        bottoms[name] = (side, min(above, default=1.4) - 1.4 - (len(_lines(rows)) + 1.7))
    return bottoms


def _draw_box(axes, name: str, rows: list[model_summary.LayerRow], boxes: dict, bottoms: dict) -> None:
    """Draws a box, its text, and the arrows that come into it."""
    from matplotlib.patches import FancyBboxPatch

    (side, bottom), lines = bottoms[name], _lines(rows)
    height, width = len(lines) + 1.7, 1.62
    fill, edge = _COLOURS.get(rows[0].kind, _COLOURS["lrn"])
    axes.add_patch(
        FancyBboxPatch(
            (side - width / 2, bottom),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.04",
            mutation_aspect=8,
            facecolor=fill,
            edgecolor=edge,
            linewidth=1.2,
            zorder=2,
        )
    )
    axes.text(
        side,
        bottom + height - 0.85,
        name.replace("images", "image"),
        ha="center",
        va="center",
        fontsize=10,
        fontweight="bold",
        color=_TEXT,
        zorder=3,
    )
    for number, line in enumerate(lines):
        axes.text(
            side, bottom + height - 1.9 - number, line, ha="center", va="center", fontsize=7.6, color=_TEXT, zorder=3
        )
    for source in {_box_of(layer, boxes) for layer in rows[0].inputs} - {name}:
        from_side, from_bottom = bottoms[source]
        shift = 0.0 if from_side == side else 0.25 * (from_side - side) / abs(from_side - side)
        axes.annotate(
            "",
            (side + shift, bottom + height),
            (from_side - shift, from_bottom),
            zorder=1,
            arrowprops={"arrowstyle": "-|>", "lw": 1.2, "color": _ARROW, "shrinkA": 0, "shrinkB": 0},
        )
