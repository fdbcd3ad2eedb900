"""What rows say: turns a table, {column: text} for each row, into images with a class and a split.

Columns are found by looking: the image's is the one whose values name files, with or without folder and ending; the
label's is called so, holds known classes, or is the only other one; or each class has a column of zeros and ones.
"""

import os
import pathlib
import typing
from collections.abc import Collection, Mapping, Sequence

from alexnet_tf.data import datasets, labelled_files
from alexnet_tf.data.options import ExampleOptions
from alexnet_tf.support import errors

SPLIT_NAMES = {"val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}

LABEL_COLUMNS = "label labels class class_name category target breed species level diagnosis y".split()

SPLIT_COLUMNS = ("split", "set", "subset", "partition", "fold")

# Values of a column that says whether an image is of one class.
_INDICATORS = {"": 0, "0": 0, "0.0": 0, "1": 1, "1.0": 1, "false": 0, "true": 1}

Row = Mapping[str, str]


class Example(typing.NamedTuple):
    """What a row says: the image's file, its class, and its split: "train", "val" or "test"."""

    path: str
    class_name: str
    split: str = "train"


class ImageIndex:
    """The images of a directory by what a row may call them: with or without folder and ending."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._paths: dict[str, str | None] = {}
        whole: dict[str, str | None] = {}
        for path in labelled_files.files_in(directory)[0]:
            name = labelled_files.composed(os.path.relpath(path, directory))
            whole[name] = path
            for each in {os.path.splitext(name)[0], os.path.basename(name), pathlib.PurePath(name).stem}:
                self._paths[each] = None if each in self._paths else path  # Of several, none is meant.
        self._paths |= whole

    def find(self, name: str) -> str | None:
        """Returns the image of a name, or None if there is none or several."""
        name = os.path.normpath(labelled_files.composed(name.strip()).replace("\\", "/"))
        return self._paths.get(name) or self._paths.get(os.path.basename(name))


def examples_of(
    rows: Sequence[Row],
    images: ImageIndex,
    path: pathlib.Path,
    options: ExampleOptions = ExampleOptions(),  # noqa: B008
    class_names: Collection[str] = (),
) -> tuple[list[Example], list[str]]:
    """Returns (what the rows say, notes about images that are not there).

    Args:
        rows: {column: text}, all with the columns of the first.
        images: Where the images are.
        path: The file, for messages.
        options: Which columns are meant; None is found by looking.
        class_names: Classes that are known already.

    Raises:
        DataError: If the columns cannot be found, or more than a tenth of the images.
    """
    columns = list(rows[0])
    counts = {name: sum(images.find(row.get(name, "")) is not None for row in rows[:200]) for name in columns}
    if options.image_column is None and not any(counts.values()):
        raise errors.DataError(
            f"{path} names no image that lies beside it, in any column; a line is {', '.join(rows[0].values())[:200]}. "
            "Move the images or the file, so that the names are paths from where the file is."
        )
    image_column = _column(options.image_column, "image_column", columns, path) or max(columns, key=counts.__getitem__)
    split_column = next((name for name in columns if name.lower() in SPLIT_COLUMNS), None)
    candidates = [name for name in columns if name not in (image_column, split_column)]
    label_column = _column(options.label_column, "label_column", columns, path)
    label_columns = [label_column] if label_column else _label_columns(rows, candidates, class_names, path)
    examples, missing = [], []
    for row in rows:
        if lacking := {image_column, *label_columns} - row.keys():
            raise errors.DataError(f"{path} has a line without the column {min(lacking)}: {', '.join(row.values())}.")
        image, name = images.find(row[image_column]), _class_of(row, label_columns, row[image_column], path)
        if image is None:
            missing.append(row[image_column])
        else:
            split = SPLIT_NAMES.get(row[split_column].strip().lower(), "train") if split_column else "train"
            examples.append(Example(image, name, split))
    if not missing:
        return examples, []
    text = f"{path} names {len(missing):,} images of {len(rows):,} that are not there, such as {missing[0]}"
    if len(missing) > len(rows) // 10:
        raise errors.DataError(f"{text}.")
    return examples, [f"{text}: left out."]


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
    usual = [name for usual in LABEL_COLUMNS for name in candidates if name.lower() == usual]
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
