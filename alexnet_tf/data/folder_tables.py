"""Tables beside folders of images: do the folders say the classes, or a file of labels?

Folders may be those of cameras, patients or years. A file that divides the images as the folders do says nothing else.
"""

import os
import pathlib
from collections.abc import Sequence

from alexnet_tf.data import label_files, labelled_files
from alexnet_tf.data.labelled_files import Example
from alexnet_tf.support import errors, shell

_ENDINGS = (".csv", ".tsv", ".jsonl")

# A larger table holds more than names and labels: pixels, for example.
_MOST_BYTES = 50_000_000


def find(folder: pathlib.Path) -> tuple[pathlib.Path | None, list[str]]:
    """Looks for tables beside class folders that name half of the images there and are not divided as the folders are.

    Returns:
        (one that is called as files of labels are and has labels; notes about the others).
    """
    usual = label_files.usual_file(folder)
    notes: list[str] = []
    others = sorted(each.path for each in list(os.scandir(folder)) if each.name.lower().endswith(_ENDINGS))
    tables = dict.fromkeys([*filter(None, [usual]), *map(pathlib.Path, others)])
    images = labelled_files.files_in(folder)[0] if tables else []
    for path in tables:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            continue
        try:
            named = _images_named(label_files.read_rows(path), label_files.image_finder(folder))
        except errors.DataError as error:
            notes.append(f"{error} The folders are taken for the classes.")
            continue
        tops = {_parts(image, folder)[0] for image in named}
        total = sum(_parts(image, folder)[0] in tops for image in images)
        if not named or 2 * len(named) < total:
            continue
        try:
            examples, _ = label_files.read(path, folder)
        except errors.DataError:
            examples = []
        if examples and _is_divided_as_folders(examples, folder):
            continue
        if examples and path == usual:
            return path, notes
        notes.append(
            f"{path} names {len(named):,} of {total:,} images, but the folders are taken for the classes. If it has "
            f"the labels: {shell.command_line('train', data_dir=folder, labels=path.name)}"
        )
    return None, notes


def _parts(path: str, folder: pathlib.Path) -> list[str]:
    return os.path.relpath(path, folder).split(os.sep)


def _images_named(rows: Sequence[label_files.Row], find_image: label_files.FindImage) -> set[str]:
    """Returns the images that are named in the column that names most."""

    def images(rows: Sequence[label_files.Row], column: str) -> set[str]:
        return {image for row in rows if (image := find_image(row.get(column, "")))}

    return images(rows, max(rows[0], key=lambda column: len(images(rows[:200], column)), default=""))


def _is_divided_as_folders(examples: Sequence[Example], folder: pathlib.Path) -> bool:
    """Returns whether there is one class in each folder of some level, and one folder for each class."""
    names = [each.class_name for each in examples]
    levels = zip(*(_parts(each.path, folder)[:-1] for each in examples))
    return any(len(set(zip(level, names))) == len(set(level)) == len(set(names)) for level in levels)
