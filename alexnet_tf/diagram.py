"""A picture of an architecture: its towers from the image down to the logits."""

import pathlib

from alexnet_tf import architectures, atomic_files, errors, model_summary

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
    import matplotlib
    from matplotlib.figure import Figure

    places: dict[str, tuple[int, int]] = {}
    rows = model_summary.layer_rows(architecture)
    for row in rows:
        above = [places[name.split("[")[0]][1] for name in row.inputs]
        side = {"_a": -1, "_b": 1}.get(next((end for end in ("_a", "_b") if end in row.name), ""), 0)
        places[row.name] = (side, min(above, default=1) - 1)
    depth = 1 - min(y for _, y in places.values())
    figure = Figure(figsize=(9, 0.62 * depth), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(-2.05, 2.05), ylim=(-depth + 0.4, 0.6))
    axes.axis("off")
    for row in rows:
        x, y = places[row.name]
        for name in row.inputs:
            from_x, from_y = places[name.split("[")[0]]
            axes.annotate("", (x, y + 0.33), (from_x, from_y - 0.33), arrowprops={"arrowstyle": "->", "lw": 0.8})
        text = f"{row.name}" + (f"  ({row.detail})" if row.detail else "") + "\n" + " x ".join(map(str, row.shape))
        axes.text(x, y, text, ha="center", va="center", fontsize=7.5,
                  bbox={"boxstyle": "round,pad=0.3", "fc": _COLOURS.get(row.kind, _OTHER_COLOUR), "ec": "#404040"})
    axes.set_title(f"{architecture.name}: {architecture.source}", fontsize=9)
    with matplotlib.rc_context({"svg.fonttype": "none"}):  # Text stays text.
        atomic_files.atomic_write(path, lambda file: figure.savefig(file, format=ending[1:], dpi=110))
