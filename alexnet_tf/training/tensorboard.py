"""What a run writes while it trains: pictures, and scalars for TensorBoard.

RUN/tensorboard has two logs, `train` and `validation`, with the same names, so that TensorBoard draws both curves in
one chart; its horizontal axis is the steps.
"""

import gc
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import atomic_files, plotting

PICTURES = "pictures"

# A confusion matrix with more classes than this is not legible.
MAX_CONFUSION_CLASSES = 50

# Points of the training curves in an epoch.
_POINTS = 20

# Garbage of the pictures is collected at most so often.
_COLLECT_SECONDS = 10

_KERNELS_START = "kernels_start.npy"


class Log:
    """Writes a run's pictures to RUN/pictures, and those and the scalars for TensorBoard to RUN/tensorboard.

    Args:
        run: The run's directory.
        class_names: In the order of the logits.
        steps_per_epoch: Steps in an epoch.
    """

    def __init__(self, run: RunDirectory, class_names: Sequence[str], steps_per_epoch: int = _POINTS):
        self.directory, self.class_names = run.path, list(class_names)
        self._steps = max(1, steps_per_epoch // _POINTS)
        self._losses: list[float] = []
        self._errors: list[float] = []
        self._collected = time.monotonic()
        self._writers = {
            name: tf.summary.create_file_writer(str(run.path / "tensorboard" / name))
            for name in ("train", "validation")
        }

    def start(self, model: keras.Model) -> None:
        """Keeps the kernels of conv1 before the first step, so that pictures can show how they change."""
        kernels = plotting.first_kernels(model)
        atomic_files.atomic_write(
            self.directory / PICTURES / _KERNELS_START, lambda file: np.save(file, kernels, allow_pickle=False)
        )

    def step(self, step: int, loss: float, error: float, learning_rate: Any) -> None:
        """Adds a step to the training curves; some steps make a point, their mean.

        Args:
            step: Steps since the start of the run.
            loss: Mean over the batch.
            error: Top-1 error of the batch, a fraction.
            learning_rate: The step's, a number or a variable.
        """
        self._losses.append(loss)
        self._errors.append(error)
        if len(self._losses) >= self._steps:
            self._scalars(
                "train",
                step,
                {
                    "loss": float(np.mean(self._losses)),
                    "top1_error": float(np.mean(self._errors)),
                    "learning_rate": float(np.asarray(learning_rate)),
                },
            )
            self._losses, self._errors = [], []

    def epoch(self, row: dict, waited: float, model: keras.Model, confusion: np.ndarray) -> None:
        """Writes an epoch's figures, the kernels of conv1 and the confusion matrix.

        Args:
            row: The epoch's row of history.csv.
            waited: Share of the time spent waiting for input, in [0, 1].
            model: The network.
            confusion: int [classes, classes], rows are labels, columns predictions.
        """
        step = row["step"]
        self._scalars("train", step, {"images_per_second": row["images_per_second"], "input_wait_share": waited})
        self._scalars(
            "validation",
            step,
            {"loss": row["val_loss"], "top1_error": row["val_top1_error"], "top5_error": row["val_top5_error"]},
        )
        self._picture("kernels", self._kernels(model, row["epoch"]), step)
        if len(self.class_names) <= MAX_CONFUSION_CLASSES:
            title = f"Validation after epoch {row['epoch']}: top-1 error {row['val_top1_error']:.4f}"
            self._picture("confusion", confusion_picture(confusion, self.class_names, title), step)
        for writer in self._writers.values():
            writer.flush()
        # A figure is cyclic garbage; Python's collector would let a hundred megabytes of them wait.
        if time.monotonic() - self._collected > _COLLECT_SECONDS:
            gc.collect()
            self._collected = time.monotonic()

    def input_pictures(self, images: tf.Tensor) -> None:
        """Writes the first images of a batch, RGB [batch, size, size, 3] in [0, 255], as the network sees them."""
        pixels = np.clip(np.round(np.asarray(images[:32], "float32")), 0, 255).astype("uint8")
        self._picture("input", plotting.grid(pixels, columns=8, border=2), 0)

    def _kernels(self, model: keras.Model, epoch: int) -> np.ndarray:
        """Returns the picture of conv1's kernels and, unless their start is gone, of their change."""
        try:
            start = np.load(self.directory / PICTURES / _KERNELS_START, allow_pickle=False)
        except (OSError, ValueError):
            start = None
        has_towers = sum(weight.path.startswith("conv1_") for weight in model.weights) > 2
        subtitle = "Kernels of conv1" + (": tower a above, tower b below" if has_towers else "")
        title = plotting.shortened(f"{self.directory.name}, after epoch {epoch}", 60)
        return kernels_page(plotting.first_kernels(model), start, title, subtitle)

    def _scalars(self, name: str, step: int, values: dict[str, float | None]) -> None:
        with self._writers[name].as_default(step=step):
            for tag, value in values.items():
                if value is not None:
                    tf.summary.scalar(tag, value)

    def _picture(self, name: str, picture: np.ndarray, step: int) -> None:
        png = tf.io.encode_png(picture).numpy()
        atomic_files.write_bytes(self.directory / PICTURES / f"{name}.png", png)
        with self._writers["train"].as_default(step=step):
            tf.summary.image(name, picture[None])


def kernels_page(kernels: np.ndarray, start: np.ndarray | None, title: str, subtitle: str) -> np.ndarray:
    """Draws kernels with a title and, where their start is known, how they have changed since.

    A short run hardly moves the kernels from their random start, so that they still look like noise; the change shows
    what was learned.

    Args:
        kernels: float32 [height, width, 3, n].
        start: The same before training, or None.
        title: For the top.
        subtitle: Stands above the kernels.

    Returns:
        uint8 [height, width, 3], RGB.
    """
    panels = {subtitle: kernels}
    if start is not None and start.shape == kernels.shape and (start != kernels).any():
        share = np.linalg.norm((kernels - start).astype("float64")) / np.linalg.norm(start)
        panels[f"Change since the start: {share:.1%} of their norm"] = kernels - start
    with plotting.style():
        height, width = plotting.kernels_image(kernels).shape[:2]
        figure = plotting.new_figure(6 * len(panels), 6 * height / width + 0.9)
        figure.suptitle(title)
        for axes, (name, panel) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
            axes.imshow(plotting.kernels_image(panel), interpolation="nearest")
            axes.set_title(name, fontweight="normal")
            axes.axis("off")
        return plotting.pixels(figure)


def confusion_picture(confusion: np.ndarray, class_names: Sequence[str], title: str = "") -> np.ndarray:
    """Draws a confusion matrix, int [classes, classes], with each class's error, as uint8 [height, width, 3]."""
    classes, names = len(class_names), [plotting.shortened(name, 24) for name in class_names]
    sizes = confusion.sum(axis=1)
    class_errors = 1 - np.diagonal(confusion) / np.maximum(sizes, 1)
    side = max(3.2, (0.62 if classes <= 20 else 0.3) * classes)
    with plotting.style():
        figure = plotting.new_figure(side + 2.6, side + 2.2)
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
        axes = figure.add_subplot()
        axes.imshow(confusion / np.maximum(sizes[:, None], 1), cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(classes), names, rotation=90 if classes > 6 or max(map(len, names)) > 10 else 0)
        axes.set_yticks(range(classes), names)
        axes.set_xlabel("predicted")
        axes.set_ylabel("label")
        axes.set_title(title, loc="left", pad=26)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        right: dict[str, Any] = {"ha": "left", "va": "center", "fontsize": 10 if classes <= 20 else 8}
        axes.text(classes - 0.4, -0.5 - 0.14 * classes / side, "error", color="#404040", **right)
        for label, error in enumerate(class_errors):
            axes.text(classes - 0.4, label, f"{error:.2f}" if sizes[label] else "\u2013", color="#404040", **right)
        if classes <= 20:
            for (label, prediction), count in np.ndenumerate(confusion):
                axes.text(
                    prediction,
                    label,
                    f"{count:,}",
                    ha="center",
                    va="center",
                    fontsize=11,
                    color="white" if count > sizes[label] / 2 else "#202020" if count else "#b0b0b0",
                )
        return plotting.pixels(figure)
