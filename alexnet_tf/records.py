"""Examples inside the TFRecord files of a TFDS data set, reached by their offsets.

Which data set is meant is decided in `datasets`; nothing is decoded here.
"""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import struct

import numpy as np
import tensorflow as tf

from alexnet_tf import config


class DataError(config.UserError):
    """The data directory does not hold what is needed; the message says what was looked for and what to type."""


@dataclasses.dataclass(frozen=True)
class Records:
    """Examples in the TFRecord files of a TFDS data set, reached by their offsets.

    Attributes:
        files: TFRecord files.
        file_of: int32 [n], which file an example is in.
        offsets, lengths: int64 [n], where its bytes are.
        parse: Graph function from a record to (image_bytes, label).
        labels: None: they are inside the records.
    """

    files: tuple[str, ...]
    file_of: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    parse: object
    labels: None = None

    def __len__(self) -> int:
        return len(self.offsets)

    def describe(self, index: int) -> str:
        """Returns the file and record of example `index`, for messages."""
        return f"{self.files[self.file_of[index]]}, the record at byte {self.offsets[index]}"

    def read(self, index: int) -> bytes:
        """Returns the bytes of record `index`."""
        with open(self.files[self.file_of[index]], "rb") as file:
            return os.pread(file.fileno(), int(self.lengths[index]), int(self.offsets[index]))

    def make_reader(self):
        """Returns the graph function: index int64 [] -> (image_bytes string [], label int32 [])."""
        def read(index):
            record = tf.numpy_function(self.read, [index], tf.string, stateful=False)
            return self.parse(tf.ensure_shape(record, []))
        return read


def prepared(directory: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns {name[/config]: newest version's folder} of the TFDS data sets at most three levels down."""
    found = {}
    # By the version's form, so that in a folder of a million images none is looked into.
    version = "[0-9]*.[0-9]*.[0-9]*/dataset_info.json"
    for pattern in ("dataset_info.json", version, f"*/{version}", f"*/*/{version}"):
        for path in directory.glob(pattern):
            try:
                info = json.loads(path.read_text(encoding="utf-8"))
                name = "/".join(filter(None, [info["name"], info.get("configName")]))
                number = [int(part) for part in info.get("version", "0").split(".")]
            except (OSError, ValueError, KeyError, AttributeError, TypeError):
                continue  # Another tool's file of that name.
            found[name] = max(found.get(name, ([], None)), (number, path.parent))
    return {name: path for name, (_, path) in sorted(found.items())}


def supervised_keys(builder) -> tuple[str, str]:
    """Returns the names of a data set's image and label."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    labels = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    supervised = builder.info.supervised_keys or ()
    image_key = next((key for key in images if key in supervised), next(iter(images), None))
    label_key = next((key for key in labels if key in supervised), next(iter(labels), None))
    if image_key is None or label_key is None:
        raise DataError(
            f"{builder.name} is no image classification set: an Image and a ClassLabel feature are needed; "
            f"it has {dict(features)}.")
    return image_key, label_key


def read_split(builder, split: str, image_key: str, label_key: str) -> Records:
    """Finds the records of a split; reads their headers only."""
    import tensorflow_datasets as tfds

    info = builder.info
    if info.file_format.value != "tfrecord":
        raise DataError(
            f"{builder.data_dir} is stored as {info.file_format.value}; TFRecord files are read. Convert it with "
            f"tfds.convert_format or prepare it again with file_format='tfrecord'.")
    files = tuple(str(path) for path in info.splits[split].filepaths)
    lengths_of_shards = info.splits[split].shard_lengths
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        spans = list(pool.map(_record_spans, files, lengths_of_shards))
    file_of = np.repeat(np.arange(len(files), dtype="int32"), [len(s) for s in spans])
    offsets, lengths = np.concatenate(spans).T

    def parse(record):
        example = info.features.deserialize_example(
            record, decoders={image_key: tfds.decode.SkipDecoding()})
        return example[image_key], tf.cast(example[label_key], tf.int32)

    return Records(files, file_of, offsets, lengths, parse)


def _record_spans(path: str, expected: int) -> np.ndarray:
    """Returns (offset, length) int64 [n, 2] of the records' data in a TFRecord file, from their headers alone."""
    if not os.path.isfile(path):
        raise DataError(f"{path} is missing. Prepare the data set again.")
    spans, position, size = [], 0, os.path.getsize(path)
    with open(path, "rb") as file:
        while position + 12 <= size:
            [length] = struct.unpack("<Q", os.pread(file.fileno(), 8, position))
            if position + 16 + length > size:
                break
            spans.append((position + 12, length))
            position += 16 + length
    if len(spans) != expected or position != size:
        raise DataError(
            f"{path} is damaged: {expected} records were expected, {len(spans)} whole ones are there. "
            "Prepare the data set again.")
    return np.asarray(spans, "int64").reshape(-1, 2)


def hold_out(records: Records) -> tuple[Records, Records]:
    """Splits records into nine tenths and one tenth, by position."""
    held_out = np.arange(len(records)) % 10 == 0

    def part(mask):
        return dataclasses.replace(
            records, file_of=records.file_of[mask], offsets=records.offsets[mask], lengths=records.lengths[mask])

    return part(~held_out), part(held_out)
