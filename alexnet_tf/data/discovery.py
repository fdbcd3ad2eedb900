"""What is in a data directory: finds the images, their classes and splits, and reads encoded examples by index.

Understood are a TFDS directory (what `prepare` writes is one), class folders under `train` and a validation folder,
one folder of class folders, and ImageNet's own tar files. Nothing is decoded here, and nothing is downloaded unless asked for.
"""

import dataclasses
import hashlib
import os
import pathlib

import numpy as np

from alexnet_tf import architectures, errors
from alexnet_tf.data import datasets, imagenet_tars, synthetic, tfrecords
from alexnet_tf.run_config import RunData

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")

# Name of the data set that `drawn` gives.
SYNTHETIC = "drawn"

# Names of the folder or split that errors are measured on, in order of preference.
VALIDATION_NAMES = ("val", "valid", "validation", "test")

_CHOSEN_ON_TEST = "No validation split is there: the best checkpoint is chosen on test, so its test error is too good."

_IMAGENET_HELP = """\
ImageNet cannot be downloaded by a program. Register at https://image-net.org/download-images and put
  ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar   (138 GB and 6.3 GB)
into {data_dir}, as they are, then type
  python -m alexnet_tf prepare --data_dir={data_dir} --output_dir=imagenet-256
  python train.py --data_dir=imagenet-256
"""


def find_dataset(data_dir: str, dataset: str | None = None, download: bool = False, *, is_whole: bool = False) -> datasets.DataSet:
    """Finds the images in a directory.

    Args:
        data_dir: A TFDS directory, a folder with `train` and `val` (or `valid`, `validation`, `test`) folders of
            class folders, or one folder of class folders.
        dataset: Name of a TFDS data set, where the directory is TFDS's.
        download: Whether TFDS may download and prepare the data set.
        is_whole: Whether one folder of class folders stays one split, "all", to measure on.

    Returns:
        The data set.

    Raises:
        DataError: If nothing usable is there.
    """
    directory = pathlib.Path(data_dir).expanduser().resolve()
    if download and not dataset:
        raise errors.DataError("--download needs --dataset=NAME, the TFDS data set to fetch.")
    if dataset and download:
        return _tfds(directory, dataset, download)
    try:
        if not directory.is_dir():
            what = "is a file, not a directory" if directory.exists() else "does not exist"
            raise errors.DataError(f"--data_dir={data_dir} {what}.\n" + _what_is_expected(directory, dataset))
        return _look_into(directory, dataset, is_whole)
    except OSError as error:
        raise errors.DataError(f"{error.filename} cannot be read: {error.strerror}.") from error


def _look_into(directory, dataset, is_whole) -> datasets.DataSet:
    """Decides by what is there."""
    prepared = tfrecords.prepared(directory)
    if not prepared and dataset in (None, "imagenet2012") and imagenet_tars.are_in(directory):
        class_names, splits, notes = imagenet_tars.read(directory)
        return datasets.DataSet("imagenet2012", str(directory), class_names, splits, "validation", notes)
    if dataset or prepared:
        return _tfds(directory, dataset, False, prepared)
    by_lower = {path.name.lower(): path for path in sorted(directory.iterdir()) if path.is_dir()}
    if "train" in by_lower:
        return _split_folders(directory, by_lower)
    return _class_folders(directory, is_whole)


def load_run_dataset(
    run_data: RunData, data_dir: str | None = None, dataset: str | None = None, *, any_classes: bool = False) -> datasets.DataSet:
    """Finds the images that a run was trained on, or others with the same classes.

    Args:
        run_data: The "data" part of a run's config.json.
        data_dir: Where to look instead of where they were.
        dataset: As for `find`.
        any_classes: Whether they may have other classes than the run.

    Raises:
        DataError: If they are not there, or their classes are not the run's.
    """
    if data_dir is None and run_data.name == SYNTHETIC:
        data = synthetic_dataset()
    else:
        if data_dir is None and run_data.directory is None:
            raise errors.DataError("The run was imported and has no images. Say where some are: --data_dir=DIR.")
        if data_dir is None and not os.path.isdir(run_data.directory):
            raise errors.DataError(f"The run's images are no longer in {run_data.directory}. Say where: --data_dir=DIR.")
        is_foreign = data_dir is not None and not os.path.realpath(data_dir) == run_data.directory
        data = find_dataset(data_dir or run_data.directory, dataset, is_whole=is_foreign)
    if not any_classes and tuple(data.class_names) != run_data.classes:
        raise errors.DataError(
            f"{data.directory} has other classes than the run: {datasets.abbreviate(data.class_names)} there, "
            f"{datasets.abbreviate(run_data.classes)} in the run. To learn these, go on from its weights: python train.py "
            f"--init_from=RUN --data_dir={data.directory}")
    return data


def _split_folders(directory, folders) -> datasets.DataSet:
    """`train/<class>/*` and a validation folder beside it."""
    present = [name for name in VALIDATION_NAMES if name in folders]
    if not present:
        raise errors.DataError(
            f"{directory} has a folder 'train', but none to measure the error on: looked for "
            f"{', '.join(VALIDATION_NAMES)}; there: {_listing(directory)}. Make one, or give "
            f"--data_dir={folders['train']}, which is then split 90/10.")
    found, left_out = {}, []
    for name in ("train", *present):
        found[name], scan_notes = _scan(folders[name])
        left_out += scan_notes
    class_names = tuple(sorted(found["train"]))
    _check_classes(class_names, folders["train"])
    splits, notes = {"train": _image_files(found["train"], class_names)}, []
    for name in present:
        unknown = sorted(set(found[name]) - set(class_names))
        if found[name] and not unknown:
            splits[name] = _image_files(found[name], class_names)
        elif name != present[0]:
            notes.append(f"{folders[name].name} is left out: it has not the classes of train.")
        elif unknown:
            raise errors.DataError(
                f"{folders[name]} has class folders that {folders['train']} has not: {datasets.abbreviate(unknown)}. "
                "Both must have the same folder names.")
        else:
            raise errors.DataError(
                f"{folders[name]} holds no images in class folders ({', '.join(IMAGE_ENDINGS)}); there: "
                f"{_listing(folders[name])}.")
    if present[0] == "test":
        notes.append(_CHOSEN_ON_TEST)
    return datasets.DataSet(
        directory.name, str(directory), class_names, splits, present[0], (*notes, *left_out))


def _class_folders(directory, is_whole) -> datasets.DataSet:
    """One folder of class folders, split by a hash of each file's name."""
    found, left_out = _scan(directory)
    class_names = tuple(sorted(found))
    if not class_names:
        raise errors.DataError(
            f"{directory} holds nothing to train on; there: {_listing(directory)}.\n"
            + _what_is_expected(directory, None))
    like_splits = [name for name in class_names if name.lower() in (*VALIDATION_NAMES, "training")]
    if like_splits:
        raise errors.DataError(
            f"{directory} has folders that look like splits ({', '.join(like_splits)}) and none called train; there: "
            f"{_listing(directory)}. Rename the training folder to train.")
    _check_classes(class_names, directory)
    if is_whole:
        return datasets.DataSet(
            directory.name, str(directory), class_names, {"all": _image_files(found, class_names)}, "all",
            tuple(left_out))
    train = {name: [path for path in paths if not is_held_out(path)] for name, paths in found.items()}
    validation = {name: [path for path in paths if is_held_out(path)] for name, paths in found.items()}
    splits = {"train": _image_files(train, class_names), "validation": _image_files(validation, class_names)}
    for name, split in splits.items():
        if not len(split):
            raise errors.DataError(
                f"{directory}: too few images for a 90/10 split by file name, '{name}' got none. "
                "Make folders train and val yourself.")
    notes = ("Split 90/10 by a hash of each file's name: the same for ever.", *left_out)
    return datasets.DataSet(directory.name, str(directory), class_names, splits, "validation", notes)


def is_held_out(path: str) -> bool:
    """Says whether an image of an unsplit folder is validation: a tenth, by SHA-256 of the file's name alone."""
    return hashlib.sha256(os.path.basename(path).encode("utf-8", "surrogateescape")).digest()[0] % 10 == 0


def _scan(folder) -> tuple[dict[str, list[str]], list[str]]:
    """Returns ({class name: sorted image files} of a folder of class folders, notes about what is left out)."""
    found, others, empty, notes = {}, [], [], []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith(".") or os.path.isfile(entry.path):
            continue
        if not os.path.isdir(entry.path) or pathlib.Path(folder).resolve().is_relative_to(os.path.realpath(entry.path)):
            notes.append(f"{entry.path} is left out: no folder, or a link that leads nowhere or back to a folder it is in.")
            continue
        paths, folders = [], [entry.path]
        while folders:  # Links to folders are followed at the top only, so that there is no loop.
            for inner in os.scandir(folders.pop()):
                if inner.name.startswith("."):
                    continue
                if inner.is_dir(follow_symlinks=False):
                    folders.append(inner.path)
                elif inner.name.lower().endswith(IMAGE_ENDINGS) and _may_be_image(inner):
                    paths.append(inner.path)
                else:
                    others.append(inner.path)
        if paths:
            found[entry.name] = sorted(paths)
        else:
            empty.append(entry.path)
    if others:
        notes.append(f"Left out, being no JPEG or PNG files: {len(others):,}, such as {min(others)}.")
    if empty:
        notes.append(f"Left out, being class folders without an image: {len(empty):,}: {datasets.abbreviate(empty)}.")
    return found, notes


def _may_be_image(entry: os.DirEntry) -> bool:
    """Says whether an entry is a file, or a link to one or to nothing, which is told when it is read; a pipe would wait."""
    if not entry.is_symlink():
        return entry.is_file()
    return os.path.isfile(entry.path) or not os.path.exists(entry.path)


def _image_files(found, class_names) -> datasets.ImageFiles:
    paths = tuple(path for name in class_names for path in found.get(name, ()))
    labels = [label for label, name in enumerate(class_names) for _ in found.get(name, ())]
    return datasets.ImageFiles(paths, np.asarray(labels, "int32"))


def _check_classes(class_names, directory):
    if len(class_names) < 2:
        raise errors.DataError(
            f"{directory} must hold at least two class folders with images; got {list(class_names)}; there: "
            f"{_listing(directory)}.")


def _listing(directory, limit: int = 12) -> str:
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in os.scandir(directory))
    return datasets.abbreviate(names, limit) or "nothing"


def _what_is_expected(directory, dataset) -> str:
    if dataset and dataset.startswith("imagenet2012"):
        return _IMAGENET_HELP.format(data_dir=directory)
    return (
        "Expected one of\n"
        "  DIR/train/<class>/*.jpg and DIR/val/<class>/*.jpg   (or valid, validation, test)\n"
        "  DIR/<class>/*.jpg                                   (split 90/10)\n"
        "  a TFDS directory, with --dataset=NAME               (--download lets TFDS fetch it)\n"
        "Without --data_dir a small image set is drawn, to try things out.")


def _tfds(directory, dataset, download, prepared=None) -> datasets.DataSet:
    """A data set that TFDS prepared, or may prepare now."""
    import tensorflow_datasets as tfds

    if download:
        try:
            builder = tfds.builder(dataset, data_dir=directory)
            builder.download_and_prepare()
        except Exception as error:  # An unknown name, no network, missing tar files: whatever TFDS and its servers do.
            raise errors.DataError(
                f"TFDS could not prepare {dataset!r} in {directory}: {str(error).strip()[:500]}\n"
                + (_what_is_expected(directory, dataset) if dataset.startswith("imagenet2012") else "")) from error
    else:
        chosen = _choose(directory, dataset, prepared)
        if (found := tfrecords.read_prepared(chosen)) is not None:
            return _prepared(chosen, *found)
        builder = tfds.builder_from_directory(chosen)
    image_key, label_key = tfrecords.supervised_keys(builder)
    class_names = tuple(builder.info.features[label_key].names)
    splits = {name: tfrecords.read_split(builder, name, image_key, label_key) for name in builder.info.splits}
    validation = next((name for name in VALIDATION_NAMES if name in splits), None)
    notes = ()
    if "train" not in splits:
        raise errors.DataError(f"{builder.data_dir} has no split 'train'; it has {', '.join(splits) or 'none'}.")
    if validation is None:
        splits["train"], splits["validation"] = tfrecords.hold_out(splits["train"])
        validation, notes = "validation", ("Only a train split is there: every tenth example is held out.",)
    elif validation == "test":
        notes = (_CHOSEN_ON_TEST,)
    return datasets.DataSet(builder.name, str(builder.data_dir), class_names, splits, validation, notes)


def _prepared(directory, preparation, splits, statistics) -> datasets.DataSet:
    """What `python -m alexnet_tf prepare` wrote."""
    notes = [f"Prepared at {architectures.SQUARE_SIZE} pixels (--resize={preparation['resize']}) from {preparation['source']}; its own "
             "mean and colours are used."]
    if preparation["validation"] == "test":
        notes.append(_CHOSEN_ON_TEST)
    return datasets.DataSet(
        preparation["name"], str(directory), tuple(preparation["classes"]), splits, preparation["validation"],
        tuple(notes), preparation["source"], preparation["resize"], statistics)


def _choose(directory, dataset, prepared) -> pathlib.Path:
    """Returns the folder of the data set that is meant, or of the only one there."""
    matching = {name: path for name, path in prepared.items()
                if dataset is None or dataset in (name, name.split("/")[0])}
    if len(matching) == 1:
        return next(iter(matching.values()))
    if matching:
        raise errors.DataError(
            f"{directory} holds several TFDS data sets: choose with --dataset=NAME. There: {', '.join(matching)}.")
    raise errors.DataError(
        f"No prepared TFDS data set {dataset!r} in {directory}; prepared there: {', '.join(prepared) or 'none'}; "
        f"files: {_listing(directory)}.\n" + (
            _what_is_expected(directory, dataset) if dataset.startswith("imagenet2012") else
            f"Type the same command with --download to let TFDS fetch {dataset}."))


def synthetic_dataset(directory: str | None = None, images_per_class: int = 400) -> datasets.DataSet:
    """Returns the drawn try-out set, writing it first if it is not there: real JPEG files in class folders.

    Args:
        directory: Where it is kept; by default in the user's cache directory.
        images_per_class: Training images of each class; validation has a tenth of them more.

    Returns:
        The data set.
    """
    if directory is None:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        directory = os.path.join(cache, "alexnet_tf", f"drawn-v1-{images_per_class}")
    if not os.path.isdir(directory):
        try:
            synthetic.write_all(directory, {"train": images_per_class, "val": images_per_class // 10})
        except OSError as error:
            if not os.path.isdir(directory):  # Else another process was faster.
                raise errors.DataError(f"The try-out images cannot be written to {directory}: {error.strerror}.") from error
    data = find_dataset(directory)
    return dataclasses.replace(data, name=SYNTHETIC, notes=(
        "Drawn by this program to try things out: textured shapes, not photographs. What is learned here is no result.",
        "For your own images: --data_dir=DIR (see --help)."))
