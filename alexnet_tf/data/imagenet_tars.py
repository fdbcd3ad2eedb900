"""What is in ImageNet's own tar files: finds each image inside them by its offset; nothing is unpacked.

`ILSVRC2012_img_train.tar` holds a tar file for each class, named by its WordNet id; `ILSVRC2012_img_val.tar` holds
images named by number, whose classes are listed in TFDS's `imagenet2012` builder.
"""

import os
import pathlib
import re
import sys
import tarfile
import typing
from collections.abc import Iterator

import numpy as np
import tqdm

from alexnet_tf.data import tfrecords
from alexnet_tf.support import errors

TRAIN, VALIDATION = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"


def are_in(directory: pathlib.Path) -> bool:
    """Returns whether one of the tar files is in a directory."""
    return any((directory / name).is_file() for name in (TRAIN, VALIDATION))


def read(directory: pathlib.Path) -> tuple[tuple[str, ...], dict[str, tfrecords.Records], tuple[str, ...]]:
    """Finds every image in the two tar files; reads their headers only, a minute for ImageNet.

    Returns:
        (WordNet ids of the classes, sorted: the order of TFDS, Caffe and torchvision; splits "train" and "validation";
        notes for a person).

    Raises:
        DataError: If a file is missing, cut, or of another form.
    """
    for name in (TRAIN, VALIDATION):
        if not (directory / name).is_file():
            raise errors.DataError(f"{directory / name} is missing; both {TRAIN} and {VALIDATION} are needed.")
    train = list(_nested_images(directory / TRAIN))
    class_names = tuple(sorted({wordnet_id for wordnet_id, _, _ in train}))
    label_of = {name: label for label, name in enumerate(class_names)}
    validation, strangers = [], 0
    for wordnet_id, offset, length in _numbered_images(directory / VALIDATION):
        if wordnet_id in label_of:
            validation.append((wordnet_id, offset, length))
        else:
            strangers += 1
    if not validation:
        raise errors.DataError(f"{directory / VALIDATION} holds no image of the {len(class_names)} classes of {TRAIN}.")
    notes = (f"{strangers:,} validation images are left out: their classes are not in {TRAIN}.",) if strangers else ()
    splits = {
        name: _records(directory / file, found, label_of)
        for name, file, found in (("train", TRAIN, train), ("validation", VALIDATION, validation))
    }
    return class_names, splits, notes


def _records(path: pathlib.Path, found: list[tuple[str, int, int]], label_of: dict[str, int]) -> tfrecords.Records:
    ids, offsets, lengths = zip(*found)
    return tfrecords.Records(
        (str(path),),
        np.zeros(len(found), "int32"),
        np.array(offsets, "int64"),
        np.array(lengths, "int64"),
        np.array([label_of[each] for each in ids], "int32"),
        name_at=name_at,
    )


def name_at(path: str, offset: int) -> str:
    """Returns the name of the tar member whose data begins at an offset, or the offset where it cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(offset - tarfile.BLOCKSIZE)
            return tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape").name
    except (OSError, tarfile.TarError):
        return f"the image at byte {offset}"


def _members(path: pathlib.Path, file: typing.BinaryIO, end: int) -> Iterator[tarfile.TarInfo]:
    """Yields the regular files of the tar file from where `file` stands to `end`.

    `tarfile` takes a cut between two members, or a damaged header, for the end: so the end's mark is looked for.

    Raises:
        DataError: If it is cut, damaged or no tar file.
    """
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if member.offset_data + member.size > end:
                    raise tarfile.ReadError(f"{member.name} goes beyond its end")
                if member.isreg():
                    yield member
                archive.members = []  # type: ignore[attr-defined]  # Else a million of them would stay in memory.
            file.seek(archive.offset)
            if archive.offset + tarfile.BLOCKSIZE > end or file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"no member and no end at byte {archive.offset}")
    except tarfile.TarError as error:
        raise errors.DataError(f"{path} is cut or damaged: {error}. Download it again.") from error


def _nested_images(path: pathlib.Path) -> Iterator[tuple[str, int, int]]:
    """Yields (WordNet id, offset, length) of each image in a tar file of tar files."""
    with open(path, "rb") as outer, open(path, "rb") as inner:
        with tqdm.tqdm(
            total=os.path.getsize(path),
            unit="B",
            unit_scale=True,
            desc=f"Looking through {path.name}",
            disable=None,
            leave=False,
            file=sys.stderr,
        ) as bar:
            for archive in _members(path, outer, os.path.getsize(path)):
                match = re.fullmatch(r"(n\d{8})\.tar", os.path.basename(archive.name))
                if match is None:
                    raise errors.DataError(
                        f"{path} holds {archive.name}; expected a tar file for each class, such as n01440764.tar."
                    )
                inner.seek(archive.offset_data)
                for member in _members(path, inner, archive.offset_data + archive.size):
                    yield match[1], member.offset_data, member.size
                bar.update(archive.offset_data + archive.size - bar.n)


def _numbered_images(path: pathlib.Path) -> Iterator[tuple[str, int, int]]:
    """Yields (WordNet id, offset, length) of each image in the tar file of validation images."""
    labels = validation_ids()
    with open(path, "rb") as file:
        for member in _members(path, file, os.path.getsize(path)):
            match = re.fullmatch(r"ILSVRC2012_val_(\d{8})\.JPEG", os.path.basename(member.name))
            if match is None or not 1 <= int(match[1]) <= len(labels):
                raise errors.DataError(
                    f"{path} holds {member.name}; expected ILSVRC2012_val_00000001.JPEG to "
                    f"ILSVRC2012_val_{len(labels):08d}.JPEG."
                )
            yield labels[int(match[1]) - 1], member.offset_data, member.size


def validation_ids() -> list[str]:
    """Returns the WordNet ids of ImageNet's validation images, in the order of their numbers: TFDS has the list."""
    import tensorflow_datasets as tfds

    return tfds.core.tfds_path("datasets/imagenet2012/validation_labels.txt").read_text().split()
