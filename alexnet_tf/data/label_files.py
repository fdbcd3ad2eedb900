"""Labels in a file: CSV, TSV, text or JSON lines beside images; or in the names of the files, where that is asked for.

A file is read as rows; what they say is `label_rows`'. The split is said by a file for each (`train.csv`, `val.csv`),
by a column, or otherwise by a hash.
"""

import collections
import csv
import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Collection, Sequence

from alexnet_tf.data import datasets, labelled_files
from alexnet_tf.data.label_rows import LABEL_COLUMNS, SPLIT_COLUMNS, SPLIT_NAMES, Example, ImageIndex, Row, examples_of
from alexnet_tf.data.options import FILE_NAMES, ExampleOptions
from alexnet_tf.support import errors, home, shell

_ENDINGS = (".csv", ".tsv", ".txt", ".jsonl")

# Names of the file, without ending, that is looked for.
_NAMES = ("labels", "train_labels", "trainlabels", "train", "training", "annotations", "metadata")

# Names of the file beside the images of one split; {} is the split's name.
_NAMES_IN_SPLIT = ("{}_annotations", "{}_labels", "{}", "labels", "annotations", "metadata", "_classes")

# Folders where flat images are looked for.
_IMAGE_FOLDERS = ("", "images", "image", "img", "imgs", "train", "train_images", "jpg")

# A file's name that states its class, followed by a number: cat.0, Abyssinian_12, golden retriever (3).
_STATED = re.compile(r"(.*[^-._ ()0-9])[-._ ]*[(]?[0-9]+[)]?")

_MOST_STATED = 1000


def find(directory: pathlib.Path, options: ExampleOptions) -> datasets.DataSet | None:
    """Reads a data set whose labels are in a file, or in the files' names where `options.labels` says so.

    Raises:
        DataError: If the file or its columns cannot be understood, or images are missing.
    """
    path = _labels_path(directory, options)
    if path is not None:
        examples, notes = read(path, directory, options)
        options = dataclasses.replace(options, labels=options.labels and str(path))
    elif options.labels == FILE_NAMES:
        path, notes = directory, ["The classes are those of the files' names."]
        examples = [Example(image, name) for image, name in stated_classes(directory).items()]
    else:
        return None
    class_names = labelled_files.class_order(each.class_name for each in examples)
    pairs: dict[str, labelled_files.Examples] = {"train": [], "val": [], "test": []}
    for image, name, split in examples:
        pairs[split].append((image, name))
    if unknown := set(class_names) - {name for _, name in pairs["train"]}:
        raise errors.DataError(f"{path}: classes without a training image: {datasets.abbreviate(sorted(unknown))}.")
    splits = {split: each for split, each in pairs.items() if each}
    if splits.keys() == {"train"}:
        splits, note = labelled_files.divide(splits["train"], directory, "val")
        notes.append(note)
    data = labelled_files.data_set(directory, class_names, splits, notes)
    return dataclasses.replace(data, options=options.of_examples())


def _labels_path(directory: pathlib.Path, options: ExampleOptions) -> pathlib.Path | None:
    """Returns the file of labels that was asked for, or one that is found beside images that are in no class folders.

    Raises:
        DataError: If one is asked for and not there.
    """
    if options.labels is not None:
        for path in (directory / options.labels, home.expand(options.labels).absolute()):
            if path.is_file():
                return path
        if options.labels == FILE_NAMES:
            return None
        raise errors.DataError(f"--labels={options.labels} does not exist; looked in {directory} and in {os.getcwd()}.")
    found = _first_file(directory, _NAMES)
    if found and any(_has_images(directory / name) for name in _IMAGE_FOLDERS):
        return found
    if options.image_column is not None or options.label_column is not None:
        raise errors.DataError(f"{directory} holds no file of labels, such as labels.csv. Name it: --labels=FILE.")
    return None


def _first_file(folder: pathlib.Path, names: Sequence[str], endings: Sequence[str] = _ENDINGS) -> pathlib.Path | None:
    """Returns the first file of a folder that is called so, in upper or lower case."""
    files = {entry.name.lower(): entry.path for entry in list(os.scandir(folder)) if entry.is_file()}
    found = (files.get(name.lower() + ending) for name in names for ending in endings)
    return next((pathlib.Path(path) for path in found if path), None)


def _has_images(folder: pathlib.Path) -> bool:
    return folder.is_dir() and any(
        labelled_files.is_image(entry) for entry in list(os.scandir(folder)) if not entry.name.startswith(".")
    )


def find_in_split(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the file of labels in the folder of one split, or beside it (`val.csv` beside `val`), or None."""
    inside = [name.format(folder.name) for name in _NAMES_IN_SPLIT]
    beside = [name.format(folder.name) for name in _NAMES_IN_SPLIT if "{}" in name]
    return _first_file(folder, inside) or _first_file(folder.parent, beside)


def read(
    path: pathlib.Path,
    folder: pathlib.Path,
    options: ExampleOptions = ExampleOptions(),  # noqa: B008
    class_names: Collection[str] = (),
) -> tuple[list[Example], list[str]]:
    """Returns (examples, notes) of a file of labels, and of those beside `train.csv` that are other splits'.

    Args:
        path: The file.
        folder: Where the images are, at any depth.
        options: Which columns are meant.
        class_names: Classes that are known already.

    Raises:
        DataError: As `examples_of`; also if more than a tenth of the images have several labels.
    """
    images = ImageIndex(folder)
    others = _files_of_other_splits(path)
    examples, missing = examples_of(read_rows(path), images, path, options, class_names)
    for other, split in others.items():
        more, notes = examples_of(read_rows(other), images, other, options, class_names)
        examples += [each._replace(split=split) for each in more]
        missing += notes
    files = ", ".join(each.name for each in (path, *others))
    return examples, [f"Labels from {files}.", *missing, *_repeated(path, examples)]


def _files_of_other_splits(path: pathlib.Path) -> dict[pathlib.Path, str]:
    """Returns {file: split} of the files that are called as `train.csv` is, with a validation or test split's name."""
    found = {}
    for word, split in SPLIT_NAMES.items():
        other = _first_file(path.parent, [path.stem.lower().replace("train", word, 1)], (path.suffix.lower(),))
        # Kaggle's test files have no labels.
        if other and "train" in path.stem.lower() and len(read_rows(other)[0]) >= len(read_rows(path)[0]):
            found[other] = split
    return found


def _repeated(path: pathlib.Path, examples: Sequence[Example]) -> list[str]:
    """Returns notes about images with several labels, or in several splits.

    Raises:
        DataError: If more than a tenth of the images have several labels.
    """
    names, splits = collections.defaultdict(set), collections.defaultdict(set)
    for image, name, split in examples:
        names[image].add(name)
        splits[image].add(split)
    notes = []
    for found, what in ((names, "labels"), (splits, "splits")):
        if several := [image for image, each in found.items() if len(each) > 1]:
            text = (
                f"{path.name} gives {len(several):,} images of {len(names):,} several {what}, such as {several[0]}: "
                f"{', '.join(sorted(found[several[0]]))}"
            )
            if found is names and len(several) > len(names) // 10:
                raise errors.DataError(
                    f"{text}. An image has one class here: leave one line for each image, or join the labels to one "
                    "name."
                )
            notes.append(f"{text}. It is used as each of them, so that the error is not exact.")
    return notes


def read_rows(path: pathlib.Path) -> list[Row]:
    """Returns the rows of a file; where no line names the columns, they are called "0", "1", ...

    Raises:
        DataError: If it is empty, or is not of its ending's format.
    """
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise errors.DataError(f"{path} is not UTF-8 text.") from error
    if not lines:
        raise errors.DataError(f"{path} is empty.")
    if path.suffix.lower() == ".jsonl":
        try:
            objects = [dict(json.loads(line)) for line in lines]
        except (ValueError, TypeError) as error:
            raise errors.DataError(f"{path}: each line must be a JSON object; {error}.") from error
        return [{name: "" if value is None else str(value) for name, value in each.items()} for each in objects]
    delimiter = max(",;\t", key=lines[0].count)
    if path.suffix.lower() == ".txt" and delimiter not in lines[0]:
        table = [line.rsplit(maxsplit=1) for line in lines]
    else:
        table = list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
    columns = [name.strip() for name in table[0]]
    is_header = len(table) > 1 and (
        any(name.lower() in (*LABEL_COLUMNS, *SPLIT_COLUMNS) for name in columns)
        or not any(os.path.splitext(name)[1] or name.isdecimal() for name in columns)
    )
    if not is_header:
        columns = [str(number) for number in range(len(columns))]
    return [dict(zip(columns, row)) for row in table[is_header:]]


def stated_classes(directory: pathlib.Path) -> dict[str, str]:
    """Returns {image: class} of the images whose name is a class and a number, at any depth."""
    matches = {path: _STATED.fullmatch(pathlib.PurePath(path).stem) for path in labelled_files.files_in(directory)[0]}
    return {path: match[1] for path, match in matches.items() if match}


def check_names(directory: pathlib.Path) -> None:
    """Refuses images in no class folders whose names seem to state their classes: IMG_1.jpg and DSC_1.jpg do not.

    Raises:
        DataError: Says what to type if they do.
    """
    counts = collections.Counter(stated_classes(directory).values())
    if 2 <= len(counts) <= _MOST_STATED and min(counts.values()) > 1:
        raise errors.DataError(
            f"{directory} holds no class folders. Are the classes in the names of the files: "
            f"{datasets.abbreviate(sorted(counts))}? Then type\n  "
            + shell.command_line("train", data_dir=directory, labels=FILE_NAMES)
        )
