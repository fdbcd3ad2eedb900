"""What a network says about image files: which files a person means, their crops in batches, and lines of results.

Files are read and decoded by several threads while the network computes; in memory are a few batches.
"""

import collections
import concurrent.futures
import csv
import dataclasses
import glob
import io
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, TextIO, TypeVar

import numpy as np
import tensorflow as tf

from alexnet_tf.data import input_pipeline, labelled_files, plain_images, reading
from alexnet_tf.evaluation import metrics
from alexnet_tf.evaluation.options import PredictOptions
from alexnet_tf.runs.directory import RunDirectory, load_model
from alexnet_tf.support import atomic_files, devices, errors, home, processors, settings, shell

# The paper's top five.
TOP = 5

Image = TypeVar("Image")

# Called with a file and what was read of it, by several threads.
OnRead = Callable[[str, bytes], object]


def expand(arguments: Sequence[str], lines: Iterable[str]) -> Iterator[str]:
    """Yields the files that arguments name; a file that does not exist is yielded too, to be reported when it is read.

    Args:
        arguments: A file; a folder, whose images at any depth are meant; a glob such as `photos/**/*.jpg`; or `-` for
            a path on each of `lines`.
        lines: Usually standard input, which is read as the paths are asked for.

    Raises:
        UserError: If a folder has no images, a glob matches nothing, or a folder cannot be read.
    """
    for argument in arguments:
        path = str(home.expand(argument)) if argument.startswith("~") else argument
        if argument == "-":
            yield from (line.rstrip("\r\n") for line in lines if line.strip())
        elif os.path.isdir(path):
            yield from _images_in(path)
        elif not os.path.lexists(path) and glob.has_magic(path):
            files = sorted(each for each in glob.iglob(path, recursive=True) if not os.path.isdir(each))
            if not files:
                raise errors.UserError(f"{argument} matches no file.")
            yield from files
        else:
            yield path


def _images_in(folder: str) -> list[str]:
    try:
        files = labelled_files.files_in(folder)[0]
    except OSError as error:
        raise errors.UserError(f"{folder} cannot be read: {error.strerror}.") from error
    if not files:
        raise errors.UserError(f"{folder} has no images. There: {labelled_files.listing(folder)}.")
    return files


def read(path: str | os.PathLike[str]) -> bytes:
    """Returns an encoded image as an ordinary JPEG or PNG.

    Raises:
        UnreadableImage: If the file cannot be read, or as `plain_images.plain`.
    """
    try:
        return plain_images.plain(reading.read_file(str(home.expand(path))))
    except OSError as error:
        raise plain_images.UnreadableImage(reading.reason(error)) from error


# Tracing takes a second: it is done once for equal arguments.
_crops = tf.function(input_pipeline.evaluation_crops, autograph=False)


def crops_of(
    images: Iterable[Image],
    image_size: int,
    resize: str,
    *,
    ten_crop: bool = False,
    ahead: int = 0,
    read: Callable[[Any], bytes] = read,
    on_read: Callable[[Image, bytes], object] = lambda image, image_bytes: None,
) -> Iterator[tuple[Image, tf.Tensor | str]]:
    """Yields (image, its crops uint8 [1 or 10, image_size, image_size, 3], or why it cannot be read), in order.

    Args:
        images: Files, or whatever `read` takes; they are asked for as they are needed.
        image_size: Side of the crops in pixels.
        resize: As in `preprocessing.square`.
        ten_crop: Ten crops of each image instead of the centre.
        ahead: How many images are prepared while the one before is used.
        read: Returns an image as an ordinary JPEG or PNG; called by several threads.
        on_read: Called with each image and its bytes, by several threads.
    """

    def load(image: Image) -> tf.Tensor | str:
        try:
            image_bytes = read(image)
            on_read(image, image_bytes)
            return _crops(tf.constant(image_bytes), image_size, resize, ten_crop)
        except plain_images.UnreadableImage as error:
            return str(error)
        except tf.errors.OpError:
            return plain_images.DAMAGED

    with concurrent.futures.ThreadPoolExecutor(2 * processors.available_cpus(), "decode") as pool:
        waiting: collections.deque = collections.deque()
        for image in images:
            waiting.append((image, pool.submit(load, image)))
            if len(waiting) > ahead:
                image, future = waiting.popleft()
                yield image, future.result()
        for image, future in waiting:
            yield image, future.result()


def compute(
    function: Callable[[tf.Tensor], tf.Tensor], images: Iterator[tuple[Image, tf.Tensor | str]], batch_size: int
) -> Iterator[tuple[Image, np.ndarray | str]]:
    """Yields (image, what a function gives for its crops, or why it cannot be read), in order.

    Args:
        function: Of uint8 [images, crops, size, size, 3], such as one of `metrics.make_predictor`.
        images: From `crops_of`.
        batch_size: Images at a time.
    """
    while batch := list(itertools.islice(images, batch_size)):
        readable = [crops for _, crops in batch if not isinstance(crops, str)]
        results = iter(function(tf.stack(readable)).numpy() if readable else ())
        yield from ((image, crops if isinstance(crops, str) else next(results)) for image, crops in batch)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a network says about an image.

    Attributes:
        file: The image's file.
        classes: (name, probability in [0, 1]) of the most probable classes, the best first.
        error: Why the image could not be read.
        label: The class that it has, where that is known.
    """

    file: str
    classes: Sequence[tuple[str, float]] = ()
    error: str = ""
    label: str = ""

    def as_text(self) -> str:
        """Returns the lines for the screen."""
        lines = [f"{self.file}: not read: {self.error}" if self.error else f"{self.file}:"]
        lines += [f"  {probability:7.4f}  {name}" for name, probability in self.classes]
        return "\n".join(shell.printable(line, keep="") for line in lines)

    def as_json(self) -> str:
        """Returns a line of JSON: the file, and its classes or the error."""
        classes = [{"name": name, "probability": probability} for name, probability in self.classes]
        return json.dumps({"file": self.file} | ({"error": self.error} if self.error else {"classes": classes}))


def predict(
    run: RunDirectory, paths: Iterable[str], options: PredictOptions, on_read: OnRead = lambda path, image_bytes: None
) -> Iterator[Prediction]:
    """Yields what a run's network says about image files, in their order.

    Args:
        run: The run.
        paths: Files; they are asked for as they are needed.
        options: How many classes, and how they are computed.
        on_read: As for `crops_of`.

    Raises:
        UserError: If there is no such run or checkpoint.
    """
    settings.check(options)
    model, run_config, _ = load_model(run, options.checkpoint, devices.chosen_precision(options.precision))
    class_names, batch_size = run.class_names(), max(1, options.batch_size // (10 if options.ten_crop else 1))
    images = crops_of(
        paths,
        run_config.image_size,
        run_config.train.recipe.resize,
        ten_crop=options.ten_crop,
        ahead=2 * batch_size,
        on_read=on_read,
    )
    for path, result in compute(metrics.make_predictor(model), images, batch_size):
        if isinstance(result, str):
            yield Prediction(path, error=result)
        else:
            [classes], [probabilities] = most_probable(result[None], options.top)
            yield Prediction(path, _named(classes, probabilities, class_names))


def most_probable(log_probabilities: np.ndarray, top: int = TOP) -> tuple[np.ndarray, np.ndarray]:
    """Returns the most probable classes of each image, best first; a tie goes to the class with the lower number.

    Args:
        log_probabilities: float32 [images, classes].
        top: How many classes; at most all.

    Returns:
        (classes int32 [images, top], probabilities float32 [images, top]).
    """
    classes = np.argsort(-log_probabilities, axis=-1, kind="stable")[:, :top]
    return classes.astype("int32"), np.exp(np.take_along_axis(log_probabilities, classes, axis=-1))


def _named(
    classes: Iterable[int], probabilities: Iterable[float], class_names: Sequence[str]
) -> list[tuple[str, float]]:
    return [(class_names[number], float(probability)) for number, probability in zip(classes, probabilities)]


def of_split(
    batches: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], image_names: Iterable[str], class_names: Sequence[str]
) -> Iterator[Prediction]:
    """Yields the predictions of a split.

    Args:
        batches: (labels, classes, probabilities) of each batch, the last two of `most_probable`: 60 bytes an image.
        image_names: Of the images, in their order.
        class_names: In the order of the logits.
    """
    examples = itertools.chain.from_iterable(zip(*batch) for batch in batches)
    for name, (label, classes, probabilities) in zip(image_names, examples):
        yield Prediction(name, _named(classes, probabilities, class_names), label=class_names[label])


def write_csv(text: TextIO, predictions: Iterable[Prediction], top: int = TOP) -> None:
    """Writes predictions as CSV: image, label, predicted, probability, class_2, probability_2, ..., error.

    Args:
        text: Open for writing.
        predictions: May be computed while they are written.
        top: How many classes have columns.
    """
    writer = csv.writer(text, lineterminator="\n")
    ranks = [cell for place in range(2, top + 1) for cell in (f"class_{place}", f"probability_{place}")]
    writer.writerow(["image", "label", "predicted", "probability", *ranks, "error"])
    for each in predictions:
        cells = [cell for name, probability in each.classes[:top] for cell in (name, f"{probability:.6f}")]
        writer.writerow([each.file, each.label, *cells, *[""] * (2 * top - len(cells)), each.error])


def write_csv_file(path: str | os.PathLike[str], predictions: Iterable[Prediction], top: int = TOP) -> None:
    """Writes a CSV file as `write_csv` does, whole or not at all.

    Raises:
        RunError: If it cannot be written.
    """

    def write(file: BinaryIO) -> None:
        # Names of files that are not UTF-8 keep their bytes.
        text = io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="")
        write_csv(text, predictions, top)
        text.detach()  # Otherwise the file would be closed with it.

    atomic_files.atomic_write(home.expand(path), write)
