"""Labels in a file: CSV, TSV, text or JSON lines beside images that lie in no class folders.

Columns are found by looking: the image's is the one whose values name files, with or without folder and ending; the
label's is called so, or is the only other one. Which split an image belongs to is said by a file for each split
(`train.csv`, `val.csv`), by a column `split`, or else by a hash.
"""

import collections
import csv
import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from alexnet_tf import errors
from alexnet_tf.data import class_folders, datasets, folder_scan

_ENDINGS = (".csv", ".tsv", ".txt", ".jsonl")

# Names of the file, without ending, that is looked for; and of those for one split each.
_NAMES = ("labels", "train_labels", "trainlabels", "train", "training", "annotations", "metadata")

_SPLIT_NAMES = {"val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}

_LABEL_COLUMNS = (
    "label", "labels", "class", "class_name", "category", "target", "breed", "species", "level", "diagnosis", "y")

_SPLIT_COLUMNS = ("split", "set", "subset", "partition", "fold")

# Folders where flat images are looked for.
_IMAGE_FOLDERS = ("", "images", "image", "img", "imgs", "train", "train_images", "jpg")


@dataclasses.dataclass(frozen=True)
class LabelOptions:
    """Which file has the labels and which columns; None is found by looking.

    Attributes:
        labels: The file; relative to the data directory or to the working directory.
        image_column: Name of the column that names images, or its number from 0.
        label_column: Name of the column of the labels, or its number from 0.
    """

    labels: str | None = None
    image_column: str | None = None
    label_column: str | None = None


def find_labels(directory: pathlib.Path) -> pathlib.Path | None:
    """Returns a directory's file of labels where its images lie in no class folders, or None."""
    files = {entry.name.lower(): entry.path for entry in list(os.scandir(directory)) if entry.is_file()}
    found = next((files[name + ending] for name in _NAMES for ending in _ENDINGS if name + ending in files), None)
    if found is None or not any(_has_images(directory / name) for name in _IMAGE_FOLDERS):
        return None
    return pathlib.Path(found)


def _has_images(folder: pathlib.Path) -> bool:
    return folder.is_dir() and any(
        entry.is_file() and not entry.name.startswith(".") and folder_scan.kind_of(entry.path)
        for entry in list(os.scandir(folder)))


def read(
    directory: pathlib.Path, options: LabelOptions = LabelOptions(), *, for_prepare: bool = False  # noqa: B008
) -> datasets.DataSet:
    """Reads a data set whose labels are in a file.

    Args:
        directory: Where the images are, at any depth.
        options: Which file and columns.
        for_prepare: Whether formats that only `prepare` reads are images too.

    Raises:
        DataError: If the file or its columns cannot be understood, or images are missing.
    """
    path = _labels_path(directory, options)
    images = _ImageIndex(directory)
    examples = [(each, split or "train") for each, split in _examples(path, images, options)]
    for other, split in _files_of_other_splits(path).items():
        examples += [(each, split) for each, _ in _examples(other, images, options)]
    if all(split == "train" for _, split in examples):
        examples = _held_out(examples, directory)
        note = (f"Labels from {path.name}. Split 90/10 in each class by a hash of class and path: the same for the "
                "same files.")
    else:
        source = "the files of each split" if _files_of_other_splits(path) else "its column of splits"
        note = f"Labels from {path.name}; splits from {source}."
    names = sorted({name for (_, name), split in examples if split == "train"}, key=_class_order(examples))
    if len(names) < 2:
        raise errors.DataError(f"{path} must name at least two classes; got {names}.")
    for name in names:
        folder_scan.check_class_name(name, str(path))
    if not for_prepare:
        others = collections.Counter(name for (path, name), _ in examples if path in images.convertible)
        folder_scan.check_formats([folder_scan.FolderScan(other_formats=dict(others))], directory)
    unknown = sorted({name for (_, name), _ in examples} - set(names))
    if unknown:
        raise errors.DataError(f"{path}: classes without a training image: {datasets.abbreviate(unknown)}.")
    label_of = {name: label for label, name in enumerate(names)}
    splits = {}
    for split in ("train", "val", "test"):
        chosen = [(path, label_of[name]) for (path, name), where in examples if where == split]
        if chosen:
            paths, labels = zip(*chosen)
            splits[split] = datasets.ImageFiles(paths, np.array(labels, "int32"))
    validation = "val" if "val" in splits else "test"
    notes = (note, *images.notes, *([class_folders.CHOSEN_ON_TEST] if validation == "test" else []))
    given = {name: value for name, value in dataclasses.asdict(options).items() if value is not None}
    return datasets.DataSet(
        directory.name, str(directory), tuple(names), splits, validation, notes, split_rule="class_and_path",
        options=given | ({"labels": str(path)} if "labels" in given else {}))


def _labels_path(directory: pathlib.Path, options: LabelOptions) -> pathlib.Path:
    if options.labels is None:
        found = find_labels(directory)
        if found is None:
            raise errors.DataError(f"{directory} holds no file of labels, such as labels.csv. Name it: --labels=FILE.")
        return found
    for path in (directory / options.labels, pathlib.Path(options.labels).expanduser().absolute()):
        if path.is_file():
            return path
    raise errors.DataError(f"--labels={options.labels} does not exist; looked in {directory} and in {os.getcwd()}.")


def _files_of_other_splits(path: pathlib.Path) -> dict[pathlib.Path, str]:
    """Returns {file: split} of the files beside `train.csv` that are named as a validation or test split."""
    if "train" not in path.stem.lower():
        return {}
    start, _, end = path.stem.lower().partition("train")
    found = {}
    for entry in sorted(os.scandir(path.parent), key=lambda entry: entry.name):
        stem, ending = os.path.splitext(entry.name.lower())
        middle = stem[len(start):len(stem) - len(end)] if stem.startswith(start) and stem.endswith(end) else ""
        if ending == path.suffix.lower() and middle in _SPLIT_NAMES and _has_labels(pathlib.Path(entry.path), path):
            found[pathlib.Path(entry.path)] = _SPLIT_NAMES[middle]
    return found


def _has_labels(path: pathlib.Path, like: pathlib.Path) -> bool:
    """Returns whether a file has as many columns as that of the training images: Kaggle's test files have no labels."""
    return len(_rows(path)[0][0]) >= len(_rows(like)[0][0])


def _examples(
    path: pathlib.Path, images: "_ImageIndex", options: LabelOptions) -> list[tuple[tuple[str, str], str | None]]:
    """Returns [((image file, class name), split or None)] of a file's lines.

    Raises:
        DataError: If the columns cannot be found, or more than a tenth of the images.
    """
    rows, header = _rows(path)
    image_column = _column(options.image_column, "image_column", header, path, images.column_of(rows))
    label_column = _column(
        options.label_column, "label_column", header, path, _label_column(header, rows, image_column)
    )
    split_column = (
        next((header.index(name) for name in header if name.lower() in _SPLIT_COLUMNS), None) if header else None
    )
    examples, missing = [], []
    for row in rows:
        if len(row) <= max(image_column, label_column):
            needed = max(image_column, label_column) + 1
            raise errors.DataError(f"{path} has a line with {len(row)} columns, {row}; at least {needed} are needed.")
        image = images.find(row[image_column])
        name = row[label_column].strip()
        if image is None:
            missing.append(row[image_column])
        elif name:
            split = _SPLIT_NAMES.get(row[split_column].strip().lower(), "train") if split_column is not None else None
            examples.append(((image, name), split))
        else:
            raise errors.DataError(f"{path} has no label for {row[image_column]}.")
    if missing:
        text = f"{path} names {len(missing):,} images of {len(rows):,} that are not there, such as {missing[0]}"
        if len(missing) > len(rows) // 10:
            raise errors.DataError(f"{text}.")
        images.notes.append(f"{text}: left out.")
    return examples


def _rows(path: pathlib.Path) -> tuple[list[list[str]], list[str]]:
    """Returns (rows of text, names of the columns or nothing); a first line unlike all others is the names."""
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
        header = list(objects[0])
        return [["" if each.get(name) is None else str(each[name]) for name in header] for each in objects], header
    rows = _split_lines(lines, path.suffix.lower())
    named = [name.strip() for name in rows[0]]
    is_header = len(rows) > 1 and (any(name.lower() in (*_LABEL_COLUMNS, *_SPLIT_COLUMNS) for name in named) or (
        not any(os.path.splitext(name)[1] for name in named) and not any(name.isdecimal() for name in named)))
    return (rows[1:], named) if is_header else (rows, [])


def _split_lines(lines: Sequence[str], ending: str) -> list[list[str]]:
    delimiter = max(",;\t", key=lines[0].count)
    if ending == ".txt" and delimiter not in lines[0]:
        return [line.rsplit(maxsplit=1) if len(line.split()) > 1 else [line] for line in lines]
    return list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))


def _column(
    given: str | None, flag: str, header: Sequence[str], path: pathlib.Path, found: int | None) -> int:
    """Returns the number of a column: the one that was asked for, or the one that was found."""
    there = f"{path} has the columns {', '.join(header) or 'without names'}"
    if given is not None:
        if given in header:
            return header.index(given)
        if given.isdecimal():
            return int(given)
        raise errors.DataError(f"--{flag}={given}: {there}.")
    if found is None:
        raise errors.DataError(f"{there}; which one is meant is not clear. Name it: --{flag}=NAME (or its number, "
            "from 0).")
    return found


def _label_column(header: Sequence[str], rows: Sequence[Sequence[str]], image_column: int) -> int | None:
    for name in _LABEL_COLUMNS:
        for number, each in enumerate(header):
            if each.lower() == name and number != image_column:
                return number
    others = [number for number in range(len(rows[0])) if number != image_column
              and not (header and header[number].lower() in _SPLIT_COLUMNS)]
    return others[0] if len(others) == 1 else None


class _ImageIndex:
    """The images of a directory by what a file of labels may call them: with or without folder and ending."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.notes: list[str] = []
        self.convertible: set[str] = set()
        self._paths: dict[str, str | None] = {}
        for path, kind in _images(directory):
            if kind == "convertible":
                self.convertible.add(path)
            relative = os.path.relpath(path, directory)
            for name in {relative, os.path.splitext(relative)[0], os.path.basename(relative),
                         os.path.splitext(os.path.basename(relative))[0]}:
                self._paths[name] = path if name == relative or name not in self._paths else None

    def find(self, name: str) -> str | None:
        """Returns the image of a name, or None if there is none or several."""
        name = os.path.normpath(name.strip().replace("\\", "/"))
        return self._paths.get(name) or self._paths.get(os.path.basename(name))

    def column_of(self, rows: Sequence[Sequence[str]]) -> int | None:
        """Returns the number of the column that names images most often."""
        counts: list[int] = [sum(self.find(row[number]) is not None for row in rows[:200] if number < len(row))
                  for number in range(len(rows[0]))]
        return int(np.argmax(counts)) if any(counts) else None


def _images(directory: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Yields (path, kind as in `folder_scan.kind_of`) of the images at any depth."""
    for folder, folders, names in os.walk(directory):
        folders[:] = sorted(name for name in folders if not folder_scan.is_junk(name))
        for name in sorted(names):
            path = os.path.join(folder, name)
            if not name.startswith(".") and (kind := folder_scan.kind_of(path)):
                yield path, kind


def _class_order(examples: Sequence[tuple[tuple[str, str], str]]) -> Callable[[str], tuple[int, str]]:
    """Returns the key that classes are sorted by: numbers by their value, names as text."""
    is_numeric = all(re.fullmatch(r"\d+", name) for (_, name), _ in examples)
    return (lambda name: (int(name), name)) if is_numeric else (lambda name: (0, name))


def _held_out(
    examples: Sequence[tuple[tuple[str, str], str]], directory: pathlib.Path
) -> list[tuple[tuple[str, str], str]]:
    """Puts a tenth of each class into "val", by the rule of class folders."""
    classes: dict[str, list[str]] = {}
    for (path, name), _ in examples:
        classes.setdefault(name, []).append(path)
    chosen = class_folders.SPLIT_RULES["class_and_path"][0](classes, directory)
    return [((path, name), "val" if path in chosen else "train") for (path, name), _ in examples]
