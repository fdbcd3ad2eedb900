"""ImageNet's own files: its two tar files, read in place, or what people unpack from them.

`ILSVRC2012_img_train.tar` holds a tar file for each class, named by its WordNet id; `ILSVRC2012_img_val.tar` holds
images named by number, whose classes are listed in TFDS's `imagenet2012` builder. Unpacked, also as Kaggle packs it,
these are class folders of training images, which `class_folders` reads, and a flat folder of numbered images.
"""

import collections
import os
import pathlib
import re
import tarfile
import typing
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
import tqdm

from alexnet_tf.data import datasets, labelled_files, tfrecords
from alexnet_tf.data.labelled_files import Example
from alexnet_tf.data.options import ExampleOptions
from alexnet_tf.support import errors, shell

TRAIN, VALIDATION = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"

# Where its folders `train` and `val` lie; the others are Kaggle's.
_ROOTS = (".", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "CLS-LOC")

_VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.jpe?g", re.IGNORECASE)

# A line of the table `words.txt`, which comes with WordNet and Tiny ImageNet: an id and its synonyms.
_WORDS = re.compile(r"^(n\d{8})[ \t]+([^,\r\n]*[^,\s])", re.MULTILINE)

_HELP = """\
{data_dir} holds no ImageNet, which cannot be downloaded by a program. Register at
https://image-net.org/download-images and put
  ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar   (138 GB and 6.3 GB)
into {data_dir}, as they are, then type
  {prepare}
  {train}
"""


def find(directory: pathlib.Path, options: ExampleOptions) -> datasets.DataSet | None:
    """Finds ImageNet's images in its tar files; unpacked, they are class folders.

    Raises:
        DataError: If a file is missing, cut or of another form, no validation image is of a class of train, or
            `options.dataset` asks for ImageNet and nothing is there.
    """
    if options.dataset not in (None, "imagenet2012"):
        return None
    if any((directory / name).is_file() for name in (TRAIN, VALIDATION)):
        return _read_tars(directory)
    if options.dataset is None or (root_of(directory) / "train").is_dir():
        return None
    prepare = shell.command_line("prepare", data_dir=directory, output_dir="imagenet-256")
    train = shell.command_line("train", data_dir="imagenet-256")
    raise errors.DataError(_HELP.format(data_dir=directory, prepare=prepare, train=train))


def root_of(directory: pathlib.Path) -> pathlib.Path:
    """Returns the folder of the folder `train`: the directory itself, unless it is packed as Kaggle packs it."""
    return next((directory / root for root in _ROOTS if (directory / root / "train").is_dir()), directory)


def numbered_images(folder: pathlib.Path, split: str, classes: Collection[str]) -> tuple[list[Example], list[str]]:
    """Returns (the validation images that lie in a folder, of some classes; notes); nothing where there are none.

    Raises:
        DataError: If there are some, but of other classes only.
    """
    paths = [each.path for each in labelled_files.entries(folder) if _VALIDATION_NAME.fullmatch(each.name)]
    if not paths:
        return [], []
    ids, notes = _validation_classes(map(os.path.basename, paths), classes, folder)
    examples = [Example(path, name, split) for path, name in zip(paths, ids) if name in classes]
    return examples, ["The labels of the numbered validation images are those of ILSVRC2012.", *notes]


def words_of(class_names: Sequence[str], directory: pathlib.Path) -> tuple[str, ...]:
    """Returns the classes with words for WordNet ids: the first synonym of each in `words.txt`, there or one level up.

    Two classes of one word ("crane") keep their ids behind it; a name that is not in the table stays.
    """
    path = next(filter(pathlib.Path.is_file, (directory / "words.txt", directory.parent / "words.txt")), None)
    word_of = dict(_WORDS.findall(path.read_text("utf-8", "replace"))) if path else {}
    words = [word_of.get(name, name) for name in class_names]
    counts = collections.Counter(words)
    return tuple(
        word if counts[word] == 1 or word == name else f"{word} ({name})" for name, word in zip(class_names, words)
    )


def _read_tars(directory: pathlib.Path) -> datasets.DataSet:
    """Finds every image in the two tar files; reads their headers only, a minute for ImageNet."""
    train_file, validation_file = directory / TRAIN, directory / VALIDATION
    for path in (train_file, validation_file):
        if not path.is_file():
            raise errors.DataError(f"{path} is missing; both {TRAIN} and {VALIDATION} are needed.")
    train = list(_nested_images(train_file))
    classes = {wordnet_id for wordnet_id, _, _ in train}
    with open(validation_file, "rb") as file:
        members = list(_members(validation_file, file, os.path.getsize(validation_file)))
    names = (os.path.basename(member.name) for member in members)
    ids, notes = _validation_classes(names, classes, validation_file)
    validation = [(name, each.offset_data, each.size) for name, each in zip(ids, members) if name in classes]
    splits = {
        "train": _records(train_file, train, sorted(classes)),
        "validation": _records(validation_file, validation, sorted(classes)),
    }
    return datasets.DataSet(
        "imagenet2012", str(directory), tuple(sorted(classes)), splits, validation="validation", notes=tuple(notes)
    )


def _records(
    path: pathlib.Path, found: Sequence[tuple[str, int, int]], class_names: Sequence[str]
) -> tfrecords.Records:
    names, offsets, lengths = zip(*found)
    return tfrecords.Records(
        (str(path),),
        np.zeros(len(found), "int32"),
        np.array(offsets, "int64"),
        np.array(lengths, "int64"),
        labelled_files.labels_of(names, class_names),
        name_at=name_at,
    )


def _validation_classes(
    names: Iterable[str], classes: Collection[str], where: pathlib.Path
) -> tuple[list[str], list[str]]:
    """Returns (WordNet ids of validation images by their names' numbers, notes about those that train has not).

    Raises:
        DataError: If a name is not that of a validation image, or no image is of a class of train.
    """
    import tensorflow_datasets as tfds

    ids = tfds.core.tfds_path("datasets/imagenet2012/validation_labels.txt").read_text().split()
    found = []
    for name in names:
        match = _VALIDATION_NAME.fullmatch(name)
        if match is None or not 1 <= int(match[1]) <= len(ids):
            raise errors.DataError(
                f"{where} holds {name}; expected ILSVRC2012_val_00000001.JPEG to ILSVRC2012_val_{len(ids):08d}.JPEG."
            )
        found.append(ids[int(match[1]) - 1])
    strangers = sum(wordnet_id not in classes for wordnet_id in found)
    if strangers == len(found):
        raise errors.DataError(f"{where} holds no image of the {len(classes)} classes of train.")
    notes = [f"{strangers:,} validation images are left out: their classes are not in train."] if strangers else []
    return found, notes


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
        DataError: If it is cut, damaged or not a tar file.
    """
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if member.offset_data + member.size > end:
                    raise tarfile.ReadError(f"{member.name} goes beyond its end")
                if member.isreg():
                    yield member
                archive.members = []  # type: ignore[attr-defined]  # A million of them would stay in memory.
            file.seek(archive.offset)
            if archive.offset + tarfile.BLOCKSIZE > end or file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"no member and no end at byte {archive.offset}")
    except tarfile.TarError as error:
        raise errors.DataError(f"{path} is cut or damaged: {error}. Download it again.") from error


def _nested_images(path: pathlib.Path) -> Iterator[tuple[str, int, int]]:
    """Yields (WordNet id, offset, length) of each image in a tar file of tar files."""
    with open(path, "rb") as outer, open(path, "rb") as inner:
        archives = _members(path, outer, os.path.getsize(path))
        for archive in tqdm.tqdm(archives, f"Looking through {path.name}", unit=" classes", disable=None, leave=False):
            match = re.fullmatch(r"(n\d{8})\.tar", os.path.basename(archive.name))
            if match is None:
                raise errors.DataError(
                    f"{path} holds {archive.name}; expected a tar file for each class, such as n01440764.tar."
                )
            inner.seek(archive.offset_data)
            for member in _members(path, inner, archive.offset_data + archive.size):
                yield match[1], member.offset_data, member.size
