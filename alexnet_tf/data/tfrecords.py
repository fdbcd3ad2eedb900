"""Examples inside larger files, reached by their offsets: TFRecords of TFDS, those that `prepare` wrote, tar files.

Which data set is meant is decided in `discovery`; nothing is decoded here. Where a checksum is known, it is verified
with every read.
"""

import dataclasses
import errno
import functools
import json
import os
import pathlib
import struct
from collections.abc import Callable

import google_crc32c
import numpy as np
import tensorflow as tf

from alexnet_tf.data import image_headers, reading
from alexnet_tf.network import architectures
from alexnet_tf.runs import checkpoints
from alexnet_tf.support import errors

# What `prepare` adds to TFDS's files: what was done, for a person and for us; and where each image lies.
PREPARATION, INDEX = "preparation.json", "index.npz"

# Examples that are read at a time.
BLOCK_SIZE = reading.BLOCK_SIZE


@dataclasses.dataclass(frozen=True)
class Records:
    """Examples inside files, each reached by its offset.

    Attributes:
        files: Files, TFRecords or tar files.
        file_of: int32 [n], which file an example is in.
        offsets, lengths: int64 [n], where its bytes are.
        labels: int32 [n], or None: they are inside the records.
        parse: Graph function from a record to (image_bytes, label), where the bytes are not the image itself.
        name_at: Function (file, offset) -> the image's name, where it has one.
        is_square: Whether each is a JPEG of 256 x 256 pixels.
        checksums: uint32 [n], CRC-32C of each example's bytes, where it is known.
        are_whole_records: Whether each example is the data of a TFRecord, whose checksum follows it.
    """

    files: tuple[str, ...]
    file_of: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray | None = None
    parse: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]] | None = None
    name_at: Callable[[str, int], str] | None = None
    is_square: bool = False
    checksums: np.ndarray | None = None
    are_whole_records: bool = False

    def __len__(self) -> int:
        return len(self.offsets)

    @functools.cached_property
    def _open_files(self) -> reading.OpenFiles:
        return reading.OpenFiles()

    def subset(self, indices: np.ndarray) -> "Records":
        """Returns some of the examples."""
        arrays = ("file_of", "offsets", "lengths", "labels", "checksums")
        chosen = {name: array[indices] for name in arrays if (array := getattr(self, name)) is not None}
        return dataclasses.replace(self, **chosen)

    def with_label_order(self, new_labels: np.ndarray) -> "Records":
        """Returns the same examples with label `new_labels[i]` in place of i."""
        if self.labels is None:
            return dataclasses.replace(self, parse=Relabelled(self.parse, tuple(map(int, new_labels))))
        labels = np.where(self.labels < 0, -1, np.asarray(new_labels, "int32")[self.labels]).astype("int32")
        return dataclasses.replace(self, labels=labels)

    def describe(self, index: int) -> str:
        """Returns the file and the place of example `index`, for messages."""
        path, offset = self.files[self.file_of[index]], int(self.offsets[index])
        return f"{path}, {self.name_at(path, offset) if self.name_at else f'the record at byte {offset}'}"

    def _read(self, index: int) -> bytes:
        """Returns the bytes of an example.

        Raises:
            OSError: If the file cannot be read, is too short, or has other bytes than were written.
        """
        path, length = self.files[self.file_of[index]], int(self.lengths[index])
        if self.are_whole_records:  # The checksum of the data follows it, masked.
            content = self._open_files.read(path, int(self.offsets[index]), length + 4)
            content, expected = content[:-4], int.from_bytes(content[-4:], "little")
            found = masked_checksum(content)
        else:
            content = self._open_files.read(path, int(self.offsets[index]), length)
            if self.checksums is None:
                return content
            expected, found = int(self.checksums[index]), google_crc32c.value(content)
        if found != expected:
            raise OSError(errno.EIO, "the record is damaged: its checksum differs", path)
        return content

    def image_bytes(self, index: int) -> bytes:
        """Returns the encoded image of example `index`.

        Raises:
            OSError: If its file cannot be read.
        """
        return self._parsed(index)[0].numpy() if self.parse else self._read(index)

    def label(self, index: int) -> int:
        """Returns the label of example `index`; reads the example if it is in there.

        Raises:
            OSError: If it cannot be read then.
        """
        return int(self._parsed(index)[1] if self.labels is None else self.labels[index])

    def _parsed(self, index: int) -> tuple[tf.Tensor, tf.Tensor]:
        assert self.parse is not None
        try:
            return self.parse(tf.constant(self._read(index)))
        except (tf.errors.OpError, UnicodeDecodeError) as error:  # The latter if TensorFlow's message quotes the bytes.
            raise OSError(errno.EIO, "the record is damaged", self.files[self.file_of[index]]) from error

    def examples(
        self, blocks: tf.data.Dataset, function: Callable[..., object], with_headers: bool = False
    ) -> tf.data.Dataset:
        """Reads examples and applies a function to each: see `datasets.ImageSource`."""
        labels, parse = self.labels, self.parse
        header_of = image_headers.ordinary_shape if with_headers and not parse else None

        @tf.autograph.experimental.do_not_convert
        def parse_and_apply(record: tf.Tensor, label: tf.Tensor, *others: tf.Tensor) -> object:
            assert parse is not None
            image_bytes, inner_label = parse(record)
            header = [tf.zeros([2], tf.int32)] if with_headers else []
            return function(image_bytes, inner_label if labels is None else label, *header, *others)

        known = np.zeros(len(self), "int32") if labels is None else labels
        return reading.read_examples(blocks, self._read, known, parse_and_apply if parse else function, header_of)


@dataclasses.dataclass(frozen=True)
class Relabelled:
    """Graph function from a record to (image_bytes, another label), for classes in another order."""

    parse: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]] | None
    new_labels: tuple[int, ...]

    def __call__(self, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:  # noqa: D102
        assert self.parse is not None
        image_bytes, label = self.parse(record)
        return image_bytes, tf.where(
            label < 0, -1, tf.gather(tf.constant(self.new_labels, tf.int32), tf.maximum(label, 0))
        )


def masked_checksum(content: bytes) -> int:
    """Returns the CRC-32C of bytes as TFRecord files store it."""
    checksum = google_crc32c.value(content)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def record_spans(path: str, expected: int) -> np.ndarray:
    """Returns (offset, length) int64 [n, 2] of the records' data in a TFRecord file, from their headers alone."""
    if not os.path.isfile(path):
        raise errors.DataError(f"{path} is missing. Prepare the data set again.")
    spans, position, size = [], 0, os.path.getsize(path)
    with open(path, "rb") as file:
        while position + 12 <= size:
            [length] = struct.unpack("<Q", os.pread(file.fileno(), 8, position))
            if position + 16 + length > size:
                break
            spans.append((position + 12, length))
            position += 16 + length
    if len(spans) != expected or position != size:
        raise errors.DataError(
            f"{path} is damaged: {expected} records were expected, {len(spans)} whole ones are there. "
            "Prepare the data set again."
        )
    return np.asarray(spans, "int64").reshape(-1, 2)


def hold_out(records: Records) -> tuple[Records, Records]:
    """Splits records into nine tenths and one tenth, by position."""
    positions = np.arange(len(records))
    return records.subset(positions[positions % 10 != 0]), records.subset(positions[positions % 10 == 0])


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


def read_prepared(directory: pathlib.Path) -> tuple[dict, dict[str, Records], Statistics] | None:
    """Reads what `prepare` wrote, without TFDS.

    Returns:
        (preparation.json, the splits, the statistics of the training split), or None if the directory holds no such
        set.

    Raises:
        DataError: If a file is missing or has another length than it had.
    """
    if not (directory / PREPARATION).is_file():
        return None
    try:
        preparation = json.loads((directory / PREPARATION).read_text(encoding="utf-8"))
        missing = {"name", "source", "resize", "classes", "validation", "splits", "statistics"} - set(preparation)
        if missing:
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
        arrays = checkpoints.read_arrays(directory / INDEX)
        splits = {
            name: _prepared_split(directory, name, split, arrays) for name, split in preparation["splits"].items()
        }
        statistics = _statistics(arrays["mean_image"], preparation["statistics"])
    except errors.DataError:
        raise
    except Exception as error:  # Of a damaged archive, zipfile and NumPy raise a dozen kinds.
        raise errors.DataError(
            f"{directory / PREPARATION} or {INDEX} beside it is damaged ({error}). Prepare the data set again, into an "
            "empty directory."
        ) from error
    return preparation, splits, statistics


def _statistics(mean_image: np.ndarray, measured: dict) -> Statistics:
    """Returns the statistics, once they are what they should be: the mean colour is that of the mean image."""
    size = architectures.SQUARE_SIZE
    shapes = {"mean_pixel": (3,), "pca_stdevs": (3,), "pca_vectors": (3, 3)}
    for name, shape in shapes.items():
        values = np.array(measured[name], "float64")
        if values.shape != shape or not np.isfinite(values).all():
            raise ValueError(f"{name} should be finite numbers of shape {shape}")
    if mean_image.shape != (size, size, 3) or not np.allclose(
        mean_image.mean(axis=(0, 1), dtype="float64"), measured["mean_pixel"], rtol=0, atol=0.01
    ):
        raise ValueError("the mean image and the mean colour differ")
    return Statistics(mean_image=mean_image, **{name: measured[name] for name in shapes})


def _prepared_split(directory: pathlib.Path, name: str, split: dict, arrays: dict[str, np.ndarray]) -> Records:
    if any(os.path.basename(file) != file for file in split["files"]):
        raise ValueError(f"the files of {name} should be names without a folder")
    paths = tuple(str(directory / file) for file in split["files"])
    for path, size in zip(paths, split["sizes"], strict=True):
        found = os.path.getsize(path) if os.path.isfile(path) else None
        if found != size:
            state = "is missing" if found is None else f"has {found:,} bytes instead of {size:,}: it is cut or damaged"
            raise errors.DataError(f"{path} {state}. Prepare the data set again, into an empty directory.")
    fields = {field: arrays[f"{name}/{field}"] for field in ("file_of", "offsets", "lengths", "labels")}
    images = len(fields["offsets"])
    checksums = arrays.get(f"{name}/checksums")  # Sets that older versions prepared have none.
    if {len(field) for field in fields.values()} != {split["images"]}:
        raise ValueError(f"{name} has {split['images']} images and {images} places")
    if images and not 0 <= fields["file_of"].min() <= fields["file_of"].max() < len(paths):
        raise ValueError(f"{name} has images in files that are not listed")
    if checksums is not None and len(checksums) != images:
        raise ValueError(f"{name} has {images} places and {len(checksums)} checksums")
    return Records(
        paths,
        fields["file_of"],
        fields["offsets"],
        fields["lengths"],
        fields["labels"],
        is_square=True,
        checksums=checksums,
    )
