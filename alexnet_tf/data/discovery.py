"""What is in a data directory: asks each known layout in turn. Nothing is downloaded unless asked for.

A new layout is an entry of `SOURCES` and its module with `find(directory, options)`, which returns a data set, or None
if the directory is not of its kind.
"""

import dataclasses
import logging
import os
import typing

from alexnet_tf.data import datasets, imagenet, labelled_files, synthetic
from alexnet_tf.data.options import ExampleOptions
from alexnet_tf.runs.config import RunData
from alexnet_tf.support import errors, home, shell
from alexnet_tf.support.tables import Entry

_LOGGER = logging.getLogger(__name__)

# Name of the data set of `synthetic_dataset`.
DEMO = "demo"

# In the order in which they are asked.
SOURCES = {
    "tfds": Entry(
        "alexnet_tf.data.tfds_datasets",
        "a TFDS directory (of several --dataset=NAME; --download lets TFDS fetch it), or what `prepare` wrote",
    ),
    "imagenet": Entry("alexnet_tf.data.imagenet", "ImageNet's two tar files, or train/<WordNet id>/ and val/"),
    "pixels": Entry(
        "alexnet_tf.data.pixel_files", "cifar-10-python.tar.gz, or MNIST's train-images-idx3-ubyte and so on"
    ),
    "labels": Entry("alexnet_tf.data.label_files", "DIR/*.jpg and DIR/labels.csv (or .txt, .jsonl; --labels=FILE)"),
    "folders": Entry(
        "alexnet_tf.data.class_folders",
        "DIR/train/<class>/*.jpg and DIR/val/<class>/*.jpg (or valid, validation, test), or DIR/<class>/*.jpg, "
        "split 90/10",
    ),
}

_CHOSEN_ON_TEST = "No validation split is there: the best checkpoint is chosen on test, so its test error is too good."


def find_dataset(data_dir: str, options: ExampleOptions = ExampleOptions()) -> datasets.DataSet:  # noqa: B008
    """Finds the images in a directory.

    Args:
        data_dir: Of one of the layouts in `SOURCES`.
        options: Which examples are meant, beyond the directory.

    Raises:
        DataError: If nothing usable is there.
        UserError: If an option cannot be used, or the path is of remote storage.
    """
    data, class_names = _find(data_dir, options)
    return dataclasses.replace(data, class_names=class_names)


def _find(data_dir: str, options: ExampleOptions) -> tuple[datasets.DataSet, tuple[str, ...]]:
    """Returns (the data set that `find_dataset` finds, with WordNet ids as they are; its classes in words)."""
    errors.check_local_path(data_dir, "data_dir=")
    options.check()
    directory = home.expand(data_dir).resolve()
    try:
        if not directory.is_dir() and not options.download:
            what = "is a file, not a directory" if directory.exists() else "does not exist"
            raise errors.DataError(f"--data_dir={data_dir} {what}.\n{_expected()}")
        found = (entry.load().find(directory, options) for entry in SOURCES.values())
        data = next((each for each in found if each is not None), None)
        if data is None:
            there = labelled_files.listing(directory)
            raise errors.DataError(f"{directory} holds nothing to train on; there: {there}.\n{_expected()}")
        words = imagenet.words_of(data.class_names, directory)
    except OSError as error:
        raise errors.DataError(f"{error.filename} cannot be read: {error.strerror}.") from error
    if data.validation == "test":
        data = dataclasses.replace(data, notes=(*data.notes, _CHOSEN_ON_TEST))
    return data, words


def _expected() -> str:
    purposes = "".join(f"  {entry.purpose}\n" for entry in SOURCES.values())
    return f"Expected one of\n{purposes}Without --data_dir a small synthetic image set is used, to try things out."


def load_run_dataset(
    run_data: RunData,
    data_dir: str | None = None,
    options: ExampleOptions = ExampleOptions(),  # noqa: B008
    *,
    any_classes: bool = False,
) -> datasets.DataSet:
    """Finds the images that a run was trained on, or others of its classes, which get the run's labels.

    Where they are of some of the classes only, a warning says so.

    Args:
        run_data: The "data" part of a run's config.json.
        data_dir: Where to look instead of where they were.
        options: As for `find_dataset`; in the run's own directory, the run's are used as well.
        any_classes: Whether they may have other classes than the run.

    Raises:
        DataError: If they are not there, or are of classes that the run does not have.
    """
    if data_dir is None and run_data.name == DEMO:
        data = synthetic_dataset()
        words = data.class_names
    else:
        where = data_dir or run_data.directory
        if where is None:
            raise errors.DataError("The run was imported and has no images. Give some: --data_dir=DIR.")
        if data_dir is None and not os.path.isdir(where):
            raise errors.DataError(
                f"The run's images are no longer in {run_data.directory}. Give their directory: --data_dir=DIR."
            )
        is_own = data_dir is None or os.path.realpath(data_dir) == run_data.directory
        changes = typing.cast(dict, run_data.options) if is_own else {"is_whole": True}
        data, words = _find(where, dataclasses.replace(options, **changes))
    if any_classes:
        return dataclasses.replace(data, class_names=words)
    known = [labelled_files.composed(name) for name in run_data.classes]
    class_names = next((names for names in (words, data.class_names) if set(names) <= set(known)), None)
    if class_names is None:
        unknown = [name for name in words if name not in known]
        raise errors.DataError(
            f"{data.directory} has classes that the run does not have: {datasets.abbreviate(unknown)}; the run's are "
            f"{datasets.abbreviate(run_data.classes)}. To learn these, go on from its weights:\n  "
            + shell.command_line("train", init_from="RUN", data_dir=data.directory)
        )
    if len(class_names) < len(known):
        _LOGGER.warning(f"{data.directory} has images of {len(class_names):,} of the run's {len(known):,} classes.")
    new_labels = labelled_files.labels_of(class_names, known)
    return dataclasses.replace(
        data,
        class_names=run_data.classes,
        splits={name: split.with_label_order(new_labels) for name, split in data.splits.items()},
    )


def synthetic_dataset() -> datasets.DataSet:
    """Returns the synthetic demo set in the user's cache directory, writing it first if it is not there.

    Raises:
        DataError: If it cannot be written.
    """
    directory = str(home.cache() / "demo-v1-400")
    if not os.path.isdir(directory):
        try:
            synthetic.write_all(directory)
        except OSError as error:
            if not os.path.isdir(directory):  # Otherwise another process was faster.
                raise errors.DataError(
                    f"The demo images cannot be written to {directory}: {error.strerror}. Set ALEXNET_TF_HOME to a "
                    "directory that can be, or give images of your own: --data_dir=DIR."
                ) from error
    data = find_dataset(directory)
    return dataclasses.replace(
        data,
        name=DEMO,
        notes=(
            "Synthetic images, to try things out: textured shapes, not photographs. What is learned here is no result.",
            "For your own images: --data_dir=DIR (see --help).",
        ),
    )
