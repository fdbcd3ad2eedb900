"""Pictures in one style: the typeface, colours for colour-blind readers too, saving, and the kernels of conv1.

TensorFlow is not imported. Class names in any script are drawn where an installed font has their characters.
"""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import typing
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from alexnet_tf.support import atomic_files, errors, home
from alexnet_tf.support.shell import printable

if typing.TYPE_CHECKING:
    import keras

# After Okabe and Ito, for colour-blind readers too: blue, orange, green, purple, light blue, brown, black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#8C510A", "#000000")

# Matplotlib takes each character from the first installed one that has it; it brings the first itself.
_TYPEFACES = (
    "DejaVu Sans",
    *(f"Noto Sans {script}" for script in ("CJK SC", "CJK JP", "Devanagari", "Bengali", "Tamil", "Thai", "Ethiopic")),
    "WenQuanYi Zen Hei",
    "Hiragino Sans",
    "Arial Unicode MS",
    "Symbola",
)

_STYLE: Any = {
    "axes.prop_cycle": f"cycler(color={list(COLOURS)})",
    "axes.edgecolor": "#808080",
    "axes.labelcolor": "#202020",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "figure.titlesize": 14,
    "figure.titleweight": "bold",
    "font.size": 11,
    "grid.color": "#e0e0e0",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "svg.fonttype": "none",
    "svg.hashsalt": "alexnet_tf",
    "text.color": "#202020",
    "text.parse_math": False,
    "xtick.color": "#404040",
    "xtick.labelsize": 10,
    "ytick.color": "#404040",
    "ytick.labelsize": 10,
}

# What `save` writes, and the resolution of pixels in it.
ENDINGS, DPI = (".png", ".svg", ".pdf", ".jpg"), 150


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draws and saves in the project's style; a character that no installed typeface has is a box."""
    import matplotlib
    from matplotlib import font_manager

    families = [name for name in _TYPEFACES if name in font_manager.get_font_names()]
    with matplotlib.rc_context({**_STYLE, "font.family": families}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def new_figure(width: float, height: float) -> Any:
    """Returns an empty Matplotlib figure, its size in inches, that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def check_ending(flag: str, path: str | os.PathLike[str], endings: Sequence[str] = ENDINGS) -> None:
    """Refuses a picture's file whose format is not known.

    Raises:
        UserError: If the path has another ending.
    """
    if pathlib.Path(path).suffix.lower() not in endings:
        raise errors.UserError(
            f"--{flag} must be a file that ends in {', '.join(endings[:-1])} or {endings[-1]}; got {str(path)!r}."
        )


def save(figure: Any, path: str | os.PathLike[str], dpi: int = DPI) -> None:
    """Writes a figure in the format that the file's ending names, whole or not at all; call it inside `style`.

    Raises:
        RunError: If the file cannot be written.
    """
    path = home.expand(path)
    kind = path.suffix[1:].lower()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)  # Equal figures give equal files.
    content = io.BytesIO()
    figure.savefig(content, format=kind, dpi=dpi, metadata=metadata)
    atomic_files.write_bytes(path, content.getvalue())


def pixels(figure: Any) -> np.ndarray:
    """Returns a figure as uint8 [height, width, 3]; call it inside `style`."""
    figure.set_dpi(DPI)
    if engine := figure.get_layout_engine():  # What it finds is not final before axes have their fixed aspect.
        engine.execute(figure)
        for axes in figure.axes:
            axes.apply_aspect()
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def shortened(text: str, length: int) -> str:
    """Returns a text of at most `length` characters, with an ellipsis in the middle where some were left out."""
    text = printable(text, keep="")
    if len(text) <= length:
        return text
    return f"{text[: (length - 1) // 2]}\u2026{text[len(text) - length // 2 :]}"


def grid(images: np.ndarray, columns: int, border: int) -> np.ndarray:
    """Lays images uint8 [n, height, width, 3] out in rows of `columns` on white, `border` pixels apart."""
    rows = -(-len(images) // columns)
    height, width = images.shape[1] + border, images.shape[2] + border
    picture = np.full((rows * height + border, columns * width + border, 3), 255, "uint8")
    for index, image in enumerate(images):
        top, left = border + index // columns * height, border + index % columns * width
        picture[top : top + images.shape[1], left : left + images.shape[2]] = image
    return picture


def first_kernels(model: keras.Model) -> np.ndarray:
    """Returns the kernels of conv1, float32 [height, width, 3, n], those of tower a before those of tower b."""
    return np.concatenate(
        [
            weight.numpy()
            for weight in model.weights
            if weight.path.startswith("conv1") and weight.path.endswith("kernel")
        ],
        axis=-1,
    )


def kernels_image(kernels: np.ndarray, zoom: int = 3) -> np.ndarray:
    """Draws kernels as the paper's Figure 3: those of tower a (GPU 1) above, those of tower b (GPU 2) below.

    There are 16 in a row; each kernel is scaled to the whole range by itself, around grey.

    Args:
        kernels: float32 [height, width, 3, n], as from `first_kernels`.
        zoom: Pixels of the picture for each of a kernel.

    Returns:
        uint8 [height, width, 3], RGB.
    """
    kernels = np.moveaxis(kernels, -1, 0)
    largest = np.abs(kernels).max(axis=(1, 2, 3), keepdims=True)
    images = np.round(127.5 + 127.5 * kernels / np.maximum(largest, 1e-12)).astype("uint8")
    return grid(images.repeat(zoom, axis=1).repeat(zoom, axis=2), columns=16, border=2)
