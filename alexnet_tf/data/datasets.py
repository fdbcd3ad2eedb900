"""What a data set is: its classes, its splits, and how encoded examples are read by index."""

import dataclasses
import functools
import hashlib
import os
import typing
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
import tqdm

from alexnet_tf.data import first_look, reading
from alexnet_tf.support import errors, shell

# Files whose sizes are looked up in one go by a thread.
_FILES_A_TASK = 2000


class ImageSource:
    """Encoded examples by index: `ImageFiles`, `tfrecords.Records` and `pixel_files.PixelArrays`.

    Attributes:
        labels: int32 [n], -1 for an example without a label; None where they are inside the examples.
        is_square: Whether each image is known to be a JPEG of 256 x 256 pixels.
        files: The files that hold the examples.
    """

    labels: np.ndarray | None
    is_square: bool = False
    files: tuple[str, ...]

    def __len__(self) -> int:
        raise NotImplementedError

    @functools.cached_property
    def sizes(self) -> list[int]:
        """The files' sizes; many are looked up at a time, for on a network file system each takes milliseconds."""
        tasks = [self.files[start : start + _FILES_A_TASK] for start in range(0, len(self.files), _FILES_A_TASK)]
        return [size for sizes in reading.thread_pool().map(_sizes_of, tasks) for size in sizes]

    def subset(self, indices: np.ndarray) -> "ImageSource":
        """Returns some of the examples."""
        raise NotImplementedError

    def with_label_order(self, new_labels: np.ndarray) -> "ImageSource":
        """Returns the same examples with label `new_labels[i]` in place of i; -1, no label, stays."""
        source: typing.Any = self
        labels = np.where(source.labels < 0, -1, new_labels[source.labels]).astype("int32")
        return dataclasses.replace(source, labels=labels)

    def describe(self, index: int) -> str:
        """Returns the file of an example, and its place in there, for messages."""
        raise NotImplementedError

    def read(self, index: int) -> tuple[bytes, typing.Any]:
        """Returns the encoded image, of any format that `plain_images` knows, and the label of an example.

        Raises:
            OSError: If it cannot be read.
        """
        raise NotImplementedError

    def image_bytes(self, index: int) -> bytes:
        """Returns the encoded image of an example, as `read`."""
        return self.read(index)[0]

    def examples(self, blocks: tf.data.Dataset, function: Callable[..., object]) -> tf.data.Dataset:
        """Reads examples and applies a function to each: see `reading.read_examples`."""
        return reading.read_examples(self, blocks, function)

    def label(self, index: int) -> typing.Any:
        """Returns the label of an example; raises OSError as `read`, if it is inside a record."""
        return self.read(index)[1] if self.labels is None else int(self.labels[index])


def report_bad_image(problem: str, on_bad_image: str | None, count: int, total: int) -> None:
    """Reports an image that cannot be read: as an error, or as skipped, as the flag --on_bad_image has it.

    Args:
        problem: The file's name and the reason.
        on_bad_image: "fail" or "skip"; None fails too, where there is no such flag.
        count: How many such images there were, with this one.
        total: Of how many.

    Raises:
        DataError: Unless it is "skip"; also when more than a tenth of all images, and more than ten, are bad.
    """
    problem = shell.printable(problem, keep="")
    if on_bad_image != "skip":
        advice = ", or go on without such images: --on_bad_image=skip." if on_bad_image else "."
        raise errors.DataError(f"An image cannot be read: {problem}.\nRemove or replace it{advice}")
    if count > max(10, total // 10):
        raise errors.DataError(
            f"{count:,} of {total:,} images cannot be read, the last one: {problem}. That is more than a tenth: "
            "is the disk still there?"
        )
    tqdm.tqdm.write(f"Skipped: {problem}")


@dataclasses.dataclass(frozen=True)
class ImageFiles(ImageSource):
    """Examples that are files of their own.

    Attributes:
        paths: Files, in the order of their class folders and names.
        labels: int32 [len(paths)].
    """

    paths: tuple[str, ...]
    labels: np.ndarray

    @property
    def files(self) -> tuple[str, ...]:  # type: ignore[override]
        """The files that hold the examples."""
        return self.paths

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, indices: np.ndarray) -> "ImageFiles":
        """Returns some of the examples."""
        return ImageFiles(tuple(self.paths[index] for index in indices), self.labels[indices])

    def describe(self, index: int) -> str:
        """Returns the file of example `index`, for messages."""
        return self.paths[index]

    def read(self, index: int) -> tuple[bytes, int]:
        """Returns the encoded image and the label of example `index`; raises OSError as `reading.read_file`."""
        return reading.read_file(self.paths[index]), int(self.labels[index])


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What `prepare` measured on the pixels of the training split, all in grey levels of RGB.

    Attributes:
        mean_pixel: Mean colour.
        mean_image: float32 [256, 256, 3], the mean at each place.
        pca_stdevs: Standard deviations along the components of the colours, ascending.
        pca_vectors: Components as columns, rows R, G, B.
    """

    mean_pixel: tuple[float, ...]
    mean_image: np.ndarray
    pca_stdevs: tuple[float, ...]
    pca_vectors: tuple[tuple[float, ...], ...]


@dataclasses.dataclass(frozen=True)
class DataSet:
    """The data set in a directory.

    Attributes:
        name: Short name, for the run's directory.
        directory: Where it is.
        class_names: In the order of the labels.
        splits: "train", the validation split and whatever else is there.
        validation: Name of the split that errors are measured on.
        notes: Lines that a person should see before training.
        source: What it was prepared from, where it was prepared.
        resize: How the images were brought to 256 x 256, where they were prepared.
        statistics: What was measured on the training split, where it was prepared.
        options: What else says which examples are meant: fields of `options.ExampleOptions`.
    """

    name: str
    directory: str
    class_names: tuple[str, ...]
    splits: Mapping[str, ImageSource]
    validation: str
    notes: tuple[str, ...] = ()
    source: str | None = None
    resize: str | None = None
    statistics: Statistics | None = None
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def summary(self) -> str:
        """Returns what was found, and what a look at a few images says, for the screen."""
        lines = [
            f"Data: {self.name} in {self.directory}",
            f"  {len(self.class_names)} classes: {abbreviate(self.class_names)}",
        ]
        for name, split in self.splits.items():
            lines.append(f"  {name}: {len(split):,} images{self._class_sizes(split)}")
        lines += [f"  {note}" for note in (*self.notes, *first_look.notes(self), *_number_note(self.class_names))]
        return shell.printable("\n".join(lines))

    def _class_sizes(self, split: ImageSource) -> str:
        """Returns the sizes of the smallest and the largest class, and which have no image, where they differ."""
        if split.labels is None:
            return ""
        counts = np.bincount(split.labels[split.labels >= 0], minlength=len(self.class_names))
        if counts.min() == counts.max():
            return ""
        missing = [name for name, count in zip(self.class_names, counts) if not count]
        smallest, largest = int(np.where(counts, counts, counts.max()).argmin()), int(counts.argmax())
        low, high = self.class_names[smallest], self.class_names[largest]
        text = f"; from {counts[smallest]:,} ({low}) to {counts[largest]:,} ({high}) a class"
        return text + (f"; none of {abbreviate(missing)}" if missing else "")

    def fingerprint(self) -> str:
        """Returns a hash of the classes and of which files (names and sizes) are in which split, wherever they lie."""
        digest = hashlib.sha256("\n".join(self.class_names).encode("utf-8", "surrogateescape"))
        for name, split in sorted(self.splits.items()):
            digest.update(f"\n{name} {len(split)}\n".encode())
            if split.labels is not None:
                digest.update(split.labels.tobytes())
            lines = (f"{os.path.basename(path)} {size}\n" for path, size in zip(split.files, split.sizes))
            digest.update("".join(lines).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]


def _number_note(class_names: Sequence[str]) -> list[str]:
    """Returns a note where classes are numbers that are not their labels."""
    if all(name.isascii() and name.isdecimal() for name in class_names):
        for label, name in enumerate(class_names):
            if int(name) != label:
                return [f"The classes are numbers, but not the labels themselves: label {label} is class {name!r}."]
    return []


def _sizes_of(files: Sequence[str]) -> list[int]:
    return [_size(path) for path in files]


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:  # Reported when it is read, like anything else that may be wrong with it.
        return -1


def abbreviate(names: Sequence[str], limit: int = 8) -> str:
    """Returns names joined by commas, of many only the first."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
