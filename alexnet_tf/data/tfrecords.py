"""Examples inside larger files, reached by their offsets: TFRecords of TFDS, those that `prepare` wrote, tar files.

Which data set is meant is decided in `discovery`; nothing is decoded here. The checksum of a TFRecord is verified with
every read.
"""

import dataclasses
import errno
import functools
import json
import os
import pathlib
import struct
import typing
from collections.abc import Callable, Sequence

import google_crc32c
import numpy as np
import tensorflow as tf

from alexnet_tf.data import datasets, reading
from alexnet_tf.network import architectures
from alexnet_tf.runs import checkpoints
from alexnet_tf.support import errors

# What `prepare` adds to TFDS's files: what was done, for a person and for us; and where each image lies.
PREPARATION, INDEX = "preparation.json", "index.npz"

# What the index has of each image.
COLUMNS = ("file_of", "offsets", "lengths", "labels")

# What stands before the data of a TFRecord: its length, and that number's checksum.
HEADER_BYTES = 12


@dataclasses.dataclass(frozen=True)
class Records(datasets.ImageSource):
    """Examples inside files, each reached by its offset.

    Attributes:
        files: Files, TFRecords or tar files.
        file_of: int32 [n], which file an example is in.
        offsets, lengths: int64 [n], where its bytes are: those of a TFRecord's data where there are `keys`, otherwise
            those of the image.
        labels: int32 [n], or None: they are inside the records.
        keys: Names of the image and the label in a TFRecord's tf.train.Example.
        new_labels: Label `new_labels[i]` is given in place of i, which is inside the records; None leaves it.
        name_at: Function (file, offset) -> the image's name, where it has one.
        is_square: Whether each is a JPEG of 256 x 256 pixels.
    """

    files: tuple[str, ...]
    file_of: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray | None = None
    keys: tuple[str, str] | None = None
    new_labels: np.ndarray | None = None
    name_at: Callable[[str, int], str] | None = None
    is_square: bool = False

    def __len__(self) -> int:
        return len(self.offsets)

    @functools.cached_property
    def _open_files(self) -> reading.OpenFiles:
        return reading.OpenFiles()

    def subset(self, indices: np.ndarray) -> "Records":
        """Returns some of the examples."""
        chosen = {name: array[indices] for name in COLUMNS if (array := getattr(self, name)) is not None}
        return dataclasses.replace(self, **chosen)

    def with_label_order(self, new_labels: np.ndarray) -> datasets.ImageSource:
        """Returns the same examples with label `new_labels[i]` in place of i."""
        if self.labels is None:
            return dataclasses.replace(self, new_labels=new_labels)
        return super().with_label_order(new_labels)

    def describe(self, index: int) -> str:
        """Returns the file and the place of example `index`, for messages."""
        path, offset = self.files[self.file_of[index]], int(self.offsets[index])
        return f"{path}, {self.name_at(path, offset) if self.name_at else f'the record at byte {offset}'}"

    def read(self, index: int) -> tuple[bytes, typing.Any]:
        """Returns the image and the label of example `index`.

        Raises:
            OSError: If the file cannot be read, is too short, or has other bytes than were written.
        """
        path, offset, length = self.files[self.file_of[index]], int(self.offsets[index]), int(self.lengths[index])
        if self.keys is None:
            return self._open_files.read(path, offset, length), self.label(index)
        content = self._open_files.read(path, offset, length + 4)
        damaged = OSError(errno.EIO, "the record is damaged: its checksum differs", path)
        # The checksum of the data follows it.
        if masked_checksum(content[:-4]) != int.from_bytes(content[-4:], "little"):
            raise damaged
        try:
            image_bytes, label = _parse(content[:-4], *self.keys)
        except Exception as error:
            raise damaged from error
        if self.labels is not None:
            label = int(self.labels[index])
        elif self.new_labels is not None and label >= 0:
            label = int(self.new_labels[label])
        return image_bytes, label


def _parse(content: bytes, image_key: str, label_key: str) -> tuple[bytes, typing.Any]:
    """Returns (encoded image, label: an integer or a text) of the bytes of a tf.train.Example.

    Raises:
        Exception: Whatever protobuf does, or a ValueError, if they are not there.
    """
    features = tf.train.Example.FromString(content).features.feature
    [image_bytes] = features[image_key].bytes_list.value
    [label] = features[label_key].bytes_list.value or features[label_key].int64_list.value
    return image_bytes, label.decode("utf-8", "replace") if isinstance(label, bytes) else label


def masked_checksum(content: bytes) -> int:
    """Returns the CRC-32C of bytes as TFRecord files store it."""
    checksum = google_crc32c.value(content)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def framed(content: bytes) -> bytes:
    """Returns a record as it stands in a TFRecord file: length, its checksum, data, their checksum."""
    length = struct.pack("<Q", len(content))
    return b"".join(each + masked_checksum(each).to_bytes(4, "little") for each in (length, content))


def _record_spans(path: str, expected: int) -> np.ndarray:
    """Returns (offset, length) int64 [n, 2] of the records' data in a TFRecord file, from their headers alone."""
    spans, position, size = [], 0, os.path.getsize(path)
    with open(path, "rb") as file:
        while position + HEADER_BYTES <= size:
            [length] = struct.unpack("<Q", os.pread(file.fileno(), 8, position))
            if position + 16 + length > size:
                break
            spans.append((position + HEADER_BYTES, length))
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


def located(files: Sequence[str], counts: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns `file_of`, `offsets` and `lengths` of the records in TFRecord files, from their headers alone.

    Raises:
        DataError: If a file does not hold as many whole records as `counts` says.
        OSError: If it cannot be read.
    """
    spans = np.concatenate(list(reading.thread_pool().map(_record_spans, files, counts)))
    return np.repeat(np.arange(len(files), dtype="int32"), counts), spans[:, 0], spans[:, 1]


def read_prepared(directory: pathlib.Path) -> datasets.DataSet | None:
    """Reads what `prepare` wrote, without TFDS; None if the directory holds no such set.

    Raises:
        DataError: If something is missing, or a file has another length than it had.
    """
    if not (directory / PREPARATION).is_file():
        return None
    try:
        preparation = json.loads((directory / PREPARATION).read_text(encoding="utf-8"))
        arrays = checkpoints.read_arrays(directory / INDEX)
        note = (
            f"Prepared at {architectures.SQUARE_SIZE} pixels (--resize={preparation['resize']}) from "
            f"{preparation['source']}; its own mean and colours are used."
        )
        return datasets.DataSet(
            directory=str(directory),
            class_names=tuple(preparation["classes"]),
            splits={
                name: _prepared_split(directory, name, split, arrays) for name, split in preparation["splits"].items()
            },
            notes=(note, *preparation["notes"]),
            statistics=datasets.Statistics(mean_image=arrays["mean_image"], **preparation["statistics"]),
            **{key: preparation[key] for key in ("name", "validation", "source", "resize")},
        )
    except Exception as error:  # Of a damaged archive, zipfile and NumPy raise a dozen kinds.
        raise errors.DataError(
            f"The records in {directory} are damaged or incomplete ({error}). Prepare the data set again, into an "
            "empty directory."
        ) from error


def _prepared_split(directory: pathlib.Path, name: str, split: dict, arrays: dict[str, np.ndarray]) -> Records:
    paths = tuple(str(directory / file) for file in split["files"])
    for path, size in zip(paths, split["sizes"]):
        if os.path.getsize(path) != size:
            raise ValueError(f"{path} does not have {size:,} bytes")
    columns: dict[str, typing.Any] = {field: arrays[f"{name}/{field}"] for field in COLUMNS}
    return Records(paths, **columns, keys=("image", "label"), is_square=True)
