"""Tests of `tfds_datasets`: labels of every kind, splits of any name, ArrayRecord; what TFDS writes is the oracle."""

import json
import shlex
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from alexnet_tf.data import discovery
from alexnet_tf.network import architectures
from alexnet_tf.support import errors
from tests.helpers import commands
from tests.helpers.files import images_of_greys
from tests.helpers.networks import SMALL

COUNT = 20


def write(directory, features, examples, splits=("train", "test"), name="toy", **options):
    """Writes a TFDS data set: `examples(number)` is an example but for its image, which is grey `10 * number`."""
    directory.mkdir(exist_ok=True)
    paths = images_of_greys(directory, [10 * number for number in range(COUNT)])
    features = tfds.features.FeaturesDict({"image": tfds.features.Image(encoding_format="png"), **features})
    tfds.dataset_builders.store_as_tfds_dataset(
        name,
        "1.0.0",
        features,
        {
            split: [(number, {"image": str(paths[number]), **examples(number)}) for number in range(COUNT)]
            for split in splits
        },
        data_dir=directory,
        **options,
    )
    for path in paths:
        path.unlink()
    return directory


def labels_by_grey(data, split="train"):
    """Returns {number of the image: class name}, from what training reads."""
    source = data.splits[split]
    examples = source.examples(
        tf.data.Dataset.range(len(source)).batch(8),
        lambda image_bytes, label: (tf.io.decode_png(image_bytes)[0, 0, 0], label),
    )
    return {int(grey) // 10: data.class_names[label] for grey, label in examples.as_numpy_iterator()}


TEXTS = ("ant", "bee", "käfer")
KINDS = {
    "class label": (tfds.features.ClassLabel(names=TEXTS), lambda number: number % 3, lambda number: TEXTS[number % 3]),
    "text": (tfds.features.Text(), lambda number: TEXTS[number % 3], lambda number: TEXTS[number % 3]),
    "int64": (tfds.features.Scalar(np.int64), lambda number: 9 + number % 3, lambda number: str(9 + number % 3)),
    "uint8": (
        tfds.features.Tensor(shape=(), dtype=np.uint8),
        lambda number: number % 3,
        lambda number: str(number % 3),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_every_kind(tmp_path, kind):
    feature, value, expected = KINDS[kind]
    data = discovery.find_dataset(str(write(tmp_path, {"label": feature}, lambda number: {"label": value(number)})))
    assert data.class_names == tuple(map(expected, range(3)))
    for split in ("train", "test"):
        assert labels_by_grey(data, split) == {number: expected(number) for number in range(COUNT)}


def test_keys_are_found_or_asked_for(tmp_path):
    write(
        tmp_path,
        {
            "colour": tfds.features.Text(),
            "species": tfds.features.Scalar(np.int64),
            "photo": tfds.features.Image(encoding_format="png"),
        },
        lambda number: {
            "colour": "red" if number % 2 else "blue",
            "species": number % 4,
            "photo": np.full((4, 4, 3), 255 - number, "uint8"),
        },
    )
    with pytest.raises(errors.DataError, match="name one of each: --image_key=NAME --label_key=NAME"):
        discovery.find_dataset(str(tmp_path))
    data = discovery.find_dataset(str(tmp_path), options={"label_key": "colour"})
    assert labels_by_grey(data) == {number: "red" if number % 2 else "blue" for number in range(COUNT)}
    data = discovery.find_dataset(str(tmp_path), options={"label_key": "species", "image_key": "photo"})
    assert data.options == {"label_key": "species", "image_key": "photo"} and len(data.class_names) == 4
    pixels = {int(tf.io.decode_png(data.splits["train"].image_bytes(index))[0, 0, 0]) for index in range(COUNT)}
    assert pixels == {255 - number for number in range(COUNT)}
    with pytest.raises(errors.DataError, match="has the images image, photo and the labels colour, species; .*flavour"):
        discovery.find_dataset(str(tmp_path), options={"label_key": "flavour"})


def test_a_label_that_train_has_not_is_no_class(tmp_path):
    write(tmp_path, {"label": tfds.features.Text()}, lambda number: {"label": "a" if number % 2 else "b"})
    data = discovery.find_dataset(str(tmp_path))
    assert data.class_names == ("a", "b")


def test_evaluate_matches_classes_in_another_order_by_their_names(tmp_path, colours, small_run, monkeypatch):
    monkeypatch.setitem(architectures.ARCHITECTURES, "small", SMALL)
    names = sorted(path.name for path in (colours / "val").iterdir())[::-1]
    features = tfds.features.FeaturesDict(
        {"image": tfds.features.Image(encoding_format="jpeg"), "label": tfds.features.ClassLabel(names=names)}
    )
    examples = [
        (number, {"image": str(path), "label": path.parent.name})
        for number, path in enumerate(sorted((colours / "val").glob("*/*")))
    ]
    tfds.dataset_builders.store_as_tfds_dataset(
        "colours", "1.0.0", features, {"train": examples[:5], "val": examples}, data_dir=tmp_path
    )
    results = []
    for directory in (colours, tmp_path):
        status, out, _ = commands.call(
            "-m", "alexnet_tf", "evaluate", "--split=val", "--json", f"--workdir={small_run}", f"--data_dir={directory}"
        )
        assert status == 0
        results.append(json.loads(out.splitlines()[-1]))
    assert results[1]["examples"] == len(examples) and results[1]["top1_error"] == results[0]["top1_error"] < 0.5
    assert results[1]["loss"] == pytest.approx(results[0]["loss"], rel=1e-5)


@pytest.mark.parametrize("others", [("holdout",), ("holdout", "extra")])
def test_splits_of_other_names_are_named_and_a_tenth_of_train_is_held_out(tmp_path, others):
    write(
        tmp_path,
        {"label": tfds.features.ClassLabel(num_classes=3)},
        lambda number: {"label": number % 3},
        splits=("train", *others),
    )
    data = discovery.find_dataset(str(tmp_path))
    sizes = {name: len(split) for name, split in data.splits.items()}
    assert sizes == {"train": 18, "validation": 2} | dict.fromkeys(others, COUNT) and data.validation == "validation"
    assert data.notes == (
        f"No split is called val, valid, validation, test (there: {', '.join(others)}): every tenth example of "
        "train is held out.",
    )


def test_the_advice_for_array_record_works_when_it_is_pasted(tmp_path, monkeypatch):
    pytest.importorskip("array_record")
    source = write(
        tmp_path / "it's here",
        {"label": tfds.features.ClassLabel(names=TEXTS)},
        lambda number: {"label": number % 3},
        file_format="array_record",
    )
    with pytest.raises(errors.DataError, match="is stored as array_record; TFRecord files are read") as caught:
        discovery.find_dataset(str(source))
    command, _, advice = str(caught.value).partition("\n")[2].rpartition("\nand give ")
    python, option, code, *arguments = shlex.split(command)
    assert (python, option) == ("python", "-c")
    monkeypatch.setattr(sys, "argv", [option, *arguments])
    exec(code, {})
    [data_dir] = [word.removeprefix("--data_dir=") for word in shlex.split(advice)]
    data = discovery.find_dataset(data_dir)
    assert labels_by_grey(data) == {number: TEXTS[number % 3] for number in range(COUNT)}
