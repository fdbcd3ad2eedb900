"""Data sets that TensorFlow Datasets (TFDS) prepared: which are in a directory, and where their records are.

The files are read by offset, as `prepare`'s are; TFDS itself is asked for the features only.
"""

import concurrent.futures
import dataclasses
import json
import pathlib
import shlex
import typing
from collections.abc import Mapping, Sequence

import numpy as np

from alexnet_tf.data import class_folders, datasets, tfrecords
from alexnet_tf.network import architectures
from alexnet_tf.support import errors

# The images stay as they are encoded. `tfds convert_format` needs Apache Beam, and does not convert from ArrayRecord.
_CONVERT = """\
python -c "import sys, tensorflow_datasets as tfds
b, out = tfds.builder_from_directory(sys.argv[1]), sys.argv[2]
raw = {{'{image_key}': tfds.decode.SkipDecoding()}}
splits = {{name: enumerate(b.as_data_source(name, decoders=raw)) for name in b.info.splits}}
tfds.dataset_builders.store_as_tfds_dataset(
    b.name, b.version, b.info.features, splits, config=b.builder_config, data_dir=out, file_format='tfrecord')\""""


@dataclasses.dataclass(frozen=True)
class TfdsKeys:
    """Which features of a TFDS data set are meant; None is found by looking.

    Attributes:
        image_key: Name of the image's feature.
        label_key: Name of the label's: a ClassLabel, a text or an integer.
    """

    image_key: str | None = None
    label_key: str | None = None


def prepared(directory: pathlib.Path) -> dict[str, pathlib.Path]:
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


def open_dataset(builder: typing.Any, keys: TfdsKeys = TfdsKeys()) -> datasets.DataSet:  # noqa: B008
    """Finds the records of a prepared TFDS data set.

    Args:
        builder: TFDS's.
        keys: Which features are meant.

    Raises:
        DataError: If it is no set for image classification, or its files cannot be read.
    """
    image_key, label_key = supervised_keys(builder, keys)
    splits = {name: read_split(builder, name, image_key, label_key) for name in builder.info.splits}
    if "train" not in splits:
        raise errors.DataError(f"{builder.data_dir} has no split 'train'; it has {', '.join(splits) or 'none'}.")
    feature, notes = builder.info.features[label_key], []
    if getattr(feature, "names", None):
        class_names = tuple(feature.names)
    else:
        class_names, splits = _with_found_classes(splits)
    validation = next((name for name in class_folders.VALIDATION_NAMES if name in splits), None)
    others = [name for name in splits if name != "train"]
    if validation is None:
        splits["train"], splits["validation"] = tfrecords.hold_out(splits["train"])
        validation = "validation"
        notes.append(
            "Only a train split is there: every tenth example is held out."
            if not others
            else f"No split is called {', '.join(class_folders.VALIDATION_NAMES)} (there: {', '.join(others)}): "
            "every tenth example of train is held out."
        )
    elif validation == "test":
        notes.append(class_folders.CHOSEN_ON_TEST)
    given = {name: value for name, value in dataclasses.asdict(keys).items() if value is not None}
    return datasets.DataSet(
        builder.name, str(builder.data_dir), class_names, splits, validation, tuple(notes), options=given
    )


def supervised_keys(builder: typing.Any, keys: TfdsKeys = TfdsKeys()) -> tuple[str, str]:  # noqa: B008
    """Returns the names of a data set's image and label.

    Raises:
        DataError: If there is no image, or no label that is a class, a text or an integer, or several.
    """
    import tensorflow_datasets as tfds

    features = dict(sorted(builder.info.features.items()))
    supervised = builder.info.supervised_keys or ()
    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    classes = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    others = [key for key, feature in features.items() if _may_be_label(feature)]
    image_key = keys.image_key or _the_one([key for key in images if key in supervised], images, usual="image")
    label_key = keys.label_key or _the_one(
        [key for key in (*classes, *others) if key in supervised], classes, others, usual="label"
    )
    if image_key is None or label_key is None:
        raise errors.DataError(
            f"{builder.name} is no image classification set: an Image and a ClassLabel, text or integer feature are "
            f"needed; it has {features}. If there are several, name one of each: --image_key=NAME --label_key=NAME."
        )
    if image_key not in images or label_key not in (*classes, *others):
        raise errors.DataError(
            f"{builder.name} has the images {', '.join(images) or 'none'} and the labels "
            f"{', '.join((*classes, *others)) or 'none'}; --image_key={image_key} --label_key={label_key} are not of "
            "them."
        )
    return image_key, label_key


def _the_one(*groups: Sequence[str], usual: str) -> str | None:
    """Returns the only member, or that of the usual name, of the first group that has one; None if it is not clear."""
    for group in groups:
        if group:  # TFDS keeps features in no order, so that none of several is the first.
            return group[0] if len(group) == 1 else usual if usual in group else None
    return None


def _may_be_label(feature: typing.Any) -> bool:
    """Returns whether a feature is a text or one integer, and no class label."""
    import tensorflow_datasets as tfds

    if isinstance(feature, (tfds.features.ClassLabel, tfds.features.Image)):
        return False
    if isinstance(feature, tfds.features.Text):
        return True
    is_scalar = getattr(feature, "shape", None) == () and isinstance(
        feature, (tfds.features.Scalar, tfds.features.Tensor)
    )
    return is_scalar and (
        np.issubdtype(feature.np_dtype, np.integer) or feature.np_dtype in (np.object_, np.str_, np.bytes_)
    )


def _with_found_classes(
    splits: Mapping[str, tfrecords.Records],
) -> tuple[tuple[str, ...], dict[str, tfrecords.Records]]:
    """Reads every record's label, which is a text or an integer; returns (class names, the splits with labels)."""
    values = {name: _label_values(split) for name, split in splits.items()}
    found = {each for each in values["train"] if each}
    is_numeric = all(name.lstrip("-").isdecimal() for name in found)
    class_names = tuple(sorted(found, key=(lambda name: (int(name), name)) if is_numeric else str))
    if len(class_names) < 2:
        raise errors.DataError(f"At least two different labels are needed in train; found {list(class_names)}.")
    label_of = {name: label for label, name in enumerate(class_names)}
    return class_names, {
        name: dataclasses.replace(split, labels=np.array([label_of.get(each, -1) for each in values[name]], "int32"))
        for name, split in splits.items()
    }


def _label_values(split: tfrecords.Records) -> list[str]:
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        return [str(label).strip() for label in pool.map(split.label, range(len(split)))]


def read_split(builder: typing.Any, split: str, image_key: str, label_key: str) -> tfrecords.Records:
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
    lengths_of_shards = info.splits[split].shard_lengths
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        spans = list(pool.map(tfrecords.record_spans, files, lengths_of_shards))
    file_of = np.repeat(np.arange(len(files), dtype="int32"), [len(s) for s in spans])
    offsets, lengths = np.concatenate(spans).T
    parse = tfrecords.ExampleParser(image_key, label_key)
    return tfrecords.Records(files, file_of, offsets, lengths, parse=parse)


def open_prepared(
    directory: pathlib.Path,
    preparation: dict,
    splits: Mapping[str, tfrecords.Records],
    statistics: datasets.Statistics,
) -> datasets.DataSet:
    """Returns what `prepare` wrote, from what `tfrecords.read_prepared` found."""
    notes = [
        f"Prepared at {architectures.SQUARE_SIZE} pixels (--resize={preparation['resize']}) from "
        f"{preparation['source']}; its own mean and colours are used."
    ]
    if preparation["validation"] == "test":
        notes.append(class_folders.CHOSEN_ON_TEST)
    return datasets.DataSet(
        preparation["name"],
        str(directory),
        tuple(preparation["classes"]),
        splits,
        preparation["validation"],
        tuple(notes),
        preparation["source"],
        preparation["resize"],
        statistics,
    )
