"""Draws what a network sees in an image: the image, the evidence for a class, and the strongest feature maps."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from alexnet_tf.evaluation import grad_cam
from alexnet_tf.support import plotting

# Maps in a row, those of both towers together; classes below the image.
_MAPS, _CLASSES = 10, 5

# Feature maps and evidence are drawn in colours that are ordered in grey too, for every kind of colour vision.
_COLOUR_MAP = "viridis"


def draw(view: grad_cam.View, image: np.ndarray, class_names: Sequence[str], title: str, path: str) -> None:
    """Draws a page.

    Args:
        view: From `grad_cam.look`.
        image: The crop that the network saw, uint8 [size, size, 3].
        class_names: In the order of the logits.
        title: For the top, such as the file's name.
        path: The picture.
    """
    best = np.argsort(-view.probabilities, kind="stable")[:_CLASSES]
    name = class_names[view.class_index]
    with plotting.style():
        figure = plotting.new_figure(13, 7.4)
        figure.suptitle(plotting.shortened(title, 90), x=0.008, ha="left")
        left, right = figure.subfigures(1, 2, width_ratios=(1, 3.9))
        above, middle, below = left.subplots(3, 1, height_ratios=(3, 3, 1.9))
        _draw_image(above, image, "What the network sees")
        _draw_evidence(middle, image, view.evidence, f"Evidence for {plotting.shortened(name, 15)}")
        _draw_classes(below, view.probabilities, best, class_names)
        _draw_maps(right, view.maps)
        plotting.save(figure, path)


def _draw_image(axes: Any, image: np.ndarray, title: str) -> None:
    axes.imshow(image)
    axes.set_title(title, loc="left")
    axes.set_axis_off()


def _draw_evidence(axes: Any, image: np.ndarray, evidence: np.ndarray, title: str) -> None:
    """Lays the evidence over the image in grey; without any, the image is left as it is."""
    grey = image.mean(axis=-1)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255)
    extent = (-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5)
    if evidence.max() > 0:
        axes.imshow(evidence / evidence.max(), cmap=_COLOUR_MAP, alpha=0.6, extent=extent, interpolation="bilinear")
    else:
        title += ": none"
    axes.set_title(title, loc="left")
    axes.set_axis_off()


def _draw_classes(axes: Any, probabilities: np.ndarray, best: np.ndarray, class_names: Sequence[str]) -> None:
    # Names stand above their bars: beside them, long ones would make the images above smaller.
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(_CLASSES - 0.3, -0.5)  # As many places on every page.
    for place, index in enumerate(best):
        axes.text(0, place - 0.02, plotting.shortened(class_names[index], 24), va="bottom", fontsize=10)
        axes.text(1, place - 0.02, f"{probabilities[index]:.3f}", va="bottom", ha="right", fontsize=10)
        axes.barh(place + 0.16, 1, color="#e8e8e8", height=0.22)
        axes.barh(place + 0.16, probabilities[index], color=plotting.COLOURS[0], height=0.22)


def _draw_maps(figure: Any, maps: dict[str, list[np.ndarray]]) -> None:
    """Draws a row for each stage: the strongest maps of each tower, the strongest first."""
    axes = figure.subplots(len(maps), max(map(len, maps.values())), squeeze=False)
    for row, (stage, towers) in zip(axes, maps.items()):
        for each in row:
            each.set_axis_off()
        if len(towers) == 1 and len(row) > 1:  # A stage of one tower takes the whole row.
            grid = row[0].get_gridspec()
            place = row[0].get_subplotspec().rowspan.start
            for each in row:
                each.remove()
            row = [figure.add_subplot(grid[place, :])]
            row[0].set_axis_off()
        for tower, (each, tower_maps) in enumerate(zip(row, towers)):
            height, width, channels = tower_maps.shape
            name = stage + (f", tower {'ab'[tower]}" if len(towers) > 1 else "")
            each.imshow(
                _strip(tower_maps, _MAPS // len(towers)), cmap=_COLOUR_MAP, vmin=0, vmax=1, interpolation="nearest"
            )
            each.set_title(
                f"{name}: strongest of {channels} maps, {height} \u00d7 {width}",
                loc="left",
                fontweight="normal",
                fontsize=11,
            )


def _strip(maps: np.ndarray, count: int) -> np.ndarray:
    """Returns the strongest maps side by side, each scaled by its own largest value; gaps are NaN, drawn as nothing."""
    height, width, _ = maps.shape
    gap = max(1, round(width * 0.06))
    strip = np.full((height, count * (width + gap) - gap), np.nan, "float32")
    for place, channel in enumerate(grad_cam.strongest(maps, count)):
        start = place * (width + gap)
        strip[:, start : start + width] = maps[..., channel] / max(float(maps[..., channel].max()), 1e-12)
    return strip
