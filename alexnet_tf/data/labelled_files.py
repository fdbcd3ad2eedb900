"""Files of images whose class is known by name: which files are images, which are held out, how they are a data set.

Class folders, files of labels and ImageNet's folders lead to (path, class name) pairs in splits; the rest is here.
"""

import hashlib
import os
import pathlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from alexnet_tf.data import datasets, plain_images
from alexnet_tf.support import errors, shell

# Names of the split that errors are measured on, in order of preference.
VALIDATION_NAMES = ("val", "valid", "validation", "test")

# Taken for images without a look at their content.
_IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".jfif", ".jpe")

# Folders that other programs leave behind.
_JUNK = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")

_HEADER_BYTES = 32

Examples = list[tuple[str, str]]


def is_junk(name: str) -> bool:
    """Returns whether a file or folder is hidden or another program's."""
    return name.startswith(".") or name in _JUNK


def subfolders(folder: os.PathLike[str] | str) -> list[str]:
    """Returns the names of the folders in a folder, sorted, without hidden ones and those of other programs."""
    return sorted(each.name for each in list(os.scandir(folder)) if os.path.isdir(each.path) and not is_junk(each.name))


def listing(directory: os.PathLike[str] | str) -> str:
    """Returns what is in a folder, for messages."""
    names = sorted(entry.name + "/" * entry.is_dir() for entry in list(os.scandir(directory)))
    return datasets.abbreviate(names, 12) or "nothing"


def files_in(folder: os.PathLike[str] | str) -> tuple[list[str], list[str]]:
    """Returns (images, other files) at any depth of a folder, sorted; links to folders inside it are not followed.

    Raises:
        OSError: If the folder cannot be read.
    """
    images: list[str] = []
    others: list[str] = []
    folders = [os.fspath(folder)]
    while folders:
        for entry in list(os.scandir(folders.pop())):
            if is_junk(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            else:
                (images if is_image(entry) else others).append(entry.path)
    return sorted(images), sorted(others)


def is_image(entry: os.DirEntry[str]) -> bool:
    """Returns whether an entry is an image by its ending or its content; a link to nothing is reported when read."""
    if not os.path.isfile(entry.path) and (os.path.exists(entry.path) or not entry.is_symlink()):
        return False
    if entry.name.lower().endswith(_IMAGE_ENDINGS):
        return True
    try:
        with open(entry.path, "rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError:
        return False
    return plain_images.kind_of(header) is not None


def composed(name: str) -> str:
    """Returns a name with accents and letters as one character: macOS takes them apart in the names of files."""
    return unicodedata.normalize("NFC", name)


def labels_of(names: Iterable[str], class_names: Sequence[str]) -> np.ndarray:
    """Returns the place of each name in `class_names`, int32; -1 for a name that is not there."""
    label_of = {name: label for label, name in enumerate(class_names)}
    return np.array([label_of.get(name, -1) for name in names], "int32")


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Returns the different names in the order of their labels: numbers by their value, otherwise as text."""
    found = sorted(set(names))
    try:
        return tuple(sorted(found, key=int))
    except ValueError:
        return tuple(found)


def validation_of(splits: Iterable[str]) -> str | None:
    """Returns the name of the split that errors are measured on."""
    return next((name for name in VALIDATION_NAMES if name in splits), None)


def divide(examples: Examples, root: os.PathLike[str] | str, validation: str) -> tuple[dict[str, Examples], str]:
    """Holds out a tenth of each class, at least one of two images: those of the smallest SHA-256 of class and path.

    Args:
        examples: (path, class name) pairs.
        root: The paths are hashed relative to this folder.
        validation: Name of the new split.

    Returns:
        ({split: its examples}, a note for a person).

    Raises:
        DataError: If a split would be empty.
    """
    classes: dict[str, list[str]] = {}
    for path, name in examples:
        classes.setdefault(name, []).append(path)

    def place(path: str) -> bytes:
        return hashlib.sha256(os.path.relpath(path, root).encode("utf-8", "surrogateescape")).digest()

    held_out: set[str] = set()
    for paths in classes.values():
        count = max(1, (len(paths) + 5) // 10) if len(paths) > 1 else 0
        held_out.update(sorted(paths, key=place)[:count])
    splits = {
        "train": [each for each in examples if each[0] not in held_out],
        validation: [each for each in examples if each[0] in held_out],
    }
    for name, each in splits.items():
        if not each:
            raise errors.DataError(f"{root}: too few images for a 90/10 split; '{name}' got none. Make train and val.")
    return splits, "Split 90/10 in each class by a hash of class and path: the same for the same files."


def data_set(
    directory: pathlib.Path, class_names: Sequence[str], splits: Mapping[str, Examples], notes: Sequence[str]
) -> datasets.DataSet:
    """Makes a data set of image files.

    Args:
        directory: The data directory.
        class_names: In the order of the labels.
        splits: (path, class name) pairs by split, in their order.
        notes: Lines that a person should see.

    Raises:
        DataError: If there are fewer than two classes, or a class name cannot be used.
    """
    if len(class_names) < 2:
        raise errors.DataError(
            f"{directory}: at least two classes with images are needed; got {list(class_names)}; there: "
            f"{listing(directory)}."
        )
    for name in class_names:  # Such a name would be invisible, or two names, in a list with one on each line.
        if not name.strip() or shell.printable(name, keep="") != name:
            raise errors.DataError(
                f"The class name {name!r} in {directory} is blank, is not UTF-8, or holds a control character such as "
                "a newline. Rename it."
            )
    files = {
        split: datasets.ImageFiles(
            tuple(path for path, _ in examples), labels_of((name for _, name in examples), class_names)
        )
        for split, examples in splits.items()
    }
    validation = validation_of(files) or "all"
    return datasets.DataSet(directory.name, str(directory), tuple(class_names), files, validation, tuple(notes))
