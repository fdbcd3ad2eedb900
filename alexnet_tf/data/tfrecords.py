"""Examples inside larger files, reached by their offsets: TFDS's TFRecords, and those that `prepare` wrote.

Which data set is meant is decided in `datasets`; nothing is decoded here.
"""

import concurrent.futures
import dataclasses
import errno
import functools
import json
import os
import pathlib
import struct
import zipfile

import numpy as np
import tensorflow as tf

from alexnet_tf import errors

# What `prepare` adds to TFDS's files: what was done, for a person and for us; and where each image lies.
PREPARATION, INDEX = "preparation.json", "index.npz"

# Examples that are read at a time.
BLOCK_SIZE = 32


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
    """

    files: tuple[str, ...]
    file_of: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray | None = None
    parse: object = None
    name_at: object = None
    is_square: bool = False

    def __len__(self) -> int:
        return len(self.offsets)

    def subset(self, indices) -> "Records":
        """Returns some of the examples."""
        labels = None if self.labels is None else self.labels[indices]
        return dataclasses.replace(
            self, file_of=self.file_of[indices], offsets=self.offsets[indices], lengths=self.lengths[indices],
            labels=labels)

    def describe(self, index: int) -> str:
        """Returns the file and the place of example `index`, for messages."""
        path, offset = self.files[self.file_of[index]], int(self.offsets[index])
        return f"{path}, {self.name_at(path, offset) if self.name_at else f'the record at byte {offset}'}"

    def _read(self, indices) -> np.ndarray:
        """Returns the bytes of some examples, an array of objects.

        Raises:
            OSError: If a file cannot be read or is too short.
        """
        places = (array[indices].tolist() for array in (self.file_of, self.lengths, self.offsets))
        blocks = []
        for number, length, offset in zip(*places):
            descriptor = os.open(self.files[number], os.O_RDONLY)
            try:
                block = os.pread(descriptor, length, offset)
                if len(block) < length:
                    raise OSError(errno.EIO, "the file is cut", self.files[number])
                blocks.append(block)
            finally:
                os.close(descriptor)
        return np.array(blocks, object)

    def image_bytes(self, index: int) -> bytes:
        """Returns the encoded image of example `index`.

        Raises:
            OSError: If its file cannot be read.
        """
        return self._parsed(index)[0].numpy() if self.parse else self._read([index])[0]

    def label(self, index: int) -> int:
        """Returns the label of example `index`; reads the example if it is in there.

        Raises:
            OSError: If it cannot be read then.
        """
        return int(self._parsed(index)[1] if self.labels is None else self.labels[index])

    def _parsed(self, index):
        try:
            return self.parse(tf.constant(self._read([index])[0]))
        except (tf.errors.OpError, UnicodeDecodeError) as error:  # The latter if TensorFlow's message quotes the bytes.
            raise OSError(errno.EIO, "the record is damaged", self.files[self.file_of[index]]) from error

    def examples(self, blocks: tf.data.Dataset, function) -> tf.data.Dataset:
        """Reads examples and applies a function to each, in parallel.

        Args:
            blocks: (indices int64 [b], others [b, ...]...): which examples, and what goes with each.
            function: Graph function of (image_bytes string [], label int32 [], others...).

        Returns:
            What the function returns, in the same order.
        """
        labels = tf.constant(np.zeros(len(self), "int32") if self.labels is None else self.labels)

        # Converting functions that have no control flow costs more than tracing them.
        @tf.autograph.experimental.do_not_convert
        def read(indices, *others):
            records = tf.numpy_function(self._read, [indices], tf.string, stateful=False)
            return tf.ensure_shape(records, [None]), tf.gather(labels, indices), *others

        @tf.autograph.experimental.do_not_convert
        def parse_and_apply(record, _, *others):
            return function(*self.parse(record), *others)

        # One call into Python for a block of examples: one for each would cost a quarter of the speed.
        examples = blocks.map(read, num_parallel_calls=2).unbatch()
        return examples.map(parse_and_apply if self.parse else function, num_parallel_calls=2 * os.cpu_count())


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
        raise errors.DataError(
            f"{builder.name} is no image classification set: an Image and a ClassLabel feature are needed; "
            f"it has {dict(features)}.")
    return image_key, label_key


def read_split(builder, split: str, image_key: str, label_key: str) -> Records:
    """Finds the records of a split; reads their headers only."""
    info = builder.info
    if info.file_format.value != "tfrecord":
        raise errors.DataError(
            f"{builder.data_dir} is stored as {info.file_format.value}; TFRecord files are read. Convert it with "
            f"tfds.convert_format or prepare it again with file_format='tfrecord'.")
    files = tuple(str(path) for path in info.splits[split].filepaths)
    lengths_of_shards = info.splits[split].shard_lengths
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        spans = list(pool.map(_record_spans, files, lengths_of_shards))
    file_of = np.repeat(np.arange(len(files), dtype="int32"), [len(s) for s in spans])
    offsets, lengths = np.concatenate(spans).T

    parse = _TfdsParser(str(builder.data_dir), image_key, label_key)
    return Records(files, file_of, offsets, lengths, parse=parse)


@dataclasses.dataclass(frozen=True)
class _TfdsParser:
    """Graph function from a record of a TFDS data set to (image_bytes, label); other processes can be given it."""

    directory: str
    image_key: str
    label_key: str

    def __call__(self, record):
        import tensorflow_datasets as tfds

        example = _builder(self.directory).info.features.deserialize_example(
            record, decoders={self.image_key: tfds.decode.SkipDecoding()})
        return example[self.image_key], tf.cast(example[self.label_key], tf.int32)


@functools.cache
def _builder(directory):
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(directory)


def _record_spans(path: str, expected: int) -> np.ndarray:
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
            "Prepare the data set again.")
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
        (preparation.json, the splits, the statistics of the training split), or None if the directory holds no such set.

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
        with open(directory / INDEX, "rb") as file, np.load(file) as index:  # np.load alone leaves a damaged one open.
            arrays = dict(index)
        splits = {name: _prepared_split(directory, name, split, arrays) for name, split in preparation["splits"].items()}
        statistics = Statistics(
            mean_image=arrays["mean_image"],
            **{field: preparation["statistics"][field] for field in ("mean_pixel", "pca_stdevs", "pca_vectors")})
    except errors.DataError:
        raise
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise errors.DataError(
            f"{directory / PREPARATION} or {INDEX} beside it is damaged ({error}). Prepare the data set again, into an "
            "empty directory.") from error
    return preparation, splits, statistics


def _prepared_split(directory, name, split, arrays) -> Records:
    paths = tuple(str(directory / file) for file in split["files"])
    for path, size in zip(paths, split["sizes"], strict=True):
        found = os.path.getsize(path) if os.path.isfile(path) else None
        if found != size:
            state = "is missing" if found is None else f"has {found:,} bytes instead of {size:,}: it is cut or damaged"
            raise errors.DataError(f"{path} {state}. Prepare the data set again, into an empty directory.")
    fields = [arrays[f"{name}/{field}"] for field in ("file_of", "offsets", "lengths", "labels")]
    if {len(field) for field in fields} != {split["images"]}:
        raise ValueError(f"{name} has {split['images']} images and {len(fields[0])} places")
    return Records(paths, *fields, is_square=True)
