"""Class folders: which folders are splits, which are classes, and which images are theirs.

A split is a folder whose name has a word for it (`train`, `seg_train`, `training_set`; `val`, `valid`, `validation`,
`dev`; `test`), however it is written, also with one more folder around the classes.
"""

import collections
import dataclasses
import os
import pathlib
import shlex
from collections.abc import Sequence, Set

from alexnet_tf.data import datasets, folder_tables, imagenet, label_files, labelled_files
from alexnet_tf.data.labelled_files import SPLIT_OF_WORD, VALIDATION_NAMES, Example, listing, subfolders
from alexnet_tf.data.options import ExampleOptions
from alexnet_tf.support import errors, shell

# Endings of images that nothing reads: a class that has such files only is not an empty one.
_UNREAD_ENDINGS = set(
    ".arw .cr2 .cr3 .dng .eps .exr .ico .jp2 .jxl .nef .npy .orf .pgm .ppm .psd .raf .raw .rw2 .svg .tga".split()
)


def find(directory: pathlib.Path, options: ExampleOptions) -> datasets.DataSet | None:
    """Finds images in class folders: in folders of splits, or in one folder, which is divided.

    Raises:
        DataError: If the folders cannot be used as they are, or it is not clear what they are.
    """
    root = imagenet.root_of(directory)
    labels, notes = folder_tables.find(root, options)
    try:
        if labels:
            data = label_files.find(directory, dataclasses.replace(options, labels=str(labels)))
        else:
            data = _find(directory, root, options)
    except errors.DataError as error:
        raise errors.DataError("\n".join([str(error), *notes])) from error
    if data is None:
        return None
    asked = {**options.of_examples(), **data.options}
    return dataclasses.replace(data, notes=(*data.notes, *notes), options=asked)


def _find(directory: pathlib.Path, root: pathlib.Path, options: ExampleOptions) -> datasets.DataSet | None:
    folders = _split_folders(root)
    if not folders:
        return _read_one(directory, "all" if options.is_whole else "train")
    validation = [name for name in VALIDATION_NAMES if name in folders]
    if not validation:
        raise errors.DataError(
            f"{directory} has a folder {folders['train'].name!r}, but none to measure the error on: looked for "
            f"{', '.join(VALIDATION_NAMES)}; there: {listing(directory)}. Make one, or {_train_alone(folders)}"
        )
    return _read_splits(directory, folders, validation, options)


def class_images(folder: pathlib.Path, split: str) -> tuple[list[Example], list[str]]:
    """Returns (the images of a folder of class folders, by class and path; notes about what is left out).

    Raises:
        DataError: If a class has images of which none can be read.
    """
    examples: list[Example] = []
    others: list[str] = []
    empty, notes = [], []
    for entry in labelled_files.entries(folder):
        if labelled_files.is_file(entry):
            continue
        # `ln -s DIR LINK`, typed twice, makes a link inside DIR that leads back to it.
        if not labelled_files.is_folder(entry) or folder.resolve().is_relative_to(os.path.realpath(entry.path)):
            notes.append(
                f"{entry.path} is left out: it is not a folder, or is a link that leads nowhere or back to a folder it "
                "is in."
            )
            continue
        images, rest = labelled_files.files_in(entry.path)
        others += rest
        if images:
            name = labelled_files.composed(entry.name)
            examples += [Example(path, name, split) for path in images]
        else:
            _check_not_vanished(entry.path, rest)
            empty.append(entry.path)
    if others:
        notes.append(f"Left out, as they are not images: {len(others):,}, such as {min(others)}.")
    if empty:
        notes.append(f"Left out, as class folders without an image: {len(empty):,}: {datasets.abbreviate(empty)}.")
    examples.sort(key=lambda example: example.class_name)
    if inner := _inner_folders(folder, examples):
        name = next(iter(inner))
        notes.append(
            f"The images of folders inside a class folder belong to that class: {name} joins "
            f"{datasets.abbreviate(inner[name])} (the same in {shell.count(len(inner) - 1, 'other class')})."
        )
    return examples, notes


def _check_not_vanished(folder: str, files: list[str]) -> None:
    endings = collections.Counter(pathlib.Path(file).suffix.lower() for file in files)
    if unread := [f"{endings[ending]:,} {ending}" for ending in sorted(endings.keys() & _UNREAD_ENDINGS)]:
        raise errors.DataError(
            f"Class {os.path.basename(folder)!r} would be missing: {folder} holds no image that can be read, but "
            f"{', '.join(unread)}. Convert them, or move the folder away."
        )


def _inner_folders(folder: pathlib.Path, examples: Sequence[Example]) -> dict[str, tuple[str, ...]]:
    """Returns {class name: folders inside it} of the classes whose images are all in several folders of their own."""
    places: dict[str, set[str]] = collections.defaultdict(set)
    for path, name, _ in examples:
        parts = path[len(f"{folder}/") :].split(os.sep)  # The class's folder, others, the file.
        places[name].add(parts[1] if len(parts) > 2 else "")
    return {name: tuple(sorted(each)) for name, each in places.items() if len(each) > 1 and "" not in each}


def _split_folders(directory: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns {split: folder of class folders}, "train" and others, or nothing where the folders are classes.

    Raises:
        DataError: If two folders are the same split.
    """
    names = subfolders(directory)
    exact = {name.lower(): directory / name for name in names}
    if "train" in exact and any(name in exact for name in VALIDATION_NAMES):
        return {name: exact[name] for name in ("train", *VALIDATION_NAMES) if name in exact}
    found: dict[str, list[pathlib.Path]] = {}
    for name in names:
        if (
            len(words := labelled_files.splits_named(name)) == 1
            and len(subfolders(folder := _unwrapped(directory / name))) > 1
        ):
            found.setdefault(words.pop(), []).append(folder)
    if "train" not in found:
        return {}
    for split, folders in found.items():
        if len(folders) > 1:
            there = ", ".join(str(folder.relative_to(directory)) for folder in folders)
            raise errors.DataError(
                f"{directory} has several folders for one split: {there} all look like {split}. Move the others away, "
                "or put their class folders together."
            )
    return {split: folders[0] for split, folders in found.items()}


def _unwrapped(folder: pathlib.Path) -> pathlib.Path:
    """Returns the folder that has class folders in a folder that has nothing else: seg_train/seg_train/<class>."""
    for _ in range(3):
        inner = subfolders(folder)
        if len(inner) != 1 or not subfolders(folder / inner[0]):
            break
        folder = folder / inner[0]
    return folder


def _read_splits(
    directory: pathlib.Path, folders: dict[str, pathlib.Path], validation: list[str], options: ExampleOptions
) -> datasets.DataSet:
    """Reads a folder of training images and at least one to measure the error on."""
    examples, notes = _read_split(folders["train"], "train", options)
    train = {each.class_name for each in examples}
    if len(train) < 2:
        label_files.check_names(folders["train"])
    if folders["train"].name.lower() != "train":
        roles = [f"{os.path.relpath(folders[name], directory)} is {name}" for name in ("train", *validation)]
        notes.insert(0, f"Splits: {', '.join(roles)}.")
    first = validation[0]
    for name in validation:
        try:
            found, more = _read_split(folders[name], name, options, train)
            why = "its images have no labels."
        except errors.DataError as error:
            if name == first != "test":
                raise
            found, more, why = [], [], str(error)
        classes = {each.class_name for each in found}
        unknown = sorted(classes - train)
        if unknown and name == first and (name != "test" or classes & train):
            raise errors.DataError(
                f"{folders[name]} has classes that are not in {folders['train']}: {datasets.abbreviate(unknown)}. Both "
                "must have the same folder names, letter by letter."
            )
        notes += more
        if unknown:
            why = "it does not have the classes of train."
        if found and not unknown:
            examples += found
        else:
            notes.append(f"{folders[name].name} is left out: {why}")
    if first != "test" and all(each.split == "train" for each in examples):
        raise errors.DataError(
            f"{folders[first]} holds no images in class folders; there: {listing(folders[first])}. Give the labels of "
            f"its images in a file ({first}.csv beside it, with a file name and a label in each line), or "
            f"{_train_alone(folders)}"
        )
    notes = list(dict.fromkeys(notes))
    return labelled_files.data_set(directory, examples, notes, root=folders["train"], held_out="validation")


def _read_split(
    folder: pathlib.Path, split: str, options: ExampleOptions, train: Set[str] = frozenset()
) -> tuple[list[Example], list[str]]:
    """Returns (examples, notes) of the folder of one split: its class folders, ImageNet's numbers, or a file of labels.

    Args:
        folder: The split's.
        split: Its name.
        options: How a file of labels is read.
        train: The classes of the training images; empty for train itself.

    Raises:
        DataError: If there is a file of labels that cannot be understood.
    """
    labels, notes = folder_tables.find(folder, options)
    if labels is None:
        examples, more = class_images(folder, split)
        if not examples and train:
            examples, numbered = imagenet.numbered_images(folder, split, train)
            more += numbered
        labels = label_files.find_in_split(folder)
        if labels is None or (examples and (not train or {each.class_name for each in examples} <= train)):
            return examples, [*notes, *more]
    examples, more = label_files.read(labels, folder, options, train)
    examples = [each._replace(split=split) for each in sorted(examples, key=lambda each: each.class_name)]
    return examples, [*notes, *more]


def _train_alone(folders: dict[str, pathlib.Path]) -> str:
    return f"give --data_dir={shlex.quote(str(folders['train']))}, which is then split 90/10."


def _read_one(directory: pathlib.Path, split: str) -> datasets.DataSet | None:
    """Reads one folder of class folders; as "train" it is divided, as "all" it stays whole."""
    examples, notes = class_images(directory, split)
    _check_level(directory, examples)
    return labelled_files.data_set(directory, examples, notes, held_out="validation") if examples else None


def _check_level(root: pathlib.Path, examples: Sequence[Example]) -> None:
    """Refuses folders that must be splits, and a directory one level too high.

    Raises:
        DataError: If several folders hold the same class folders, one holds all, or they are named like splits.
    """
    inner, classes = _inner_folders(root, examples), sorted({each.class_name for each in examples})
    if len(inner) == len(classes) == 1:
        [(name, folders)] = inner.items()
        raise errors.DataError(
            f"{root} holds one folder only, {name}, with {len(folders)} folders of images in it. Are these the "
            f"classes? Then type\n  {shell.command_line('train', data_dir=root / name)}"
        )
    if len(inner) == len(classes) > 1 and len(set(inner.values())) == 1:
        raise errors.DataError(
            f"{datasets.abbreviate(list(inner))} in {root} hold the same class folders "
            f"({datasets.abbreviate(next(iter(inner.values())))}): are they splits? Rename them to train and val (and "
            "test). If they are classes, move their images together."
        )
    words = [labelled_files.splits_named(name) for name in classes]
    like_splits = [name for name in classes if name.lower() in SPLIT_OF_WORD.keys() - {"train"}]
    if all(words) and {"train"} in words:
        like_splits = classes
    if like_splits or len(classes) < 2:
        label_files.check_names(root)
    if like_splits:
        raise errors.DataError(
            f"{root} has folders that look like splits ({', '.join(like_splits)}) and none called train with class "
            f"folders beside a validation folder; there: {listing(root)}. Rename the folders to train and val, or give "
            "the folder of the class folders as --data_dir."
        )
