"""What a run shows while it trains: TensorBoard, the first layer's kernels, the input and the confusion matrix."""

import importlib.util

import numpy as np
import tensorflow as tf

from alexnet_tf import workdir

PICTURES = "pictures"

# A confusion matrix with more classes than this is not legible.
MAX_CONFUSION_CLASSES = 50


class Log:
    """Writes a run's pictures to RUN/pictures, and those and the scalars for TensorBoard to RUN/tensorboard.

    Args:
        run: The run's directory.
        class_names: In the order of the logits.
    """

    def __init__(self, run: workdir.Workdir, class_names):
        self.directory, self.class_names, self.writer = run.path, list(class_names), None
        if importlib.util.find_spec("tensorboard"):
            self.writer = tf.summary.create_file_writer(str(run.path / "tensorboard"))
        else:
            print("TensorBoard is not installed (pip install tensorboard): the course is in history.csv only.")

    def epoch(self, row: dict, waited: float, model, confusion: np.ndarray) -> None:
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
        self._picture("kernels", kernels_picture(model), row["epoch"])
        if len(self.class_names) <= MAX_CONFUSION_CLASSES:
            self._picture("confusion", confusion_picture(confusion, self.class_names), row["epoch"])
        if self.writer:
            self.writer.flush()

    def input_pictures(self, images: tf.Tensor) -> None:
        """Writes the first images of a batch, RGB [batch, size, size, 3] in [0, 255], as the network sees them."""
        pixels = np.clip(np.round(np.asarray(images[:32], "float32")), 0, 255).astype("uint8")
        self._picture("input", grid(pixels, columns=8, border=2), 0)

    def _picture(self, name, picture, step):
        png = tf.io.encode_png(picture).numpy()
        workdir.write_whole(self.directory / PICTURES / f"{name}.png", lambda file: file.write(png))
        if self.writer:
            with self.writer.as_default(step=step):
                tf.summary.image(name, picture[None])


def grid(images: np.ndarray, columns: int, border: int) -> np.ndarray:
    """Lays images uint8 [n, height, width, 3] out in rows of `columns` on white, `border` pixels apart."""
    rows = -(-len(images) // columns)
    height, width = images.shape[1] + border, images.shape[2] + border
    picture = np.full((rows * height + border, columns * width + border, 3), 255, "uint8")
    for index, image in enumerate(images):
        top, left = border + index // columns * height, border + index % columns * width
        picture[top:top + images.shape[1], left:left + images.shape[2]] = image
    return picture


def kernels_picture(model, columns: int = 16, zoom: int = 3) -> np.ndarray:
    """Draws the kernels of conv1 as the paper's Figure 3: tower a (GPU 1) above, tower b (GPU 2) below.

    Each kernel is scaled to the whole range by itself, around grey.

    Returns:
        uint8 [height, width, 3], RGB.
    """
    kernels = [weight.numpy() for weight in model.weights
               if weight.path.startswith("conv1") and weight.path.endswith("kernel")]
    kernels = np.concatenate([np.moveaxis(kernel, -1, 0) for kernel in kernels])
    largest = np.abs(kernels).max(axis=(1, 2, 3), keepdims=True)
    images = np.round(127.5 + 127.5 * kernels / np.maximum(largest, 1e-12)).astype("uint8")
    return grid(images.repeat(zoom, axis=1).repeat(zoom, axis=2), columns, border=2)


def printable(text: str) -> str:
    """Returns a text with escapes for what is no Unicode, such as other bytes in a file's name: matplotlib raises at it."""
    return text.encode("utf-8", "backslashreplace").decode()


def confusion_picture(confusion: np.ndarray, class_names) -> np.ndarray:
    """Draws a confusion matrix, int [classes, classes], as uint8 [height, width, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    classes, class_names = len(class_names), [printable(name) for name in class_names]
    figure = Figure(figsize=(3 + 0.35 * classes, 2.5 + 0.35 * classes), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(classes), class_names, rotation=90, parse_math=False)
    axes.set_yticks(range(classes), class_names, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    if classes <= 20:
        for (label, prediction), count in np.ndenumerate(confusion):
            axes.text(prediction, label, count, ha="center", va="center", fontsize=8,
                      color="white" if count > confusion[label].sum() / 2 else "black")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
