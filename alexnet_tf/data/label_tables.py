"""What a line of a file of labels says: which image, which class, which split.

Columns are found by looking: the image's is the one whose values name files, with or without folder and ending; the
label's is called so, holds known classes, or is the only other one; or each class has a column of zeros and ones.
"""

import csv
import json
import os
import pathlib
import unicodedata
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from alexnet_tf.data import datasets, folder_scan
from alexnet_tf.support import errors

ENDINGS = (".csv", ".tsv", ".txt", ".jsonl")

SPLIT_NAMES = {"val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}

_LABEL_COLUMNS = (
    "label",
    "labels",
    "class",
    "class_name",
    "category",
    "target",
    "breed",
    "species",
    "level",
    "diagnosis",
    "y",
)

_SPLIT_COLUMNS = ("split", "set", "subset", "partition", "fold")

# Names of the file beside the images of one split, without ending; {} is the split's name.
_NAMES_IN_SPLIT = ("{}_annotations", "{}_labels", "{}", "labels", "annotations", "metadata", "_classes")

# Values of a column that says whether an image is of one class.
_INDICATORS = {"": 0, "0": 0, "0.0": 0, "1": 1, "1.0": 1, "false": 0, "true": 1}


def find_in_split(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the file of labels in the folder of one split, or beside it (`val.csv` beside `val`), or None."""
    for where, names in (
        (folder, [name.format(folder.name) for name in _NAMES_IN_SPLIT]),
        (folder.parent, [name.format(folder.name) for name in _NAMES_IN_SPLIT if "{}" in name]),
    ):
        files = {entry.name.lower(): entry.path for entry in list(os.scandir(where)) if entry.is_file()}
        for name in names:
            for ending in ENDINGS:
                if name.lower() + ending in files:
                    return pathlib.Path(files[name.lower() + ending])
    return None


def read_split(path: pathlib.Path, folder: pathlib.Path, class_names: Collection[str] = ()) -> folder_scan.FolderScan:
    """Returns the images of one split by the classes that a file states.

    Args:
        path: From `find_in_split`.
        folder: Where the images are, at any depth.
        class_names: Classes that are known already.

    Raises:
        DataError: As `examples`.
    """
    images = ImageIndex(folder)
    result = folder_scan.FolderScan(notes=[f"Labels of {folder.name} from {path}."])
    for (image, name), _ in examples(path, images, class_names=class_names):
        folder_scan.check_class_name(name, str(path))
        result.classes.setdefault(name, []).append(image)
    result.notes += images.notes
    return result


def examples(
    path: pathlib.Path,
    images: "ImageIndex",
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    class_names: Collection[str] = (),
) -> list[tuple[tuple[str, str], str | None]]:
    """Returns [((image file, class name), split or None)] of a file's lines.

    Args:
        path: The file.
        images: Where they are.
        image_column: Name or number of the column that names the images; None is found by looking.
        label_column: The same of the labels.
        class_names: Classes that are known already.

    Raises:
        DataError: If the columns cannot be found, or more than a tenth of the images.
    """
    table, header = rows(path)
    found_column = images.column_of(table)
    if image_column is None and found_column is None:
        raise errors.DataError(
            f"{path} names no image that lies beside it, in any column; a line is {', '.join(table[0])[:200]}. Move "
            "the images or the file, so that the names are paths from where the file is."
        )
    image_number = _column(image_column, "image_column", header, path, found_column)
    if label_column is None and (of_line := _indicated(path, table, header, image_number)):
        table, label_number = [[*row, name] for row, name in zip(table, of_line)], -1
    else:
        label_number = _column(
            label_column, "label_column", header, path, _label_column(header, table, image_number, class_names)
        )
    split_number = next((header.index(name) for name in header if name.lower() in _SPLIT_COLUMNS), None)
    found, missing = [], []
    for row in table:
        if len(row) <= max(image_number, label_number):
            needed = max(image_number, label_number) + 1
            raise errors.DataError(f"{path} has a line with {len(row)} columns, {row}; at least {needed} are needed.")
        image = images.find(row[image_number])
        name = row[label_number].strip()
        if image is None:
            missing.append(row[image_number])
        elif name:
            split = SPLIT_NAMES.get(row[split_number].strip().lower(), "train") if split_number is not None else None
            found.append(((image, name), split))
        else:
            raise errors.DataError(f"{path} has no label for {row[image_number]}.")
    if missing:
        text = f"{path} names {len(missing):,} images of {len(table):,} that are not there, such as {missing[0]}"
        if len(missing) > len(table) // 10:
            raise errors.DataError(f"{text}.")
        images.notes.append(f"{text}: left out.")
    return found


def _indicated(
    path: pathlib.Path, table: Sequence[Sequence[str]], header: Sequence[str], image_number: int
) -> list[str]:
    """Returns the class of each line where each class has a column of zeros and ones, or nothing.

    Raises:
        DataError: If a line has no class or several.
    """
    named = [
        number for number, name in enumerate(header) if number != image_number and name.lower() not in _SPLIT_COLUMNS
    ]
    if any(header[number].lower() in _LABEL_COLUMNS for number in named):
        return []
    columns = [
        number
        for number in named
        if all(number < len(row) and row[number].strip().lower() in _INDICATORS for row in table)
    ]
    if len(columns) < 2 or len(columns) < len(named) - 1:
        return []
    classes = []
    for row in table:
        chosen = [header[number] for number in columns if _INDICATORS[row[number].strip().lower()]]
        if len(chosen) != 1:
            all_names = datasets.abbreviate([header[number] for number in columns])
            raise errors.DataError(
                f"{path} has a column of zeros and ones for each of {all_names}; {row[image_number]} has "
                f"{f'several: {datasets.abbreviate(chosen)}' if chosen else 'no 1'}. An image has one class here: "
                "leave its line out, or name one column of labels: --label_column=NAME."
            )
        classes.append(chosen[0])
    return classes


def rows(path: pathlib.Path) -> tuple[list[list[str]], list[str]]:
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
    table = _split_lines(lines, path.suffix.lower())
    named = [name.strip() for name in table[0]]
    is_header = len(table) > 1 and (
        any(name.lower() in (*_LABEL_COLUMNS, *_SPLIT_COLUMNS) for name in named)
        or (not any(os.path.splitext(name)[1] for name in named) and not any(name.isdecimal() for name in named))
    )
    return (table[1:], named) if is_header else (table, [])


def _split_lines(lines: Sequence[str], ending: str) -> list[list[str]]:
    delimiter = max(",;\t", key=lines[0].count)
    if ending == ".txt" and delimiter not in lines[0]:
        return [line.rsplit(maxsplit=1) if len(line.split()) > 1 else [line] for line in lines]
    return list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))


def _column(given: str | None, flag: str, header: Sequence[str], path: pathlib.Path, found: int | None) -> int:
    """Returns the number of a column: the one that was asked for, or the one that was found."""
    there = f"{path} has the columns {', '.join(header) or 'without names'}"
    if given is not None:
        if given in header:
            return header.index(given)
        if given.isdecimal():
            return int(given)
        raise errors.DataError(f"--{flag}={given}: {there}.")
    if found is None:
        raise errors.DataError(
            f"{there}; which one is meant is not clear. Name it: --{flag}=NAME (or its number, from 0)."
        )
    return found


def _label_column(
    header: Sequence[str], table: Sequence[Sequence[str]], image_column: int, class_names: Collection[str]
) -> int | None:
    for name in _LABEL_COLUMNS:
        for number, each in enumerate(header):
            if each.lower() == name and number != image_column:
                return number
    known = [
        number
        for number in range(len(table[0]))
        if class_names and all(number < len(row) and row[number].strip() in class_names for row in table)
    ]
    if len(known) == 1:
        return known[0]
    others = [
        number
        for number in range(len(table[0]))
        if number != image_column and not (header and header[number].lower() in _SPLIT_COLUMNS)
    ]
    return others[0] if len(others) == 1 else None


class ImageIndex:
    """The images of a directory by what a file of labels may call them: with or without folder and ending."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.notes: list[str] = []
        self._paths: dict[str, str | None] = {}
        for path in _images(directory):
            relative = os.path.relpath(path, directory)
            key = unicodedata.normalize("NFC", relative)
            for name in {
                relative,
                os.path.splitext(relative)[0],
                os.path.basename(relative),
                os.path.splitext(os.path.basename(relative))[0],
            }:
                name = unicodedata.normalize("NFC", name)  # macOS takes accents apart in the names of files.
                self._paths[name] = path if name == key or name not in self._paths else None

    def find(self, name: str) -> str | None:
        """Returns the image of a name, or None if there is none or several."""
        name = os.path.normpath(unicodedata.normalize("NFC", name.strip()).replace("\\", "/"))
        return self._paths.get(name) or self._paths.get(os.path.basename(name))

    def column_of(self, table: Sequence[Sequence[str]]) -> int | None:
        """Returns the number of the column that names images most often."""
        counts: list[int] = [
            sum(self.find(row[number]) is not None for row in table[:200] if number < len(row))
            for number in range(len(table[0]))
        ]
        return int(np.argmax(counts)) if any(counts) else None


def _images(directory: pathlib.Path) -> Iterator[str]:
    """Yields the images at any depth."""
    for folder, folders, names in os.walk(directory):
        folders[:] = sorted(name for name in folders if not folder_scan.is_junk(name))
        for name in sorted(names):
            path = os.path.join(folder, name)
            if not name.startswith(".") and folder_scan.kind_of(path):
                yield path
