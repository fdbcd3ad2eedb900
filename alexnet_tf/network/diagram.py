"""A picture of an architecture: its towers from the image down to the logits, a box for each stage of each tower."""

from collections.abc import Mapping
from typing import Any

from alexnet_tf.network import architectures
from alexnet_tf.network.model_summary import LayerRow, layer_rows
from alexnet_tf.support import plotting

# (fill, edge) by the kind of the box's first layer: Okabe and Ito's hues, which colour-blind people tell apart, made
# pale. The background is transparent and the arrows are grey, so that a picture is legible on white and on black.
_COLOURS = {
    "input": ("#ececec", "#7f7f7f"),
    "convolution": ("#d6e9f8", "#0072b2"),
    "local": ("#d6e9f8", "#0072b2"),
    "dense": ("#fbe3cf", "#d55e00"),
    "lrn": ("#d3efe6", "#009e73"),
}
_LEGEND = {"convolution": "convolution", "dense": "dense layer", "lrn": "both towers together"}

_LABELS = {"relu": "ReLU", "lrn": "LRN", "same_map_lrn": "same-map LRN", "normalize": "normalise"}

_ARROW = "#8a8f98"


def draw_diagram(architecture: architectures.Architecture, path: str) -> None:
    """Draws the network from the image down, tower a left and tower b right.

    Each box has a stage's layers with their constants, its output shape and its parameters.

    Args:
        architecture: Any architecture.
        path: A .png or .svg file.

    Raises:
        UserError: If the file's ending is another.
    """
    plotting.check_ending("diagram", path, (".png", ".svg"))
    from matplotlib.patches import Patch

    boxes: dict[str, list[LayerRow]] = {}  # By name: a weight layer and what follows it in the same tower.
    for row in layer_rows(architecture):
        name = "image" if row.kind in ("input", "normalize") else row.name.removesuffix(f"_{row.kind}")
        boxes.setdefault(name, []).append(row)
    box_of = {row.name: name for name, rows in boxes.items() for row in rows}
    # In lines of text, from the top down; towers stand side by side.
    bottoms: dict[str, float] = {}
    for name, rows in boxes.items():
        above = [bottoms[box] for box in _read_by(rows, box_of)]
        bottoms[name] = min(above, default=1.4) - 1.4 - _height(rows)
    depth = -min(bottoms.values())
    with plotting.style():
        figure = plotting.new_figure(9.5, 0.21 * depth + 1.1)
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.set(xlim=(-2.1, 2.1), ylim=(-depth - 0.5, 0.5))
        axes.axis("off")
        for name, rows in boxes.items():
            _draw_box(axes, name, rows, bottoms[name])
            for source in _read_by(rows, box_of):
                _draw_arrow(axes, (_side(source), bottoms[source]), (_side(name), bottoms[name] + _height(rows)))
        kinds = {rows[0].kind for rows in boxes.values()}
        handles = [
            Patch(facecolor=_COLOURS[kind][0], edgecolor=_COLOURS[kind][1], label=label)
            for kind, label in _LEGEND.items()
            if kind in kinds
        ]
        axes.legend(handles=handles, loc="upper left", fontsize=8, labelcolor=_ARROW).set_zorder(0)
        title = f"{architecture.name}: {architecture.source}"
        axes.set_title(title, fontsize=10, fontweight="normal", color=_ARROW)
        plotting.save(figure, path, dpi=110)


def _read_by(rows: list[LayerRow], box_of: Mapping[str, str]) -> set[str]:
    """Returns the boxes that the layers of a box read."""
    return {box_of[layer.split("[")[0]] for layer in rows[0].inputs}


def _side(name: str) -> int:
    return {"_a": -1, "_b": 1}.get(name[-2:], 0)


def _height(rows: list[LayerRow]) -> float:
    return len(_lines(rows)) + 1.7


def _lines(rows: list[LayerRow]) -> list[str]:
    """Returns a box's text: a line for each layer, then the output's shape and the parameters."""
    lines = []
    for row in rows:
        label = _LABELS.get(row.kind, row.kind)
        detail = f"{label} ({row.detail})" if row.detail else label
        lines.append(row.detail if row is rows[0] and row.kind != "lrn" else detail)
    parameters = sum(row.parameters for row in rows)
    shape = " × ".join(map(str, rows[-1].shape))
    return [*filter(None, lines), f"→ {shape}" + (f"    {parameters:,} parameters" if parameters else "")]


def _draw_box(axes: Any, name: str, rows: list[LayerRow], bottom: float) -> None:
    """Draws a box and its text."""
    from matplotlib.patches import FancyBboxPatch

    side, height, width = _side(name), _height(rows), 1.62
    fill, edge = _COLOURS[rows[0].kind]
    rounded: dict[str, Any] = {"boxstyle": "round,pad=0,rounding_size=0.04", "mutation_aspect": 8}
    corner = (side - width / 2, bottom)
    axes.add_patch(
        FancyBboxPatch(corner, width, height, facecolor=fill, edgecolor=edge, linewidth=1.2, zorder=2, **rounded)
    )
    top = bottom + height - 0.85
    centred = {"ha": "center", "va": "center", "color": "#1f2328", "zorder": 3}
    axes.text(side, top, name, fontsize=10, fontweight="bold", **centred)
    for number, line in enumerate(_lines(rows)):
        axes.text(side, top - 1.05 - number, line, fontsize=7.6, **centred)


def _draw_arrow(axes: Any, start: tuple[int, float], end: tuple[int, float]) -> None:
    """Draws an arrow from the bottom of a box to the top of another, slanted where they are not in one column."""
    shift = 0.25 * max(-1, min(1, start[0] - end[0]))
    axes.annotate(
        "",
        (end[0] + shift, end[1]),
        (start[0] - shift, start[1]),
        zorder=1,
        arrowprops={"arrowstyle": "-|>", "lw": 1.2, "color": _ARROW, "shrinkA": 0, "shrinkB": 0},
    )
