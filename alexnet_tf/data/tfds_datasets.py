"""Data sets that TensorFlow Datasets (TFDS) prepared: which are in a directory, and where their records are.

The files are read by offset, as `prepare`'s are; TFDS itself is asked for the features only.
"""

import dataclasses
import json
import pathlib
import shlex
import typing
from collections.abc import Mapping, Sequence

import numpy as np

from alexnet_tf.data import datasets, labelled_files, reading, tfrecords
from alexnet_tf.data.options import ExampleOptions
from alexnet_tf.support import errors

# The images stay as they are encoded. `tfds convert_format` needs Apache Beam, and does not convert from ArrayRecord.
_CONVERT = """\
python -c "import sys, tensorflow_datasets as tfds
b, out = tfds.builder_from_directory(sys.argv[1]), sys.argv[2]
raw = {{'{image_key}': tfds.decode.SkipDecoding()}}
splits = {{name: enumerate(b.as_data_source(name, decoders=raw)) for name in b.info.splits}}
tfds.dataset_builders.store_as_tfds_dataset(
    b.name, b.version, b.info.features, splits, config=b.builder_config, data_dir=out, file_format='tfrecord')\""""


def find(directory: pathlib.Path, options: ExampleOptions) -> datasets.DataSet | None:
    """Opens a data set that TFDS or `prepare` has prepared, or lets TFDS fetch it where `options.download` says so.

    Raises:
        DataError: If the one that is asked for is not there, several are, or it cannot be read.
    """
    if options.download:
        return _open(_download(directory, options.dataset), options)
    there = _prepared(directory)
    matching = [path for name, path in there.items() if options.dataset in (None, name, name.split("/")[0])]
    if len(matching) > 1:
        raise errors.DataError(
            f"{directory} holds several TFDS data sets: choose with --dataset=NAME. There: {', '.join(there)}."
        )
    if matching:
        if found := tfrecords.read_prepared(matching[0]):
            return found
        import tensorflow_datasets as tfds

        return _open(tfds.builder_from_directory(matching[0]), options)
    if options.dataset in (None, "imagenet2012"):  # ImageNet's own files may be there.
        return None
    raise errors.DataError(
        f"No prepared TFDS data set {options.dataset!r} in {directory}; prepared there: {', '.join(there) or 'none'}; "
        f"files: {labelled_files.listing(directory)}.\nType the same command with --download to let TFDS fetch "
        f"{options.dataset}."
    )


def _prepared(directory: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns {name[/config]: newest version's folder} of the TFDS data sets at most three levels down."""
    found: dict[str, tuple[list[int], pathlib.Path]] = {}
    # Only names that look like versions, so that a folder of a million images is not searched.
    version = "[0-9]*.[0-9]*.[0-9]*/dataset_info.json"
    for pattern in ("dataset_info.json", version, f"*/{version}", f"*/*/{version}"):
        for path in directory.glob(pattern):
            try:
                info = json.loads(path.read_text(encoding="utf-8"))
                name = "/".join(filter(None, [info["name"], info.get("configName")]))
                number = [int(part) for part in info.get("version", "0").split(".")]
            except (OSError, ValueError, KeyError, AttributeError, TypeError):
                continue  # Another tool's file of that name.
            found[name] = max(found.get(name, ([], path.parent)), (number, path.parent))
    return {name: path for name, (_, path) in sorted(found.items())}


def _download(directory: pathlib.Path, dataset: str | None) -> typing.Any:
    """Returns TFDS's builder, once it has fetched and prepared a data set."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(dataset, data_dir=directory)
        builder.download_and_prepare()
    except Exception as error:  # An unknown name, no network, missing tar files: whatever TFDS and its servers do.
        raise errors.DataError(
            f"TFDS could not prepare {dataset!r} in {directory}: {str(error).strip()[:500]}"
        ) from error
    return builder


def _open(builder: typing.Any, options: ExampleOptions) -> datasets.DataSet:
    """Finds the records of a prepared TFDS data set."""
    image_key, label_key = _keys(builder, options)
    splits = {name: _read_split(builder, name, image_key, label_key) for name in builder.info.splits}
    if "train" not in splits:
        raise errors.DataError(f"{builder.data_dir} has no split 'train'; it has {', '.join(splits) or 'none'}.")
    class_names, notes = getattr(builder.info.features[label_key], "names", None), []
    if not class_names:
        class_names, splits = _with_found_classes(splits)
    validation = labelled_files.validation_of(splits)
    if validation is None:
        validation, there = "validation", ", ".join(splits)
        splits["train"], splits["validation"] = tfrecords.hold_out(splits["train"])
        notes.append(f"No validation split is there, but {there}: every tenth example of train is held out.")
    return datasets.DataSet(
        builder.name,
        str(builder.data_dir),
        tuple(map(labelled_files.composed, class_names)),
        splits,
        validation,
        tuple(notes),
        options=options.of_examples(),
    )


def _keys(builder: typing.Any, options: ExampleOptions) -> tuple[str, str]:
    """Returns the names of a data set's image and label.

    Raises:
        DataError: If there is no image, or no label that is a class, a text or an integer, or several.
    """
    import tensorflow_datasets as tfds

    features = dict(sorted(builder.info.features.items()))
    supervised = builder.info.supervised_keys or ()
    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    # One integer or text each; a class is an integer with names.
    labels = [
        key for key, feature in features.items() if feature.shape == () and np.dtype(feature.np_dtype).kind in "iuOSU"
    ]
    classes = [key for key in labels if isinstance(features[key], tfds.features.ClassLabel)]
    image_key = options.image_key or _the_one([key for key in images if key in supervised] or images, "image")
    label_key = options.label_key or _the_one(
        [key for key in labels if key in supervised] or classes or labels, "label"
    )
    if image_key not in images or label_key not in labels:
        raise errors.DataError(
            f"{builder.name}: an image and a label are needed for classification, a class, a text or an integer. "
            f"Images: {', '.join(images) or 'none'}; labels: {', '.join(labels) or 'none'}. Name one of each: "
            "--image_key=NAME --label_key=NAME."
        )
    return image_key, label_key


def _the_one(keys: Sequence[str], usual: str) -> str:
    """Returns the only key; of several the usual one, for TFDS keeps features in no order."""
    return keys[0] if len(keys) == 1 else usual


def _with_found_classes(
    splits: Mapping[str, tfrecords.Records],
) -> tuple[tuple[str, ...], dict[str, tfrecords.Records]]:
    """Reads every record's label, which is a text or an integer; returns (class names, the splits with labels)."""
    values = {
        name: [
            labelled_files.composed(str(label).strip())
            for label in reading.thread_pool().map(split.label, range(len(split)))
        ]
        for name, split in splits.items()
    }
    class_names = labelled_files.class_order(each for each in values["train"] if each)
    if len(class_names) < 2:
        raise errors.DataError(f"At least two different labels are needed in train; found {list(class_names)}.")
    return class_names, {
        name: dataclasses.replace(split, labels=labelled_files.labels_of(values[name], class_names))
        for name, split in splits.items()
    }


def _read_split(builder: typing.Any, split: str, image_key: str, label_key: str) -> tfrecords.Records:
    """Finds the records of a split; reads their headers only."""
    info = builder.info
    if info.file_format.value != "tfrecord":
        source, converted = (shlex.quote(f"{builder.data_dir}{ending}") for ending in ("", "-tfrecord"))
        raise errors.DataError(
            f"{builder.data_dir} is stored as {info.file_format.value}; TFRecord files are read. Convert it:\n"
            f"{_CONVERT.format(image_key=image_key)} {source} {converted}\n"
            f"and give --data_dir={converted}"
        )
    files = tuple(str(path) for path in info.splits[split].filepaths)
    places = tfrecords.located(files, info.splits[split].shard_lengths)
    return tfrecords.Records(files, *places, keys=(image_key, label_key))
