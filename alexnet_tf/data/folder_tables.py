"""Tables beside folders of images: do the folders say the classes, or a file of labels?

Folders may be those of cameras, patients or years. A file that divides the images as the folders do says nothing else.
"""

import functools
import os
import pathlib
from collections.abc import Sequence

from alexnet_tf.data import label_files, labelled_files
from alexnet_tf.data.labelled_files import Example
from alexnet_tf.data.options import ExampleOptions
from alexnet_tf.support import errors, shell

_ENDINGS = (".csv", ".tsv", ".jsonl")

# A larger table holds more than names and labels: pixels, for example.
_MOST_BYTES = 50_000_000


def find(folder: pathlib.Path, options: ExampleOptions) -> tuple[pathlib.Path | None, list[str]]:
    """Looks for tables that name half of the images or more and divide them in another way than the folders do.

    Returns:
        (one that is called as files of labels are, or None; notes about the others).
    """
    usual = label_files.usual_file(folder)
    others = [each.path for each in labelled_files.entries(folder) if each.name.lower().endswith(_ENDINGS)]
    images = functools.cache(lambda: labelled_files.files_in(folder)[0])
    notes: list[str] = []
    for path in dict.fromkeys([*filter(None, [usual]), *map(pathlib.Path, others)]):
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            continue
        try:
            examples, _ = label_files.read(path, folder, options)
        except label_files.NamesNoImage:
            continue
        except errors.DataError as error:
            notes.append(f"{error} The folders are taken for the classes.")
            continue
        places = {os.path.dirname(each.path) for each in examples}
        total = sum(os.path.dirname(image) in places for image in images())
        if 2 * len(examples) < total or _is_divided_as_folders(examples, folder):
            continue
        if path == usual:
            return path, [f"The folders divide the images in another way than {path.name}: they are not the classes."]
        command = shell.command_line("train", data_dir=folder, labels=path.name)
        notes.append(
            f"{path} has other labels than the folders, which are taken for the classes. To take its: {command}"
        )
    return None, notes


def _is_divided_as_folders(examples: Sequence[Example], folder: pathlib.Path) -> bool:
    """Returns whether there is one class in each folder of some level, and one folder for each class."""
    names = [each.class_name for each in examples]
    levels = zip(*(os.path.relpath(each.path, folder).split(os.sep)[:-1] for each in examples))
    return any(len(set(zip(level, names))) == len(set(level)) == len(set(names)) for level in levels)
