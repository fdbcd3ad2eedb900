"""A picture of an architecture: its towers from the image to the logits, a box for each stage of each tower."""

import textwrap
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

_LABELS = {"relu": "ReLU", "lrn": "LRN", "same_map_lrn": "same-map LRN", "normalize": "minus the mean"}

_GREY = "#8a8f98"

# Width of a box, where a column is 1 wide; characters in a line of it; and inches of a column and of a line of text.
_WIDTH, _CHARACTERS, _COLUMN, _LINE = 0.88, 18, 1.0, 0.125


def draw_diagram(architecture: architectures.Architecture, path: str) -> None:
    """Draws the network from the image at the left to the logits, tower a above tower b.

    A box has the layers of a stage. Below each column are its output's shape and its parameters, of both towers.

    Args:
        architecture: Any architecture.
        path: A .png or .svg file.

    Raises:
        UserError: If the file's ending is another.
    """
    plotting.check_ending("diagram", path, (".png", ".svg"))
    boxes: dict[str, list[LayerRow]] = {}  # By name: a weight layer and what follows it in the same tower.
    for row in layer_rows(architecture):
        name = "image" if row.kind in ("input", "normalize") else row.name.removesuffix(f"_{row.kind}")
        boxes.setdefault(name, []).append(row)
    box_of = {row.name: name for name, rows in boxes.items() for row in rows}
    read = {name: {box_of[layer.split("[")[0]] for layer in rows[0].inputs} for name, rows in boxes.items()}
    columns: dict[str, int] = {}
    for name in boxes:
        columns[name] = max((columns[source] + 1 for source in read[name]), default=0)
    last = max(columns.values())
    lines = {name: _lines(rows) for name, rows in boxes.items()}
    tallest = max(map(len, lines.values())) + 1.6
    places = {name: (columns[name], {"_a": 0.5, "_b": -0.5}.get(name[-2:], 0.0) * (tallest + 1.2)) for name in boxes}
    bottom = min(y for _, y in places.values()) - tallest / 2
    with plotting.style():
        figure = plotting.new_figure(_COLUMN * (last + 1), _LINE * (4.2 - 2 * bottom))
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.set(xlim=(-0.5, last + 0.5), ylim=(bottom - 2.6, 1.6 - bottom))
        axes.axis("off")
        for name, (x, y) in places.items():
            _draw_box(axes, name, lines[name], _COLOURS[boxes[name][0].kind], (x, y))
            for source in read[name]:
                arrow = {"arrowstyle": "-|>", "lw": 1, "color": _GREY, "shrinkA": 0, "shrinkB": 0}
                start = (places[source][0] + _WIDTH / 2, places[source][1])
                axes.annotate("", (x - _WIDTH / 2, y), start, zorder=1, arrowprops=arrow)
        small = {"fontsize": 7, "color": _GREY, "ha": "center", "va": "center"}
        for column in range(last + 1):
            rows = [boxes[name] for name in boxes if columns[name] == column]
            *size, maps = rows[0][-1].shape
            shape = " × ".join(f"{number:,}" for number in (*size, maps * len(rows)))
            parameters = sum(row.parameters for box in rows for row in box)
            axes.text(column, bottom - 1.0, shape, **small)
            axes.text(column, bottom - 2.1, f"{parameters:,}" if column else "parameters:", **small)
        total = sum(row.parameters for rows in boxes.values() for row in rows)
        title = f"{architecture.name}: {architecture.source}; {total:,} parameters"
        axes.text(-0.43, 0.9 - bottom, title, fontsize=8, color=_GREY, va="center")
        plotting.save(figure, path, dpi=110)


def _lines(rows: list[LayerRow]) -> list[str]:
    """Returns a box's text: the kernel of its weight layer, then the layers that follow."""
    lines: list[str] = []
    for row in rows:
        parts = [part for part in row.detail.split(", ") if part != "stride 1" and not part.startswith("group")]
        if row.kind == "pool":
            parts[:2] = [f"{parts[0]} pool {parts[1]}"]
        elif row is not rows[0] or row.kind == "lrn":
            parts = [_LABELS.get(row.kind, row.kind)]
        # No-break spaces keep `3 × 3` on one line.
        text = ", ".join(part.replace(" x ", " × ").replace(" ", "\xa0") for part in parts)
        lines += [line.rstrip(",") for line in textwrap.wrap(text, _CHARACTERS)]
    return lines


def _draw_box(axes: Any, name: str, lines: list[str], colours: tuple[str, str], centre: tuple[float, float]) -> None:
    """Draws a box and its text, its centre in columns and in lines."""
    from matplotlib.patches import FancyBboxPatch

    height = len(lines) + 1.6
    axes.add_patch(
        FancyBboxPatch(
            (centre[0] - _WIDTH / 2, centre[1] - height / 2),
            _WIDTH,
            height,
            boxstyle="round,pad=0,rounding_size=0.05",
            mutation_aspect=_COLUMN / _LINE,
            facecolor=colours[0],
            edgecolor=colours[1],
            linewidth=1,
            zorder=2,
        )
    )
    text = {"ha": "center", "va": "center", "color": "#1f2328", "zorder": 3}
    top = centre[1] + height / 2 - 0.9
    axes.text(centre[0], top, name, fontsize=8, fontweight="bold", **text)
    for number, line in enumerate(lines, 1):
        axes.text(centre[0], top - number, line, fontsize=6.6, **text)
