"""Class folders: which folders are splits, which are classes, and how images without splits are divided.

A split is a folder whose name has a word for it (`train`, `seg_train`, `training_set`; `val`, `valid`, `validation`,
`dev`; `test`), however it is written, also with one more folder around the classes.
"""

import dataclasses
import hashlib
import os
import pathlib
import re
import shlex
import unicodedata
from collections.abc import Callable, Collection, Sequence

from alexnet_tf.data import datasets, file_names, folder_scan, label_tables
from alexnet_tf.support import errors, shell

# Names of the split that errors are measured on, in order of preference.
VALIDATION_NAMES = ("val", "valid", "validation", "test")

CHOSEN_ON_TEST = "No validation split is there: the best checkpoint is chosen on test, so its test error is too good."

# The words in a folder's name that make it a split.
_SPLIT_OF_WORD = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}

# The rule for new data sets, a key of `SPLIT_RULES`; older runs keep theirs.
SPLIT_RULE = "class_and_path"


def find(
    directory: pathlib.Path,
    expected: str,
    *,
    is_whole: bool = False,
    split_rule: str = SPLIT_RULE,
) -> datasets.DataSet:
    """Finds images in class folders.

    Args:
        directory: Holds splits with class folders, or class folders.
        expected: Description of what a data directory may hold, for the message where nothing is found.
        is_whole: Whether one folder of class folders stays one split, "all", to measure on.
        split_rule: A key of `SPLIT_RULES`, for one folder of class folders.

    Raises:
        DataError: If nothing usable is there.
    """
    splits = _split_folders(directory)
    if splits:
        return _read_splits(directory, splits, split_rule)
    return _read_classes(directory, expected, is_whole, split_rule)


def _split_folders(directory: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns {split: folder of class folders}, "train" and others, or nothing where the folders are classes.

    Raises:
        DataError: If two folders are the same split.
    """
    names = folder_scan.subfolders(directory)
    exact = {name.lower(): directory / name for name in names}
    if "train" in exact and any(name in exact for name in VALIDATION_NAMES):
        return {name: exact[name] for name in ("train", *VALIDATION_NAMES) if name in exact}
    found: dict[str, list[str]] = {}
    for name in names:
        words = _split_words(name)
        if len(words) == 1:
            found.setdefault(words.pop(), []).append(name)
    inner = {name: _unwrapped(directory / name) for each in found.values() for name in each}
    with_classes = {
        split: [name for name in each if len(folder_scan.subfolders(inner[name])) > 1] for split, each in found.items()
    }
    if not with_classes.get("train"):
        return {}
    for split, each in with_classes.items():
        if len(each) > 1:
            raise errors.DataError(
                f"{directory} has several folders for one split: {', '.join(each)} all look like {split}. Move the "
                "others away, or put their class folders together."
            )
    return {split: inner[each[0]] for split, each in with_classes.items() if each}


def _split_words(name: str) -> set[str]:
    """Returns the splits that the words in a folder's name stand for."""
    return {_SPLIT_OF_WORD[word] for word in re.findall("[a-z]+", name.lower()) if word in _SPLIT_OF_WORD}


def _unwrapped(folder: pathlib.Path) -> pathlib.Path:
    """Returns the folder that has class folders in a folder that has nothing else: seg_train/seg_train/<class>."""
    for _ in range(3):
        inner = folder_scan.subfolders(folder)
        if len(inner) != 1 or not folder_scan.subfolders(folder / inner[0]):
            break
        folder = folder / inner[0]
    return folder


def _read_splits(directory: pathlib.Path, folders: dict[str, pathlib.Path], split_rule: str) -> datasets.DataSet:
    """`train/<class>/*` and a validation folder beside it."""
    present = [name for name in VALIDATION_NAMES if name in folders]
    if present == ["test"] and _is_unlabelled(folders["test"]) and folder_scan.subfolders(folders["train"]):
        data = _read_classes(folders["train"], "", False, split_rule)
        note = f"{folders['test']} is left out: its images have no labels. Errors are measured on a tenth of train."
        return dataclasses.replace(data, name=directory.name, directory=str(directory), notes=(note, *data.notes))
    if not present:
        raise errors.DataError(
            f"{directory} has a folder {folders['train'].name!r}, but none to measure the error on: looked for "
            f"{', '.join(VALIDATION_NAMES)}; there: {folder_scan.listing(directory)}. Make one, or give "
            f"--data_dir={shlex.quote(str(folders['train']))}, which is then split 90/10."
        )
    scans = _scan_splits(folders, present)
    found = {name: each.classes for name, each in scans.items()}
    class_names = tuple(sorted(found["train"]))
    _check_classes(class_names, folders["train"])
    splits, notes = {"train": folder_scan.image_files(found["train"], class_names)}, []
    if pathlib.Path(directory / "train") != folders["train"] and folders["train"].name.lower() != "train":
        roles = [f"{os.path.relpath(folders[name], directory)} is {name}" for name in ("train", *present)]
        notes.append(f"Splits: {', '.join(roles)}.")
    for name in present:
        unknown = sorted(set(found[name]) - set(class_names))
        if found[name] and not unknown:
            splits[name] = folder_scan.image_files(found[name], class_names)
        elif len(present) > 1 and (name != present[0] or not found[name]):
            notes.append(_left_out_split(folders[name], found[name]))
        else:
            raise errors.DataError(_unusable_split(folders, name, unknown))
    validation = next((name for name in present if name in splits), None)
    if validation is None:
        raise errors.DataError(_unusable_split(folders, present[0], []))
    if validation == "test":
        notes.append(CHOSEN_ON_TEST)
    left_out = dict.fromkeys(note for each in scans.values() for note in each.notes)
    return datasets.DataSet(directory.name, str(directory), class_names, splits, validation, (*notes, *left_out))


def _scan_splits(folders: dict[str, pathlib.Path], present: Sequence[str]) -> dict[str, folder_scan.FolderScan]:
    """Returns what is in the folder of each split: the class folders of train, or what a file of labels says."""
    scans: dict[str, folder_scan.FolderScan] = {}
    for name in ("train", *present):
        scans[name] = scan = folder_scan.scan(folders[name])
        known = scans["train"].classes
        scan.classes = _spelled_as(known, scan.classes)
        if scan.classes and scan.classes.keys() <= known.keys():
            continue
        path = label_tables.find_in_split(folders[name])
        try:
            scans[name] = label_tables.read_split(path, folders[name], known) if path else scan
        except errors.DataError:
            if name in ("train", present[0]):
                raise
    return scans


def _spelled_as(class_names: Collection[str], found: dict[str, list[str]]) -> dict[str, list[str]]:
    """Returns images by class, each class as it is spelled in `class_names`: macOS takes accents apart in names."""
    spelling = {unicodedata.normalize("NFC", name): name for name in class_names}
    result: dict[str, list[str]] = {}
    for name, paths in found.items():
        name = name if name in class_names else spelling.get(unicodedata.normalize("NFC", name), name)
        result[name] = sorted([*result.get(name, []), *paths])
    return result


def _is_unlabelled(folder: pathlib.Path) -> bool:
    """Returns whether a folder holds images and no class folders; "unknown" is no class."""
    inner = folder_scan.subfolders(folder)
    if inner and [name.lower() for name in inner] not in (
        [folder.name.lower()],
        ["unknown"],
        ["unlabelled"],
        ["unlabeled"],
    ):
        return False
    where = folder / inner[0] if inner else folder
    names = [entry.name for entry in list(os.scandir(where))]
    return any(os.path.splitext(name)[1].lower() in folder_scan.IMAGE_ENDINGS for name in names)


def _left_out_split(folder: pathlib.Path, found: dict[str, list[str]]) -> str:
    if found:
        return f"{folder.name} is left out: it does not have the classes of train."
    return f"{folder.name} is left out: it holds no class folders with images, so its images have no labels."


def _unusable_split(folders: dict[str, pathlib.Path], name: str, unknown: list[str]) -> str:
    if unknown:
        return (
            f"{folders[name]} has classes that are not in {folders['train']}: {datasets.abbreviate(unknown)}. Both "
            "must have the same folder names, letter by letter."
        )
    return (
        f"{folders[name]} holds no images in class folders ({', '.join(folder_scan.IMAGE_ENDINGS[:3])}); there: "
        f"{folder_scan.listing(folders[name])}. Its images have no labels: give them in a file ({name}.csv beside "
        "it, with a file name and a label in each line), or give "
        f"--data_dir={shlex.quote(str(folders['train']))}, which is then split 90/10."
    )


def _read_classes(directory: pathlib.Path, expected: str, is_whole: bool, split_rule: str) -> datasets.DataSet:
    """One folder of class folders, divided by a hash."""
    scan = folder_scan.scan(directory)
    class_names = tuple(sorted(scan.classes))
    if not class_names:
        raise errors.DataError(
            f"{directory} holds nothing to train on; there: {folder_scan.listing(directory)}.\n{expected}"
            + file_names.advice(directory)
        )
    _check_no_splits(directory, class_names, scan)
    _check_classes(class_names, directory)
    if is_whole:
        whole = folder_scan.image_files(scan.classes, class_names)
        return datasets.DataSet(directory.name, str(directory), class_names, {"all": whole}, "all", tuple(scan.notes))
    rule, note = SPLIT_RULES[split_rule]
    held_out = rule(scan.classes, directory)
    splits = {
        "train": folder_scan.image_files(scan.classes, class_names, lambda name, path: path not in held_out),
        "validation": folder_scan.image_files(scan.classes, class_names, lambda name, path: path in held_out),
    }
    for name, split in splits.items():
        if not len(split):
            raise errors.DataError(
                f"{directory}: too few images for a 90/10 split; '{name}' got none. Make folders train and val."
            )
    return datasets.DataSet(
        directory.name, str(directory), class_names, splits, "validation", (note, *scan.notes), split_rule=split_rule
    )


def _check_no_splits(directory: pathlib.Path, class_names: tuple[str, ...], scan: folder_scan.FolderScan) -> None:
    """Refuses folders that must be splits, and a directory one level too high.

    Raises:
        DataError: If folders are named like splits, several hold the same class folders, or one holds all classes.
    """
    like_splits = [name for name in class_names if name.lower() in (*VALIDATION_NAMES, "training")]
    if all(_split_words(name) for name in class_names) and any(_split_words(name) == {"train"} for name in class_names):
        like_splits = list(class_names)
    if like_splits:
        raise errors.DataError(
            f"{directory} has folders that look like splits ({', '.join(like_splits)}) and none called train with "
            f"class folders beside a validation folder; there: {folder_scan.listing(directory)}. Rename the folders to "
            "train and val, or give the folder of the class folders as --data_dir." + file_names.advice(directory)
        )
    inner = {name: tuple(each) for name, each in scan.nested.items()}
    alike = [name for name in inner if list(inner.values()).count(inner[name]) > 1]
    if len(alike) > 1 and len(alike) == len(class_names):
        raise errors.DataError(
            f"{datasets.abbreviate(alike)} in {directory} hold the same class folders "
            f"({datasets.abbreviate(inner[alike[0]])}): are they splits? Rename them to train and val (and test). If "
            "they are classes, move their images together."
        )
    if len(class_names) == 1 and class_names[0] in inner:
        folder = directory / class_names[0]
        raise errors.DataError(
            f"{directory} holds one folder only, {class_names[0]}, with {len(inner[class_names[0]])} folders of images "
            f"in it. Are these the classes? Then type\n  {shell.command_line('train', data_dir=folder)}"
        )


def _check_classes(class_names: tuple[str, ...], directory: pathlib.Path) -> None:
    if len(class_names) < 2:
        raise errors.DataError(
            f"{directory} must hold at least two class folders with images; got {list(class_names)}; there: "
            f"{folder_scan.listing(directory)}.{file_names.advice(directory)}"
        )


def is_held_out(path: str) -> bool:
    """Returns whether the rule of older versions holds an image out: a tenth, by SHA-256 of the file's name alone."""
    return hashlib.sha256(os.path.basename(path).encode("utf-8", "surrogateescape")).digest()[0] % 10 == 0


def _held_out_by_file_name(classes: dict[str, list[str]], directory: pathlib.Path) -> set[str]:
    return {path for paths in classes.values() for path in paths if is_held_out(path)}


def _held_out_by_class_and_path(classes: dict[str, list[str]], directory: pathlib.Path) -> set[str]:
    """Returns a tenth of each class, at least one of two images: those of the smallest SHA-256 of class and path."""

    def place(path: str) -> bytes:
        return hashlib.sha256(os.path.relpath(path, directory).encode("utf-8", "surrogateescape")).digest()

    return {path for paths in classes.values() for path in sorted(paths, key=place)[: held_out_count(len(paths))]}


def held_out_count(count: int) -> int:
    """Returns how many of a class's images are validation: a tenth, at least one of two."""
    return 0 if count < 2 else max(1, (count + 5) // 10)


# {name: (function from (images by class, directory) to the paths that are validation, a note)}.
SPLIT_RULES: dict[str, tuple[Callable[[dict[str, list[str]], pathlib.Path], set[str]], str]] = {
    "file_name": (_held_out_by_file_name, "Split 90/10 by a hash of each file's name: the same for ever."),
    "class_and_path": (
        _held_out_by_class_and_path,
        "Split 90/10 in each class by a hash of class and path: the same for the same files.",
    ),
}
