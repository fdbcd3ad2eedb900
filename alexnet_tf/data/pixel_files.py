"""Data sets that come as arrays of pixels: CIFAR-10's batches, and MNIST's and others' idx files.

The files are read as their authors publish them, also inside `cifar-10-python.tar.gz` and `*.gz`. An image is handed on
as PNG, made where it is read, so that everything after that treats it as any other image.
"""

import dataclasses
import gzip
import io
import os
import pathlib
import pickle
import struct
import tarfile
import typing

import numpy as np

from alexnet_tf.data import datasets, plain_images
from alexnet_tf.data.options import ExampleOptions
from alexnet_tf.support import errors

_CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_CIFAR_FILES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}

_IDX_SPLITS = {"train": "train", "test": "t10k"}

# What NumPy arrays of CIFAR's pickles are made with; nothing else is called.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


@dataclasses.dataclass(frozen=True)
class PixelArrays(datasets.ImageSource):
    """Examples that are arrays of pixels in memory.

    Attributes:
        pixels: uint8 [n, height, width, 1 or 3], grey or RGB.
        labels: int32 [n].
        files: The files that they were read from.
    """

    pixels: np.ndarray
    labels: np.ndarray
    files: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pixels)

    def subset(self, indices: np.ndarray) -> "PixelArrays":
        """Returns some of the examples."""
        return PixelArrays(self.pixels[indices], self.labels[indices], self.files)

    def describe(self, index: int) -> str:
        """Returns the files and the number of example `index`, for messages."""
        return f"image {index} of {os.path.dirname(self.files[0])}"

    def read(self, index: int) -> tuple[bytes, int]:
        """Returns example `index` as PNG, and its label."""
        return plain_images.as_png(self.pixels[index]), int(self.labels[index])


def find(directory: pathlib.Path, options: ExampleOptions) -> datasets.DataSet | None:
    """Reads CIFAR-10's or MNIST's own files, if they are in a directory.

    Raises:
        DataError: If some are there and others missing, or they are damaged.
    """
    try:
        return _cifar(directory) or _mnist(directory)
    except Exception as error:  # Of damaged pickles, tar and gzip files, a dozen kinds; a missing one is a KeyError.
        raise errors.DataError(
            f"The files in {directory} are damaged or incomplete ({error}). Download them again: CIFAR-10 has "
            "data_batch_1 to 5 and test_batch; MNIST has images and labels of train and of t10k."
        ) from error


def _cifar(directory: pathlib.Path) -> datasets.DataSet | None:
    batches = _cifar_batches(directory)
    if batches is None:
        return None
    splits: dict[str, datasets.ImageSource] = {}
    for split, names in _CIFAR_FILES.items():
        pixels, labels = (np.concatenate(arrays) for arrays in zip(*(_batch(batches[name][1]) for name in names)))
        # Channels first, as planes of 32 x 32.
        images = np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        splits[split] = PixelArrays(images, labels.astype("int32"), tuple(batches[name][0] for name in names))
    return datasets.DataSet("cifar10", str(directory), _CIFAR_CLASSES, splits, validation="test")


def _cifar_batches(directory: pathlib.Path) -> dict[str, tuple[str, bytes]] | None:
    """Returns {batch: (its file, its bytes)} of a folder or of the archive, or None if neither is there."""
    for folder in (directory, directory / "cifar-10-batches-py"):
        if (folder / "data_batch_1").is_file():
            return {path.name: (str(path), path.read_bytes()) for path in folder.glob("*_batch*")}
    archive = directory / "cifar-10-python.tar.gz"
    if not archive.is_file():
        return None
    with tarfile.open(archive) as tar:
        files = {os.path.basename(member.name): tar.extractfile(member) for member in tar if "_batch" in member.name}
        return {name: (str(archive), file.read()) for name, file in files.items() if file}


class _ArrayUnpickler(pickle.Unpickler):
    """Reads NumPy arrays and plain values; anything else is an error and is never called."""

    def find_class(self, module: str, name: str) -> typing.Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of an array")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _batch(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    batch = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
    return np.asarray(batch[b"data"]), np.asarray(batch[b"labels"])


def _mnist(directory: pathlib.Path) -> datasets.DataSet | None:
    # A file is also called train-images.idx3-ubyte.gz.
    files = {
        entry.name.removesuffix(".gz").replace(".idx", "-idx"): entry.path
        for entry in list(os.scandir(directory))
        if entry.is_file()
    }
    if "train-images-idx3-ubyte" not in files:
        return None
    splits: dict[str, datasets.ImageSource] = {}
    count = 0
    for split, start in _IDX_SPLITS.items():
        paths = tuple(files[f"{start}-{what}-ubyte"] for what in ("images-idx3", "labels-idx1"))
        images, labels = map(_read_idx, paths)
        if len(images) != len(labels):
            raise ValueError(f"{paths[0]} has {len(images):,} images and {paths[1]} {len(labels):,} labels")
        splits[split] = PixelArrays(images[..., None], labels.astype("int32"), paths)
        count = max(count, int(labels.max()) + 1)
    return datasets.DataSet(directory.name, str(directory), tuple(map(str, range(count))), splits, validation="test")


def _read_idx(path: str) -> np.ndarray:
    """Reads an idx file of unsigned bytes: a magic number, the lengths as big-endian 32 bits, the values."""
    content = pathlib.Path(path).read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    dimensions = content[3]
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    return np.frombuffer(content, "uint8", offset=4 + 4 * dimensions).reshape(shape)
