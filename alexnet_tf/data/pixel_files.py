"""Data sets that come as arrays of pixels: CIFAR-10's batches (Python's and binary), MNIST's and EMNIST's idx files.

The files are read as their authors publish them, also inside `cifar-10-python.tar.gz` and `*.gz`. An image is handed on
as PNG, made where it is read, so that everything after that treats it as any other image.
"""

import dataclasses
import gzip
import io
import os
import pathlib
import pickle
import re
import struct
import tarfile
import typing
import zlib
from collections.abc import Callable

import numpy as np

from alexnet_tf.data import class_folders, datasets, plain_images
from alexnet_tf.support import errors

_CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_CIFAR_FILES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}

_CIFAR_ARCHIVES = ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")

_CIFAR_FOLDERS = (".", "cifar-10-batches-py", "cifar-10-batches-bin")

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

    def with_label_order(self, new_labels: np.ndarray) -> "PixelArrays":
        """Returns the same examples with label `new_labels[i]` in place of i."""
        return dataclasses.replace(self, labels=datasets.relabel(self.labels, new_labels))

    def describe(self, index: int) -> str:
        """Returns the files and the number of example `index`, for messages."""
        return f"image {index} of {os.path.dirname(self.files[0])}"

    def read(self, index: int) -> tuple[bytes, int]:
        """Returns example `index` as PNG, and its label."""
        return plain_images.as_png(self.pixels[index]), int(self.labels[index])


def find(directory: pathlib.Path) -> datasets.DataSet | None:
    """Reads CIFAR-10's, MNIST's or EMNIST's own files, if they are in a directory.

    Raises:
        DataError: If some are there and others missing, or they are damaged.
    """
    for read in (_cifar, _mnist, _emnist):
        try:
            data = read(directory)
        except (
            OSError,
            EOFError,
            ValueError,
            KeyError,
            TypeError,
            IndexError,
            AttributeError,
            struct.error,
            zlib.error,
            pickle.UnpicklingError,
            tarfile.TarError,
        ) as error:
            if isinstance(error, errors.UserError):
                raise
            raise errors.DataError(f"The files in {directory} are damaged ({error}). Download them again.") from error
        if data is not None:
            return data
    return None


def _data_set(
    name: str, directory: pathlib.Path, class_names: tuple[str, ...], splits: dict[str, PixelArrays]
) -> datasets.DataSet:
    return datasets.DataSet(name, str(directory), class_names, splits, "test", (class_folders.CHOSEN_ON_TEST,))


def _cifar(directory: pathlib.Path) -> datasets.DataSet | None:
    found = _cifar_contents(directory)
    if found is None:
        return None
    splits = {}
    for split, names in _CIFAR_FILES.items():
        batches, files = [], []
        for name in names:
            path, content, is_binary = found(name)
            batches.append(_binary_batch(content) if is_binary else _python_batch(content))
            files.append(path)
        pixels, labels = (np.concatenate(arrays) for arrays in zip(*batches))
        # Channels first, as planes of 32 x 32.
        images = np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        if labels.min() < 0 or labels.max() > 9:
            raise ValueError("labels are not 0 to 9")
        splits[split] = PixelArrays(images, labels.astype("int32"), tuple(files))
    return _data_set("cifar10", directory, _CIFAR_CLASSES, splits)


def _cifar_contents(directory: pathlib.Path) -> Callable[[str], tuple[str, bytes, bool]] | None:
    """Returns the function from a batch's name to (file, content, whether it is binary), or None if none is there."""
    for folder in _CIFAR_FOLDERS:
        for ending in ("", ".bin"):
            if (directory / folder / f"data_batch_1{ending}").is_file():

                def from_file(name: str, folder: str = folder, ending: str = ending) -> tuple[str, bytes, bool]:
                    path = directory / folder / f"{name}{ending}"
                    if not path.is_file():
                        raise errors.DataError(f"{path} is missing: CIFAR-10 has data_batch_1 to 5 and test_batch.")
                    return str(path), path.read_bytes(), bool(ending)

                return from_file
    for archive in _CIFAR_ARCHIVES:
        path = directory / archive
        if path.is_file():
            with tarfile.open(path) as tar:
                contents = {
                    os.path.splitext(os.path.basename(member.name))[0]: file.read()
                    for member in tar
                    if (file := tar.extractfile(member)) is not None and "batch" in os.path.basename(member.name)
                }
            return lambda name: (str(path), contents[name], "binary" in archive)
    return None


def _binary_batch(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    if not content:
        raise ValueError("a batch is empty")
    rows = np.frombuffer(content, "uint8").reshape(-1, 1 + 3072)
    return rows[:, 1:], rows[:, 0]


class _ArrayUnpickler(pickle.Unpickler):
    """Reads NumPy arrays and plain values; anything else is an error and is never called."""

    def find_class(self, module: str, name: str) -> typing.Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _python_batch(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    batch = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
    pixels, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"])
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), 3072):
        raise ValueError("data is not uint8 [n, 3072] with a label each")
    return pixels, labels


def _mnist(directory: pathlib.Path) -> datasets.DataSet | None:
    names = _idx_files(directory)
    if "train-images-idx3-ubyte" not in names:
        return None
    splits = {split: _idx_split(directory, names, start) for split, start in _IDX_SPLITS.items()}
    count = int(splits["train"].labels.max()) + 1
    return _data_set(directory.name, directory, tuple(map(str, range(count))), splits)


def _emnist(directory: pathlib.Path) -> datasets.DataSet | None:
    names = _idx_files(directory)
    sets = sorted(match[1] for name in names if (match := re.fullmatch(r"(emnist-\w+)-train-images-idx3-ubyte", name)))
    if not sets:
        return None
    if len(sets) > 1:
        raise errors.DataError(
            f"{directory} holds several sets of EMNIST: {', '.join(sets)}. Put the files of one into a folder of its "
            "own."
        )
    splits = {split: _idx_split(directory, names, f"{sets[0]}-{split}") for split in _IDX_SPLITS}
    numbers = np.unique(splits["train"].labels)  # Those of the letters begin with 1.
    if not np.isin(splits["test"].labels, numbers).all():
        raise ValueError("test has labels that train has not")
    mapping = names.get(f"{sets[0]}-mapping.txt")
    lines = pathlib.Path(mapping).read_text("ascii").splitlines() if mapping else []
    characters = dict(line.split()[:2] for line in lines if line)
    class_names = tuple(
        chr(int(characters[number])) if number in characters else number for number in map(str, numbers.tolist())
    )
    upright = {
        name: dataclasses.replace(
            split,
            pixels=split.pixels.transpose(0, 2, 1, 3),
            labels=np.searchsorted(numbers, split.labels).astype("int32"),
        )
        for name, split in splits.items()
    }
    data = _data_set(sets[0], directory, class_names, upright)
    note = "EMNIST's files hold each image with rows and columns exchanged: they are set upright."
    return dataclasses.replace(data, notes=(note, *data.notes))


def _idx_files(directory: pathlib.Path) -> dict[str, str]:
    """Returns {name as the authors write it: file} of a folder."""
    return {_idx_name(entry.name): entry.path for entry in list(os.scandir(directory)) if entry.is_file()}


def _idx_split(directory: pathlib.Path, names: dict[str, str], start: str) -> PixelArrays:
    """Reads the images and labels of the files whose names start so."""
    files = tuple(f"{start}-{what}-ubyte" for what in ("images-idx3", "labels-idx1"))
    missing = [name for name in files if name not in names]
    if missing:
        raise errors.DataError(
            f"{directory / missing[0]} is missing; there are four files: images and labels of train and of "
            f"{'test' if start.startswith('emnist') else 't10k'}."
        )
    paths = tuple(names[name] for name in files)
    images, labels = (_read_idx(path) for path in paths)
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(f"{paths[0]} has {images.shape} values and {paths[1]} {labels.shape}")
    return PixelArrays(images[..., None], labels.astype("int32"), paths)


def _idx_name(name: str) -> str:
    """Returns a file's name as its authors write it: train-images.idx3-ubyte.gz is train-images-idx3-ubyte."""
    return name.removesuffix(".gz").replace(".idx", "-idx")


def _read_idx(path: str) -> np.ndarray:
    """Reads an idx file of unsigned bytes: a magic number, the lengths as big-endian 32 bits, the values."""
    content = pathlib.Path(path).read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    zeros, kind, dimensions = struct.unpack(">HBB", content[:4])
    if zeros or kind != 8:
        raise ValueError(f"{path} is no idx file of bytes")
    shape = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
    return np.frombuffer(content, "uint8", offset=4 + 4 * dimensions).reshape(shape)
