"""What a data set is: its classes, its splits, and how encoded examples are read by index."""

import dataclasses
import functools
import hashlib
import os
import pathlib
import typing

import numpy as np
import tensorflow as tf
import tqdm

from alexnet_tf import errors
from alexnet_tf.data import tfrecords


def report_bad_image(problem: str, on_bad_image: str, count: int, total: int) -> None:
    """Does with an image that cannot be read as the flag says.

    Args:
        problem: The file's name and the reason.
        on_bad_image: "fail" or "skip".
        count: How many such images there were, with this one.
        total: Of how many.

    Raises:
        DataError: To "fail"; also when more than a tenth of all images, and more than ten, are bad.
    """
    if on_bad_image == "fail":
        raise errors.DataError(
            f"An image cannot be read: {problem}.\nRemove or replace it, or go on without such images: --on_bad_image=skip.")
    if count > max(10, total // 10):
        raise errors.DataError(
            f"{count:,} of {total:,} images cannot be read, the last one: {problem}. That is more than a tenth: "
            "is the disk still there?")
    tqdm.tqdm.write(f"Skipped: {problem}")


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """Examples that are files of their own.

    Attributes:
        paths: Files, in the order of their class folders and names.
        labels: int32 [len(paths)].
    """

    paths: tuple[str, ...]
    labels: np.ndarray
    is_square: typing.ClassVar[bool] = False  # Nothing is known of their sizes.

    def __len__(self) -> int:
        return len(self.paths)

    @functools.cached_property
    def _tensors(self):
        """Paths and labels; made once, for a million paths take 150 MB."""
        return tf.constant(np.array([os.fsencode(path) for path in self.paths], object)), tf.constant(self.labels)

    def subset(self, indices) -> "ImageFiles":
        """Returns some of the examples."""
        return ImageFiles(tuple(self.paths[index] for index in indices), self.labels[indices])

    def describe(self, index: int) -> str:
        """Returns the file of example `index`, for messages."""
        return self.paths[index]

    def image_bytes(self, index: int) -> bytes:
        """Returns the encoded image of example `index`.

        Raises:
            OSError: If the file cannot be read.
        """
        return pathlib.Path(self.paths[index]).read_bytes()

    def label(self, index: int) -> int:
        """Returns the label of example `index`."""
        return int(self.labels[index])

    def examples(self, blocks: tf.data.Dataset, function) -> tf.data.Dataset:
        """Reads examples and applies a function to each: as `records.Records.examples`."""
        paths, labels = self._tensors

        @tf.autograph.experimental.do_not_convert
        def read(index, *others):
            return function(tf.io.read_file(paths[index]), labels[index], *others)

        return blocks.unbatch().map(read, num_parallel_calls=2 * os.cpu_count())


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data directory, understood.

    Attributes:
        name: Short name, for the run's directory.
        directory: Where it is.
        class_names: In the order of the labels.
        splits: "train", the validation split and whatever else is there; each `ImageFiles` or `records.Records`.
        validation: Name of the split that errors are measured on.
        notes: Lines that a person should see before training.
        source: What it was prepared from, where it was prepared.
        resize: How the images were brought to 256 x 256, where they were prepared.
        statistics: What was measured on the training split, where it was prepared.
    """

    name: str
    directory: str
    class_names: tuple[str, ...]
    splits: dict
    validation: str
    notes: tuple[str, ...] = ()
    source: str | None = None
    resize: str | None = None
    statistics: tfrecords.Statistics | None = None

    def summary(self) -> str:
        """Returns what was found, for the screen."""
        lines = [f"Data: {self.name} in {self.directory}",
                 f"  {len(self.class_names)} classes: {abbreviate(self.class_names)}"]
        lines += [f"  {name}: {len(split):,} images" for name, split in self.splits.items()]
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])

    def fingerprint(self) -> str:
        """Returns a hash of the classes and of which files (names and sizes) are in which split, wherever they lie."""
        digest = hashlib.sha256("\n".join(self.class_names).encode())
        for name, split in sorted(self.splits.items()):
            digest.update(f"\n{name} {len(split)}\n".encode())
            if split.labels is not None:
                digest.update(split.labels.tobytes())
            files = split.paths if isinstance(split, ImageFiles) else split.files
            lines = (f"{os.path.basename(path)} {_size(path)}\n" for path in files)
            digest.update("".join(lines).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]


def _size(path) -> int:
    try:
        return os.path.getsize(path)
    except OSError:  # Told when it is read, as what else may be wrong with it.
        return -1


def abbreviate(names, limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
