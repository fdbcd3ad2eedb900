"""Which images are in a folder of class folders: by ending or by content, with what is left out and why."""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from alexnet_tf.data import datasets, plain_images, reading
from alexnet_tf.support import errors, shell

# The content of such files is not looked at here.
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".jfif", ".jpe")

# Other endings of images: a class that has such files only is not an empty one.
_UNSUPPORTED_ENDINGS = (
    ".arw",
    ".cr2",
    ".cr3",
    ".dng",
    ".eps",
    ".exr",
    ".ico",
    ".jp2",
    ".jxl",
    ".nef",
    ".npy",
    ".orf",
    ".pgm",
    ".ppm",
    ".psd",
    ".raf",
    ".raw",
    ".rw2",
    ".svg",
    ".tga",
)

# Folders that other programs leave behind; hidden ones are none of the data either.
_JUNK_FOLDERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")

_HEADER_BYTES = 32


@dataclasses.dataclass
class FolderScan:
    """What is in a folder of class folders.

    Attributes:
        classes: {class name: sorted image files}.
        notes: Lines about what is left out.
        nested: {class name: folders inside it that hold its images}, where there are at least two and no image
            beside them.
    """

    classes: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    nested: dict[str, list[str]] = dataclasses.field(default_factory=dict)


def is_junk(name: str) -> bool:
    """Returns whether a folder is hidden or another program's."""
    return name.startswith(".") or name in _JUNK_FOLDERS


def subfolders(folder: os.PathLike[str] | str) -> list[str]:
    """Returns the names of the folders in a folder, sorted, without hidden ones and those of other programs."""
    return sorted(
        entry.name for entry in list(os.scandir(folder)) if os.path.isdir(entry.path) and not is_junk(entry.name)
    )


def scan(folder: os.PathLike[str] | str) -> FolderScan:
    """Finds the images of each class.

    Args:
        folder: Holds a folder for each class.

    Raises:
        DataError: If a class's name cannot be used, or a class has images of which none can be read.
    """
    result, others, empty = FolderScan(), [], []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if is_junk(entry.name) or os.path.isfile(entry.path):
            continue
        if not os.path.isdir(entry.path) or pathlib.Path(folder).resolve().is_relative_to(os.path.realpath(entry.path)):
            result.notes.append(
                f"{entry.path} is left out: no folder, or a link that leads nowhere or back to a folder it is in."
            )
            continue
        paths, rest = _images_of(entry.path)
        others += rest
        if paths:
            check_class_name(entry.name, entry.path)
            result.classes[entry.name] = sorted(paths)
            _note_nested(result, entry.name, entry.path)
        else:
            _check_not_vanished(entry.name, entry.path, rest)
            empty.append(entry.path)
    if others:
        result.notes.append(f"Left out, not being images: {len(others):,}, such as {min(others)}.")
    if empty:
        result.notes.append(
            f"Left out, being class folders without an image: {len(empty):,}: {datasets.abbreviate(empty)}."
        )
    if result.nested:
        name, folders = next(iter(result.nested.items()))
        result.notes.append(
            f"The images of folders inside a class folder belong to that class: {name} joins "
            f"{datasets.abbreviate(folders)}"
            + (
                f"; it is so in {shell.count(len(result.nested) - 1, 'other class')} too."
                if len(result.nested) > 1
                else "."
            )
        )
    return result


def _images_of(folder: str) -> tuple[list[str], list[str]]:
    """Returns (images, other files) at any depth of a class folder."""
    images: list[str] = []
    others: list[str] = []
    for entry in _walk(folder):
        (images if _may_be_image(entry) and kind_of(entry.path) else others).append(entry.path)
    return images, others


def images_in(folder: str) -> list[str]:
    """Returns the images at any depth of a folder, sorted.

    Raises:
        OSError: If the folder cannot be read.
    """
    return sorted(_images_of(folder)[0])


def _walk(folder: str) -> Iterator[os.DirEntry[str]]:
    """Yields the files at any depth; links to folders are followed at the top only, so that there is no loop."""
    folders = [folder]
    while folders:
        for entry in os.scandir(folders.pop()):
            if entry.name.startswith("."):
                continue
            if not entry.is_dir(follow_symlinks=False):
                yield entry
            elif not is_junk(entry.name):
                folders.append(entry.path)


def _may_be_image(entry: os.DirEntry[str]) -> bool:
    """Returns whether an entry is a file, or a link to one or to nothing, which is reported when it is read."""
    if not entry.is_symlink():
        return entry.is_file()
    return os.path.isfile(entry.path) or not os.path.exists(entry.path)


def kind_of(path: str) -> str:
    """Returns "image" for an image of a known format, by ending or by content, or ""."""
    if os.path.splitext(path)[1].lower() in IMAGE_ENDINGS:
        return "image"
    try:
        descriptor = reading.open_regular(path)
    except OSError:
        return ""
    try:
        header = os.read(descriptor, _HEADER_BYTES)
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    return "image" if plain_images.kind_of(header) else ""


def check_class_name(name: str, where: str) -> None:
    """Refuses a class name that would be invisible, or two names, in a list with one on each line.

    Raises:
        DataError: If it is not UTF-8 or holds a control character such as a newline.
    """
    if not name.strip() or any(
        ord(character) < 32 or 127 <= ord(character) < 160 or "\udc80" <= character <= "\udcff" for character in name
    ):
        raise errors.DataError(
            f"The class name {name!r} ({where!r}) is blank, is not UTF-8, or holds a control character such as a "
            "newline. Rename it."
        )


def _check_not_vanished(name: str, path: str, files: Sequence[str]) -> None:
    endings = collections.Counter(os.path.splitext(file)[1].lower() for file in files)
    images = {ending: count for ending, count in endings.items() if ending in _UNSUPPORTED_ENDINGS}
    if images:
        text = ", ".join(f"{count:,} {ending}" for ending, count in sorted(images.items()))
        raise errors.DataError(
            f"Class {name!r} would be missing: {path} holds no image that is read, but {text}. Convert them, or move "
            "the folder away."
        )


def _note_nested(result: FolderScan, name: str, path: str) -> None:
    """Remembers a class whose images all lie in several folders of their own."""
    folders = {os.path.relpath(each, path).split(os.sep)[0] for each in result.classes[name]}
    if len(folders) > 1 and all(os.path.isdir(os.path.join(path, folder)) for folder in list(folders)[:3]):
        if not any(os.sep not in os.path.relpath(each, path) for each in result.classes[name]):
            result.nested[name] = sorted(folders)


def image_files(
    found: dict[str, list[str]], class_names: Sequence[str], keep: Callable[[str, str], bool] = lambda name, path: True
) -> datasets.ImageFiles:
    """Returns the images of some classes, in the order of the classes.

    Args:
        found: {class name: image files}.
        class_names: In the order of the labels.
        keep: Function of (class name, path).
    """
    paths = {name: [path for path in found.get(name, ()) if keep(name, path)] for name in class_names}
    labels = [label for label, name in enumerate(class_names) for _ in paths[name]]
    return datasets.ImageFiles(tuple(path for name in class_names for path in paths[name]), np.asarray(labels, "int32"))


def listing(directory: os.PathLike[str] | str, limit: int = 12) -> str:
    """Returns what is in a folder, for messages."""
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in list(os.scandir(directory)))
    return datasets.abbreviate(names, limit) or "nothing"
