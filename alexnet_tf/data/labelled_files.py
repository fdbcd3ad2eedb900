"""Files of images whose class is known by name: which files are images, which are held out, how they are a data set.

Class folders, files of labels and ImageNet's folders each give a list of `Example`; `data_set` does the rest.
"""

import hashlib
import os
import pathlib
import re
import typing
import unicodedata
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from alexnet_tf.data import datasets, plain_images
from alexnet_tf.support import errors, shell

# Names of the split that errors are measured on, in order of preference.
VALIDATION_NAMES = ("val", "valid", "validation", "test")

# The words that mean a split: in a folder's name, a file's name or a column of a table.
SPLIT_OF_WORD = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "eval", "evaluation", "holdout"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}

# Taken for images without a look at their content.
_IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".jfif", ".jpe")

# Folders that other programs leave behind.
_JUNK = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")

_HEADER_BYTES = 32


class Example(typing.NamedTuple):
    """An image's file, the name of its class, and its split: "train", one of `VALIDATION_NAMES`, or "all"."""

    path: str
    class_name: str
    split: str = "train"


def splits_named(name: str) -> set[str]:
    """Returns the splits that the words in the name of a folder or a column stand for."""
    return {SPLIT_OF_WORD[word] for word in re.findall("[a-z]+", name.lower()) if word in SPLIT_OF_WORD}


def entries(folder: os.PathLike[str] | str) -> list[os.DirEntry[str]]:
    """Returns what is in a folder by name, without what is hidden or another program's."""
    found = (each for each in os.scandir(folder) if not each.name.startswith(".") and each.name not in _JUNK)
    return sorted(found, key=lambda each: each.name)


def subfolders(folder: os.PathLike[str] | str) -> list[str]:
    """Returns the names of the folders in a folder, sorted."""
    return [each.name for each in entries(folder) if is_folder(each)]


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Returns whether an entry is a folder or leads to one; only a link is looked up, which takes time on a network."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def is_file(entry: os.DirEntry[str]) -> bool:
    """Returns whether an entry is a regular file or leads to one; only a link is looked up."""
    return os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file()


def listing(directory: os.PathLike[str] | str) -> str:
    """Returns what is in a folder, for messages."""
    names = sorted(entry.name + "/" * is_folder(entry) for entry in list(os.scandir(directory)))
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
        for entry in entries(folders.pop()):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            else:
                (images if is_image(entry) else others).append(entry.path)
    return sorted(images), sorted(others)


def is_image(entry: os.DirEntry[str]) -> bool:
    """Returns whether an entry is an image by its ending or its content; a link to nothing is reported when read."""
    if not is_file(entry) and (not entry.is_symlink() or os.path.exists(entry.path)):
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


def _divide(examples: Sequence[Example], root: pathlib.Path, held_out: str) -> list[Example]:
    """Holds out a tenth of each class, at least one of two images: those of the smallest SHA-256 of class and path.

    Raises:
        DataError: If a split would be empty.
    """
    classes: dict[str, list[str]] = {}
    for path, name, _ in examples:
        classes.setdefault(name, []).append(path)

    def place(path: str) -> bytes:
        return hashlib.sha256(path.removeprefix(str(root)).lstrip("/").encode("utf-8", "surrogateescape")).digest()

    chosen: set[str] = set()
    for paths in classes.values():
        count = max(1, (len(paths) + 5) // 10) if len(paths) > 1 else 0
        chosen.update(sorted(paths, key=place)[:count])
    divided = [each._replace(split=held_out) if each.path in chosen else each for each in examples]
    if len({each.split for each in divided}) < 2:
        raise errors.DataError(f"{root}: too few images for a 90/10 split. Make train and val.")
    return divided


def data_set(
    directory: pathlib.Path,
    examples: Sequence[Example],
    notes: Sequence[str],
    order: Callable[[Iterable[str]], Sequence[str]] = sorted,
    root: pathlib.Path | None = None,
    held_out: str = "val",
) -> datasets.DataSet:
    """Makes a data set of image files; where all are "train", a tenth of each class is held out.

    Args:
        directory: The data directory.
        examples: In the order in which they stay within each split.
        notes: Lines that a person should see.
        order: Puts the names of the classes into the order of the labels.
        root: What is held out depends on the paths from this folder; by default `directory`.
        held_out: Name of the split of what is held out.

    Raises:
        DataError: If there are fewer than two classes to learn, one has no training image, or a name cannot be used.
    """
    class_names = order({each.class_name for each in examples})
    if len(class_names) < 2 and {each.split for each in examples} != {"all"}:
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
    trained = {each.class_name for each in examples if each.split in ("train", "all")}
    if unknown := [name for name in class_names if name not in trained]:
        raise errors.DataError(f"{directory}: classes without a training image: {datasets.abbreviate(unknown)}.")
    if all(each.split == "train" for each in examples):
        examples = _divide(examples, root or directory, held_out)
        notes = [*notes, "Split 90/10 in each class by a hash of class and path: the same for the same files."]
    rows: dict[str, list[Example]] = {}
    for each in examples:
        rows.setdefault(each.split, []).append(each)
    splits = {
        name: datasets.ImageFiles(
            tuple(each.path for each in rows[name]), labels_of((each.class_name for each in rows[name]), class_names)
        )
        for name in ("all", "train", *VALIDATION_NAMES)
        if name in rows
    }
    validation = validation_of(splits) or "all"
    return datasets.DataSet(directory.name, str(directory), tuple(class_names), splits, validation, tuple(notes))
