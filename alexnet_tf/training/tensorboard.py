"""What a run writes while it trains: pictures, and scalars for TensorBoard.

RUN/tensorboard has two logs, `train` and `validation`, with the same names, so that TensorBoard draws both curves in
one chart; its horizontal axis is the steps.
"""

import gc
import importlib.util
import logging
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import atomic_files, plotting, shell

PICTURES = "pictures"

# Points of the training curves in an epoch.
_POINTS = 20

# Garbage of the pictures is collected at most so often.
_COLLECT_SECONDS = 10

_KERNELS_START = "kernels_start.npy"

_LOGGER = logging.getLogger(__name__)


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
        self._writers = {}
        if importlib.util.find_spec("tensorboard"):
            self._writers = {
                name: tf.summary.create_file_writer(str(run.path / "tensorboard" / name))
                for name in ("train", "validation")
            }
        else:
            _LOGGER.info(
                "TensorBoard is not installed (pip install tensorboard): the learning curves are in "
                f"history.csv only. To draw them: {shell.command_line('plot', run.path)}"
            )

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
        if len(self.class_names) <= plotting.MAX_CONFUSION_CLASSES:
            title = f"Validation after epoch {row['epoch']}: top-1 error {row['val_top1_error']:.4f}"
            self._picture("confusion", plotting.confusion_picture(confusion, self.class_names, title), step)
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
        return plotting.kernels_page(plotting.first_kernels(model), start, title, subtitle)

    def _scalars(self, name: str, step: int, values: dict[str, float | None]) -> None:
        if name in self._writers:
            with self._writers[name].as_default(step=step):
                for tag, value in values.items():
                    if value is not None:
                        tf.summary.scalar(tag, value)

    def _picture(self, name: str, picture: np.ndarray, step: int) -> None:
        png = tf.io.encode_png(picture).numpy()
        atomic_files.write_bytes(self.directory / PICTURES / f"{name}.png", png)
        if self._writers:
            with self._writers["train"].as_default(step=step):
                tf.summary.image(name, picture[None])
