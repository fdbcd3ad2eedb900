"""Labels in a file: CSV, TSV, text or JSON lines beside images; or in the names of the files, where that is asked for.

Columns are found by looking: the image's is the one whose values name files, with or without folder and ending; the
label's is called so, holds known classes, or is the only other one; or each class has a column of zeros and ones. The
split is said by a file for each (`train.csv`, `val.csv`), by a column whose name or values are those of splits, or
otherwise by a hash.
"""

import collections
import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Collection, Sequence

from alexnet_tf.data import datasets, labelled_files, text_tables
from alexnet_tf.data.labelled_files import SPLIT_OF_WORD, Example
from alexnet_tf.data.options import FILE_NAMES, NO_COLUMN, ExampleOptions
from alexnet_tf.data.text_tables import Row
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

_LABEL_COLUMNS = "label labels class class_name category target breed species level diagnosis y".split()

_SPLIT_COLUMNS = "split set subset partition fold usage phase ml_use data_split".split()

_COLUMNS = {*_LABEL_COLUMNS, *_SPLIT_COLUMNS}

# Values of such a column; the last two are FER2013's.
_SPLIT_VALUES = {**SPLIT_OF_WORD, "publictest": "val", "privatetest": "test"}

# Values of a column that says whether an image is of one class.
_INDICATORS = {"": 0, "0": 0, "0.0": 0, "1": 1, "1.0": 1, "false": 0, "true": 1}

FindImage = Callable[[str], str | None]


class NamesNoImage(errors.DataError):
    """A file names no image that is there."""


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
        examples, notes = stated_classes(directory), ["The classes are those of the files' names."]
    else:
        return None
    data = labelled_files.data_set(directory, examples, notes, labelled_files.class_order)
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
    found = usual_file(directory)
    if found and any(_has_images(directory / name) for name in _IMAGE_FOLDERS):
        return found
    if options.image_column is not None or options.label_column is not None:
        raise errors.DataError(f"{directory} holds no file of labels, such as labels.csv. Name it: --labels=FILE.")
    return None


def usual_file(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the file in a folder that is called as files of labels usually are, or None."""
    return _first_file(folder, _NAMES)


def _first_file(folder: pathlib.Path, names: Sequence[str], endings: Sequence[str] = _ENDINGS) -> pathlib.Path | None:
    """Returns the first file of a folder that is called so, in upper or lower case."""
    files = {
        entry.name.lower(): entry.path for entry in labelled_files.entries(folder) if labelled_files.is_file(entry)
    }
    found = (files.get(name.lower() + ending) for name in names for ending in endings)
    return next((pathlib.Path(path) for path in found if path), None)


def _has_images(folder: pathlib.Path) -> bool:
    return folder.is_dir() and any(map(labelled_files.is_image, labelled_files.entries(folder)))


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
        options: Which columns are meant; None is found by looking.
        class_names: Classes that are known already.

    Raises:
        NamesNoImage: If it names none that is there.
        DataError: If the columns cannot be found, or more than a tenth of the images; also if more than a tenth have
            several labels.
    """
    rows, find_image = text_tables.read(path, options.labels_encoding, _COLUMNS), _image_finder(folder)
    examples, notes = _examples_of(rows, find_image, path, options, class_names)
    names = [path.name]
    for word, split in SPLIT_OF_WORD.items():
        stem = path.stem.lower()
        other = _first_file(path.parent, [stem.replace("train", word, 1)], (path.suffix.lower(),))
        # Kaggle's test files have no labels.
        if "train" not in stem or split == "train" or not other:
            continue
        more_rows = text_tables.read(other, options.labels_encoding, _COLUMNS)
        if len(more_rows[0]) >= len(rows[0]):
            more, missing = _examples_of(more_rows, find_image, other, options, class_names)
            examples += [each._replace(split=split) for each in more]
            notes += missing
            names.append(other.name)
    return examples, [f"Labels from {', '.join(names)}.", *notes, *_repeated(path, examples)]


def _repeated(path: pathlib.Path, examples: Sequence[Example]) -> list[str]:
    """Returns notes about images with several labels, or in several splits.

    Raises:
        DataError: If more than a tenth of the images have several labels.
    """
    notes = []
    for field, what in (("class_name", "labels"), ("split", "splits")):
        found: dict[str, set[str]] = collections.defaultdict(set)
        for each in examples:
            found[each.path].add(getattr(each, field))
        if several := [image for image, values in found.items() if len(values) > 1]:
            text = (
                f"{path.name} gives {len(several):,} images of {len(found):,} several {what}, such as {several[0]}: "
                f"{', '.join(sorted(found[several[0]]))}"
            )
            if what == "labels" and len(several) > len(found) // 10:
                raise errors.DataError(
                    f"{text}. An image has one class here: leave one line for each image, or join the labels to one "
                    "name."
                )
            notes.append(f"{text}. It is used as each of them, so that the error is not exact.")
    return notes


def _image_finder(directory: pathlib.Path) -> FindImage:
    """Returns a function from what a row may call an image, with or without folder and ending, to its path, or None."""
    paths: dict[str, str | None] = {}
    whole: dict[str, str | None] = {}
    for path in labelled_files.files_in(directory)[0]:
        name = labelled_files.composed(os.path.relpath(path, directory))
        whole[name] = path
        for each in {os.path.splitext(name)[0], os.path.basename(name), pathlib.PurePath(name).stem}:
            paths[each] = None if each in paths else path  # Of several, none is meant.
    paths |= whole

    def find_image(name: str) -> str | None:
        name = os.path.normpath(labelled_files.composed(name.strip()).replace("\\", "/"))
        return paths.get(name) or paths.get(os.path.basename(name))

    return find_image


def _examples_of(
    rows: Sequence[Row],
    find_image: FindImage,
    path: pathlib.Path,
    options: ExampleOptions,
    class_names: Collection[str],
) -> tuple[list[Example], list[str]]:
    """Returns (what the rows of a file say, notes about images that are not there); arguments and errors as `read`."""
    columns = list(rows[0])
    counts = {name: sum(find_image(row.get(name, "")) is not None for row in rows[:200]) for name in columns}
    if options.image_column is None and not any(counts.values()):
        raise NamesNoImage(
            f"{path} names no image that lies beside it, in any column; a line is {', '.join(rows[0].values())[:200]}. "
            "Move the images or the file, so that the names are paths from where the file is."
        )
    image_column = _column(options.image_column, "image_column", columns, path) or max(columns, key=counts.__getitem__)
    label_column = _column(options.label_column, "label_column", columns, path)
    others = [name for name in columns if name not in (image_column, label_column)]
    given = _column(options.split_column, "split_column", [*columns, NO_COLUMN], path)
    splits, split_column = _splits_of(rows, others, given, path)
    candidates = [name for name in others if name != split_column]
    label_columns = [label_column] if label_column else _label_columns(rows, candidates, class_names, path)
    examples, missing = [], []
    for row, split in zip(rows, splits, strict=True):
        if lacking := {image_column, *label_columns} - row.keys():
            raise errors.DataError(f"{path} has a line without the column {min(lacking)}: {', '.join(row.values())}.")
        image, name = find_image(row[image_column]), _class_of(row, label_columns, row[image_column], path)
        if image is None:
            missing.append(row[image_column])
        else:
            examples.append(Example(image, name, split))
    notes = [f"The splits are those of the column {split_column}."] if split_column else []
    if not missing:
        return examples, notes
    text = f"{path} names {len(missing):,} images of {len(rows):,} that are not there, such as {missing[0]}"
    if len(missing) > len(rows) // 10:
        raise errors.DataError(f"{text}.")
    return examples, [*notes, f"{text}: left out."]


def _splits_of(
    rows: Sequence[Row], columns: Sequence[str], given: str | None, path: pathlib.Path
) -> tuple[list[str], str | None]:
    """Returns (the split of each row, the column that says so); without such a column, all are "train".

    Raises:
        DataError: If several columns may be meant, or a value is not the name of a split.
    """
    found = [name for name in columns if name.lower() in _SPLIT_COLUMNS or _says_splits(rows, name)]
    if given is not None:
        found = [given] if given != NO_COLUMN else []
    if len(found) > 1:
        raise errors.DataError(
            f"{path} has several columns that may say which images are for training: {', '.join(found)}. Name one, or "
            f"none: --split_column={found[0]}, --split_column={NO_COLUMN}."
        )
    if not found:
        return ["train"] * len(rows), None
    values = [row.get(found[0], "").strip() for row in rows]
    meaning = _flag_meaning(found[0]) or _SPLIT_VALUES
    if unknown := collections.Counter(value for value in values if value.lower() not in meaning):
        counted = datasets.abbreviate([f"{value!r} ({count:,})" for value, count in unknown.most_common()])
        raise errors.DataError(
            f"{path}: the column {found[0]} has values that do not name a split: {counted}. It takes "
            f"{', '.join(meaning)}. --split_column={NO_COLUMN} ignores it, and a tenth of the images is held out."
        )
    return [meaning[value.lower()] for value in values], found[0]


def _says_splits(rows: Sequence[Row], name: str) -> bool:
    """Returns whether a column looks like one of splits: by its values, or as `is_valid` with zeros and ones."""
    values = {row.get(name, "").strip().lower() for row in rows}
    return len(values) > 1 and values <= (_flag_meaning(name) or _SPLIT_VALUES).keys()


def _flag_meaning(name: str) -> dict[str, str] | None:
    """Returns {value: split} of a column such as `is_valid` or `is_training_img`, or None for any other."""
    splits = labelled_files.splits_named(name)
    if len(splits) != 1 or not re.match("[^a-z]*is(?![a-z])", name.lower()):
        return None
    [split] = splits
    other = "test" if split == "train" else "train"
    return {value: split if is_one else other for value, is_one in _INDICATORS.items() if value}


def _column(given: str | None, flag: str, columns: Sequence[str], path: pathlib.Path) -> str | None:
    """Returns the column that was asked for by its name or its number, or None."""
    if given is None or given in columns:
        return given
    if given.isdecimal() and int(given) < len(columns):
        return columns[int(given)]
    raise errors.DataError(f"--{flag}={given}: {path} has the columns {', '.join(columns)}.")


def _label_columns(
    rows: Sequence[Row], candidates: list[str], class_names: Collection[str], path: pathlib.Path
) -> list[str]:
    """Returns the column of the labels, or several: one of zeros and ones for each class."""
    usual = [name for usual in _LABEL_COLUMNS for name in candidates if name.lower() == usual]
    if usual:
        return usual[:1]
    flags = [name for name in candidates if all(row.get(name, "x").strip().lower() in _INDICATORS for row in rows)]
    if len(flags) >= max(2, len(candidates) - 1) and not any(name.isdecimal() for name in flags):
        return flags
    known = [name for name in candidates if all(row.get(name, "").strip() in class_names for row in rows)]
    for found in (known, candidates):
        if len(found) == 1:
            return found
    raise errors.DataError(
        f"{path} has the columns {', '.join(rows[0])}; which one holds the labels is not clear. Name it: "
        "--label_column=NAME (or its number, from 0)."
    )


def _class_of(row: Row, columns: Sequence[str], image: str, path: pathlib.Path) -> str:
    """Returns a row's class: the text of its column, or the name of the one that holds a 1."""
    if len(columns) == 1:
        if not (name := row[columns[0]].strip()):
            raise errors.DataError(f"{path} has no label for {image}.")
        return labelled_files.composed(name)
    chosen = [name for name in columns if _INDICATORS[row[name].strip().lower()]]
    if len(chosen) != 1:
        raise errors.DataError(
            f"{path} has a column of zeros and ones for each of {datasets.abbreviate(columns)}; {image} has "
            f"{f'several: {datasets.abbreviate(chosen)}' if chosen else 'no 1'}. An image has one class here: leave "
            "its line out, or name one column of labels: --label_column=NAME."
        )
    return chosen[0]


def stated_classes(directory: pathlib.Path) -> list[Example]:
    """Returns the images whose name is a class and a number, at any depth."""
    paths = labelled_files.files_in(directory)[0]
    return [Example(path, match[1]) for path in paths if (match := _STATED.fullmatch(pathlib.PurePath(path).stem))]


def check_names(directory: pathlib.Path) -> None:
    """Refuses images in no class folders whose names seem to state their classes: IMG_1.jpg and DSC_1.jpg do not.

    Raises:
        DataError: Says what to type if they do.
    """
    counts = collections.Counter(each.class_name for each in stated_classes(directory))
    if 2 <= len(counts) <= _MOST_STATED and min(counts.values()) > 1:
        raise errors.DataError(
            f"{directory} holds no class folders. Are the classes in the names of the files: "
            f"{datasets.abbreviate(sorted(counts))}? Then type\n  "
            + shell.command_line("train", data_dir=directory, labels=FILE_NAMES)
        )
