"""What is in a data directory: finds the images, their classes and splits, and reads encoded examples by index.

Understood are a TFDS directory (what `prepare` writes is one), class folders with or without splits, images with a file
of labels, and the files of ImageNet, CIFAR-10 and MNIST. Nothing is decoded here, and nothing is downloaded unless
asked for.
"""

import dataclasses
import os
import pathlib
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np

from alexnet_tf.data import (
    class_folders,
    datasets,
    folder_scan,
    imagenet_folders,
    imagenet_tars,
    label_files,
    pixel_files,
    png_depth,
    synthetic,
    tfds_datasets,
    tfrecords,
)
from alexnet_tf.runs.config import RunConfig, RunData
from alexnet_tf.support import errors, shell

# Names of the data set of `synthetic_dataset`: today's, and that of older versions.
SYNTHETIC = ("demo", "drawn")

_IMAGENET_HELP = """\
ImageNet cannot be downloaded by a program. Register at https://image-net.org/download-images and put
  ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar   (138 GB and 6.3 GB)
into {data_dir}, as they are, then type
  {prepare}
  {train}
"""


def find_dataset(
    data_dir: str,
    dataset: str | None = None,
    download: bool = False,
    *,
    is_whole: bool = False,
    split_rule: str = class_folders.SPLIT_RULE,
    options: Mapping[str, str | None] | None = None,
) -> datasets.DataSet:
    """Finds the images in a directory.

    Args:
        data_dir: A TFDS directory, folders of class folders for each split, one folder of class folders, images with a
            file of labels, ImageNet's, CIFAR-10's or MNIST's own files.
        dataset: Name of a TFDS data set, where the directory is TFDS's.
        download: Whether TFDS may download and prepare the data set.
        is_whole: Whether one folder of class folders stays one split, "all", to measure on.
        split_rule: How one folder of class folders is divided, a key of `class_folders.SPLIT_RULES`.
        options: Which examples are meant, beyond the directory: fields of `label_files.LabelOptions` and
            `tfds_datasets.TfdsKeys`.

    Returns:
        The data set.

    Raises:
        DataError: If nothing usable is there.
    """
    errors.check_local_path(data_dir, "data_dir=")
    directory = pathlib.Path(data_dir).expanduser().resolve()
    if download and not dataset:
        raise errors.DataError("--download needs --dataset=NAME, the TFDS data set to fetch.")
    chosen = _Options(dataset, is_whole, split_rule, {k: v for k, v in (options or {}).items() if v is not None})
    if dataset and download:
        return _download(directory, dataset, chosen)
    try:
        if not directory.is_dir():
            what = "is a file, not a directory" if directory.exists() else "does not exist"
            raise errors.DataError(f"--data_dir={data_dir} {what}.\n" + _what_is_expected(directory, dataset))
        data = _look_into(directory, chosen)
    except OSError as error:
        raise errors.DataError(f"{error.filename} cannot be read: {error.strerror}.") from error
    first = next(iter(data.splits.values()))
    return dataclasses.replace(data, notes=(*data.notes, *png_depth.note_of(first)))


@dataclasses.dataclass(frozen=True)
class _Options:
    """What `find_dataset` was asked for."""

    dataset: str | None
    is_whole: bool
    split_rule: str
    options: Mapping[str, str]

    @property
    def labels(self) -> label_files.LabelOptions:
        return label_files.LabelOptions(**_fields_of(label_files.LabelOptions, self.options))

    @property
    def keys(self) -> tfds_datasets.TfdsKeys:
        return tfds_datasets.TfdsKeys(**_fields_of(tfds_datasets.TfdsKeys, self.options))


def _fields_of(kind: type, options: Mapping[str, str]) -> dict[str, str]:
    return {field.name: options[field.name] for field in dataclasses.fields(kind) if field.name in options}


def _look_into(directory: pathlib.Path, chosen: _Options) -> datasets.DataSet:
    """Decides by what is there."""
    prepared = tfds_datasets.prepared(directory)
    if not prepared and chosen.dataset in (None, "imagenet2012"):
        if imagenet_tars.are_in(directory):
            class_names, splits, notes = imagenet_tars.read(directory)
            return datasets.DataSet("imagenet2012", str(directory), class_names, splits, "validation", notes)
        if (data := imagenet_folders.find(directory)) is not None:
            return data
    if chosen.dataset or prepared:
        return _open_tfds(directory, chosen, prepared)
    if (data := pixel_files.find(directory)) is not None:
        return data
    if _fields_of(label_files.LabelOptions, chosen.options) or label_files.find_labels(directory):
        return label_files.read(directory, chosen.labels)
    return class_folders.find(
        directory,
        _what_is_expected(directory, None),
        is_whole=chosen.is_whole,
        split_rule=chosen.split_rule,
    )


def load_run_dataset(
    run_data: RunData, data_dir: str | None = None, dataset: str | None = None, *, any_classes: bool = False
) -> datasets.DataSet:
    """Finds the images that a run was trained on, or others with the same classes.

    Args:
        run_data: The "data" part of a run's config.json.
        data_dir: Where to look instead of where they were.
        dataset: As for `find_dataset`.
        any_classes: Whether they may have other classes than the run.

    Raises:
        DataError: If they are not there, or their classes are not the run's.
    """
    if data_dir is None and run_data.name in SYNTHETIC:
        data = synthetic_dataset()
    else:
        where = data_dir or run_data.directory
        if where is None:
            raise errors.DataError("The run was imported and has no images. Give some: --data_dir=DIR.")
        if data_dir is None and not os.path.isdir(where):
            raise errors.DataError(
                f"The run's images are no longer in {run_data.directory}. Give their directory: --data_dir=DIR."
            )
        is_foreign = data_dir is not None and not os.path.realpath(data_dir) == run_data.directory
        data = find_dataset(
            where,
            dataset,
            is_whole=is_foreign,
            split_rule=class_folders.SPLIT_RULE if is_foreign else run_data.split_rule,
            options=None if is_foreign else run_data.options,
        )
    if not any_classes and data.class_names != run_data.classes:
        there, known = _composed(data.class_names), _composed(run_data.classes)
        if sorted(there) == sorted(known) and len(set(there)) == len(there):
            return _in_order(data, run_data.classes)
        raise errors.DataError(
            f"{data.directory} has other classes than the run: {datasets.abbreviate(data.class_names)} there, "
            f"{datasets.abbreviate(run_data.classes)} in the run. To learn these, go on from its weights:\n  "
            + shell.command_line("train", init_from="RUN", data_dir=data.directory)
        )
    return data


def as_in_run(data: datasets.DataSet, run_config: RunConfig | None) -> datasets.DataSet:
    """Returns a folder of class folders divided as the run to be resumed has it: older versions had another rule."""
    if run_config is None or "class_and_path" not in (data.split_rule, run_config.data.split_rule):
        return data
    if data.split_rule == run_config.data.split_rule or set(data.splits) != {"train", "validation"}:
        return data
    return find_dataset(data.directory, split_rule=run_config.data.split_rule, options=data.options)


def _in_order(data: datasets.DataSet, class_names: tuple[str, ...]) -> datasets.DataSet:
    """Returns a data set with its classes in another order: they are matched by their names."""
    known = _composed(class_names)
    new_labels = np.array([known.index(name) for name in _composed(data.class_names)], "int32")
    return dataclasses.replace(
        data,
        class_names=class_names,
        splits={name: split.with_label_order(new_labels) for name, split in data.splits.items()},
        notes=(*data.notes, "The classes are in another order than the run's: they are matched by their names."),
    )


def _composed(class_names: Sequence[str]) -> list[str]:
    """Returns names with accents and letters as one character: macOS takes them apart in the names of files."""
    return [unicodedata.normalize("NFC", name) for name in class_names]


def _what_is_expected(directory: pathlib.Path, dataset: str | None) -> str:
    if dataset and dataset.startswith("imagenet2012"):
        return _IMAGENET_HELP.format(
            data_dir=directory,
            prepare=shell.command_line("prepare", data_dir=directory, output_dir="imagenet-256"),
            train=shell.command_line("train", data_dir="imagenet-256"),
        )
    return (
        "Expected one of\n"
        "  DIR/train/<class>/*.jpg and DIR/val/<class>/*.jpg   (or valid, validation, test)\n"
        "  DIR/<class>/*.jpg                                   (split 90/10)\n"
        "  DIR/*.jpg and DIR/labels.csv                        (or .txt, .jsonl; --labels=FILE)\n"
        "  a TFDS directory, with --dataset=NAME               (--download lets TFDS fetch it)\n"
        "Without --data_dir a small synthetic image set is used, to try things out."
    )


def _download(directory: pathlib.Path, dataset: str, chosen: _Options) -> datasets.DataSet:
    """Lets TFDS fetch and prepare a data set."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(dataset, data_dir=directory)
        builder.download_and_prepare()
    except Exception as error:  # An unknown name, no network, missing tar files: whatever TFDS and its servers do.
        raise errors.DataError(
            f"TFDS could not prepare {dataset!r} in {directory}: {str(error).strip()[:500]}\n"
            + (_what_is_expected(directory, dataset) if (dataset or "").startswith("imagenet2012") else "")
        ) from error
    return tfds_datasets.open_dataset(builder, chosen.keys)


def _open_tfds(directory: pathlib.Path, chosen: _Options, prepared: dict[str, pathlib.Path]) -> datasets.DataSet:
    """A data set that TFDS or `prepare` has prepared."""
    folder = _choose(directory, chosen.dataset, prepared)
    if (found := tfrecords.read_prepared(folder)) is not None:
        return tfds_datasets.open_prepared(folder, *found)
    import tensorflow_datasets as tfds

    return tfds_datasets.open_dataset(tfds.builder_from_directory(folder), chosen.keys)


def _choose(directory: pathlib.Path, dataset: str | None, prepared: dict[str, pathlib.Path]) -> pathlib.Path:
    """Returns the folder of the data set that is meant, or of the only one there."""
    matching = {
        name: path for name, path in prepared.items() if dataset is None or dataset in (name, name.split("/")[0])
    }
    if len(matching) == 1:
        return next(iter(matching.values()))
    if matching:
        raise errors.DataError(
            f"{directory} holds several TFDS data sets: choose with --dataset=NAME. There: {', '.join(matching)}."
        )
    raise errors.DataError(
        f"No prepared TFDS data set {dataset!r} in {directory}; prepared there: {', '.join(prepared) or 'none'}; "
        f"files: {folder_scan.listing(directory)}.\n"
        + (
            _what_is_expected(directory, dataset)
            if (dataset or "").startswith("imagenet2012")
            else f"Type the same command with --download to let TFDS fetch {dataset}."
        )
    )


def synthetic_dataset(directory: str | None = None, images_per_class: int = 400) -> datasets.DataSet:
    """Returns the synthetic demo set, writing it first if it is not there: JPEG files in class folders.

    Args:
        directory: Where it is kept; by default in the user's cache directory.
        images_per_class: Training images of each class; validation has a tenth of them more.

    Returns:
        The data set.
    """
    if directory is None:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        directory = os.path.join(cache, "alexnet_tf", f"demo-v1-{images_per_class}")
    if not os.path.isdir(directory):
        try:
            synthetic.write_all(directory, {"train": images_per_class, "val": images_per_class // 10})
        except OSError as error:
            if not os.path.isdir(directory):  # Else another process was faster.
                raise errors.DataError(
                    f"The demo images cannot be written to {directory}: {error.strerror}."
                ) from error
    data = find_dataset(directory)
    return dataclasses.replace(
        data,
        name=SYNTHETIC[0],
        notes=(
            "Synthetic images, to try things out: textured shapes, not photographs. What is learned here is no result.",
            "For your own images: --data_dir=DIR (see --help).",
        ),
    )
