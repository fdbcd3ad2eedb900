"""What a run writes while it trains: pictures, and scalars for TensorBoard."""

import importlib.util
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import atomic_files, plotting, runs

PICTURES = "pictures"


class Log:
    """Writes a run's pictures to RUN/pictures, and those and the scalars for TensorBoard to RUN/tensorboard.

    Args:
        run: The run's directory.
        class_names: In the order of the logits.
    """

    def __init__(self, run: runs.RunDirectory, class_names: Sequence[str]):
        self.directory, self.class_names, self.writer = run.path, list(class_names), None
        if importlib.util.find_spec("tensorboard"):
            self.writer = tf.summary.create_file_writer(str(run.path / "tensorboard"))
        else:
            print("TensorBoard is not installed (pip install tensorboard): the course is in history.csv only.")

    def epoch(self, row: dict, waited: float, model: keras.Model, confusion: np.ndarray) -> None:
        """Writes an epoch's figures, the kernels of conv1 and the confusion matrix.

        Args:
            row: The epoch's row of history.csv.
            waited: Share of the time spent waiting for input, in [0, 1].
            model: The network.
            confusion: int [classes, classes], rows are labels, columns predictions.
        """
        if self.writer:
            with self.writer.as_default(step=row["epoch"]):
                for name, value in {**row, "input_wait_share": waited}.items():
                    if name not in ("epoch", "step") and value is not None:
                        tf.summary.scalar(name, value)
        self._picture("kernels", plotting.kernels_picture(model), row["epoch"])
        if len(self.class_names) <= plotting.MAX_CONFUSION_CLASSES:
            self._picture("confusion", plotting.confusion_picture(confusion, self.class_names), row["epoch"])
        if self.writer:
            self.writer.flush()

    def input_pictures(self, images: tf.Tensor) -> None:
        """Writes the first images of a batch, RGB [batch, size, size, 3] in [0, 255], as the network sees them."""
        pixels = np.clip(np.round(np.asarray(images[:32], "float32")), 0, 255).astype("uint8")
        self._picture("input", plotting.grid(pixels, columns=8, border=2), 0)

    def _picture(self, name, picture, step):
        png = tf.io.encode_png(picture).numpy()
        atomic_files.atomic_write(self.directory / PICTURES / f"{name}.png", lambda file: file.write(png))
        if self.writer:
            with self.writer.as_default(step=step):
                tf.summary.image(name, picture[None])
