"""ImageNet as people unpack it: class folders of training images and a flat folder of numbered validation images.

Also as Kaggle packs it, below `ILSVRC/Data/CLS-LOC`. The labels of the 50,000 validation images are TFDS's.
"""

import os
import pathlib
import re

import numpy as np

from alexnet_tf.data import datasets, folder_scan, imagenet_tars
from alexnet_tf.support import errors

_ROOTS = (".", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "CLS-LOC")

_VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.jpe?g", re.IGNORECASE)


def find(directory: pathlib.Path) -> datasets.DataSet | None:
    """Finds ImageNet's images, if a directory holds them with a flat validation folder.

    Args:
        directory: Holds `train` and `val`, or Kaggle's folders around them.

    Raises:
        DataError: If no validation image is of a class of train.
    """
    root = next(
        (
            directory / each
            for each in _ROOTS
            if (directory / each / "train").is_dir() and (directory / each / "val").is_dir()
        ),
        None,
    )
    if root is None or folder_scan.subfolders(root / "val"):
        return None
    numbered = {
        entry.path: match
        for entry in list(os.scandir(root / "val"))
        if (match := _VALIDATION_NAME.fullmatch(entry.name))
    }
    if not numbered:
        return None
    scan = folder_scan.scan(root / "train")
    class_names = tuple(sorted(scan.classes))
    label_of = {name: label for label, name in enumerate(class_names)}
    ids = imagenet_tars.validation_ids()
    labelled = [
        (path, label_of[wordnet_id])
        for path, match in sorted(numbered.items())
        if 1 <= int(match[1]) <= len(ids) and (wordnet_id := ids[int(match[1]) - 1]) in label_of
    ]
    if not labelled:
        raise errors.DataError(f"{root / 'val'} holds no image of the {len(class_names)} classes of {root / 'train'}.")
    notes = ["The labels of the numbered validation images are those of ILSVRC2012."]
    if len(labelled) < len(numbered):
        notes.append(
            f"{len(numbered) - len(labelled):,} validation images are left out: their classes are not in train."
        )
    if (root / "test").is_dir():
        notes.append(f"{root / 'test'} is left out: its images have no labels.")
    paths, labels = zip(*labelled)
    splits = {
        "train": folder_scan.image_files(scan.classes, class_names),
        "val": datasets.ImageFiles(paths, np.array(labels, "int32")),
    }
    return datasets.DataSet(directory.name, str(directory), class_names, splits, "val", (*notes, *scan.notes))
