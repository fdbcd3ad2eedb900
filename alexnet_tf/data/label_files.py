"""Labels in a file: CSV, TSV, text or JSON lines beside images that lie in no class folders.

Which split an image belongs to is said by a file for each split (`train.csv`, `val.csv`), by a column `split`, or else
by a hash. How a line is read: `label_tables`.
"""

import collections
import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Callable, Sequence

import numpy as np

from alexnet_tf.data import class_folders, datasets, folder_scan, label_tables
from alexnet_tf.support import errors

# Names of the file, without ending, that is looked for; and of those for one split each.
_NAMES = ("labels", "train_labels", "trainlabels", "train", "training", "annotations", "metadata")

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
    names = [name + ending for name in _NAMES for ending in label_tables.ENDINGS]
    found = next((files[name] for name in names if name in files), None)
    if found is None or not any(_has_images(directory / name) for name in _IMAGE_FOLDERS):
        return None
    return pathlib.Path(found)


def _has_images(folder: pathlib.Path) -> bool:
    return folder.is_dir() and any(
        entry.is_file() and not entry.name.startswith(".") and folder_scan.kind_of(entry.path)
        for entry in list(os.scandir(folder))
    )


def read(
    directory: pathlib.Path,
    options: LabelOptions = LabelOptions(),  # noqa: B008
) -> datasets.DataSet:
    """Reads a data set whose labels are in a file.

    Args:
        directory: Where the images are, at any depth.
        options: Which file and columns.

    Raises:
        DataError: If the file or its columns cannot be understood, or images are missing.
    """
    path = _labels_path(directory, options)
    images = label_tables.ImageIndex(directory)
    read_file = functools.partial(
        label_tables.examples, images=images, image_column=options.image_column, label_column=options.label_column
    )
    examples = [(each, split or "train") for each, split in read_file(path)]
    others = _files_of_other_splits(path)
    for other, split in others.items():
        examples += [(each, split) for each, _ in read_file(other)]
    images.notes += _repeated(path, examples)
    if all(split == "train" for _, split in examples):
        examples = _held_out(examples, directory)
        note = (
            f"Labels from {path.name}. Split 90/10 in each class by a hash of class and path: the same for the "
            "same files."
        )
    else:
        source = "the files of each split" if others else "its column of splits"
        note = f"Labels from {path.name}; splits from {source}."
    names = sorted({name for (_, name), split in examples if split == "train"}, key=_class_order(examples))
    if len(names) < 2:
        raise errors.DataError(f"{path} must name at least two classes; got {names}.")
    for name in names:
        folder_scan.check_class_name(name, str(path))
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
        directory.name,
        str(directory),
        tuple(names),
        splits,
        validation,
        notes,
        split_rule="class_and_path",
        options=given | ({"labels": str(path)} if "labels" in given else {}),
    )


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
        middle = stem[len(start) : len(stem) - len(end)] if stem.startswith(start) and stem.endswith(end) else ""
        split = label_tables.SPLIT_NAMES.get(middle)
        if ending == path.suffix.lower() and split and _has_labels(pathlib.Path(entry.path), path):
            found[pathlib.Path(entry.path)] = split
    return found


def _has_labels(path: pathlib.Path, like: pathlib.Path) -> bool:
    """Returns whether a file has as many columns as that of the training images: Kaggle's test files have no labels."""
    return len(label_tables.rows(path)[0][0]) >= len(label_tables.rows(like)[0][0])


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


def _repeated(path: pathlib.Path, examples: Sequence[tuple[tuple[str, str], str]]) -> list[str]:
    """Returns notes about images that are named more than once: with several labels, or in several splits.

    Raises:
        DataError: If more than a tenth of the images have several labels.
    """
    names, splits = collections.defaultdict(set), collections.defaultdict(set)
    for (image, name), split in examples:
        names[image].add(name)
        splits[image].add(split)
    notes = []
    if several := sorted(image for image, each in names.items() if len(each) > 1):
        text = (
            f"{path.name} gives {len(several):,} images of {len(names):,} several labels, such as {several[0]}: "
            f"{datasets.abbreviate(sorted(names[several[0]]))}"
        )
        if len(several) > len(names) // 10:
            raise errors.DataError(
                f"{text}. An image has one class here: leave one line for each image, or join the labels to one name."
            )
        notes.append(f"{text}. It is learned as each of them.")
    if shared := sorted(image for image, each in splits.items() if len(each) > 1):
        notes.append(
            f"{len(shared):,} images are in several splits, such as {shared[0]} in "
            f"{' and '.join(sorted(splits[shared[0]]))}: the error that is measured on them is too good."
        )
    return notes
