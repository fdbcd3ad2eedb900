"""Tests of `tfds_datasets`: what TFDS writes and reads is the oracle; labels of every kind, splits of any name."""

import shlex
import shutil
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from alexnet_tf.data import discovery
from alexnet_tf.runs.config import RunData
from tests.helpers.files import images_of_greys
from tests.helpers.layouts import error_of, find, sizes

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
    """Returns {number of the image: class name}."""
    source = data.splits[split]
    greys = [int(tf.io.decode_png(source.image_bytes(index))[0, 0, 0]) for index in range(len(source))]
    return {grey // 10: data.class_names[source.label(index)] for index, grey in enumerate(greys)}


TEXTS = ("ant", "bee", "käfer")


@pytest.mark.parametrize(
    ("feature", "values"),
    [
        (tfds.features.ClassLabel(names=TEXTS), TEXTS),
        (tfds.features.Text(), TEXTS),
        (tfds.features.Scalar(np.int64), (9, 10, 11)),
        (tfds.features.Tensor(shape=(), dtype=np.uint8), (0, 1, 2)),
    ],
)
def test_labels_of_every_kind(tmp_path, feature, values):
    data = find(write(tmp_path, {"label": feature}, lambda number: {"label": values[number % 3]}))
    assert data.class_names == tuple(map(str, values))
    for split in ("train", "test"):
        assert labels_by_grey(data, split) == {number: str(values[number % 3]) for number in range(COUNT)}


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
    choose = "Images: image, photo; labels: colour, species. Name one of each: --image_key=NAME --label_key=NAME."
    assert choose in error_of(tmp_path) and choose in error_of(tmp_path, label_key="flavour")
    data = find(tmp_path, label_key="colour")
    assert labels_by_grey(data) == {number: "red" if number % 2 else "blue" for number in range(COUNT)}
    data = find(tmp_path, label_key="species", image_key="photo")
    assert data.options == {"label_key": "species", "image_key": "photo"} and len(data.class_names) == 4
    pixels = {int(tf.io.decode_png(data.splits["train"].image_bytes(index))[0, 0, 0]) for index in range(COUNT)}
    assert pixels == {255 - number for number in range(COUNT)}


def test_one_label_is_not_enough(tmp_path):
    write(tmp_path, {"label": tfds.features.Text()}, lambda number: {"label": "a"})
    assert "At least two different labels are needed in train; found ['a']." in error_of(tmp_path)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds") / "data"
    return write(directory, {"label": tfds.features.ClassLabel(names=TEXTS)}, lambda number: {"label": number % 3})


@pytest.mark.parametrize("where", [("", None), ("", "toy"), ("toy", None), ("toy/1.0.0", None)])
def test_the_original_bytes_are_read_in_the_order_of_tfds(toy, where):
    data = find(toy / where[0], dataset=where[1])
    assert data.name == "toy" and data.class_names == TEXTS and data.validation == "test"
    assert data.directory == str(toy / "toy/1.0.0") and data.options == {}
    builder = tfds.builder_from_directory(toy / "toy/1.0.0")
    for name, split in data.splits.items():
        dataset = builder.as_dataset(split=name, decoders={"image": tfds.decode.SkipDecoding()}, shuffle_files=False)
        expected = [(example["image"], int(example["label"])) for example in tfds.as_numpy(dataset)]
        assert [(split.image_bytes(index), split.label(index)) for index in range(len(split))] == expected
    assert split.describe(0) == f"{toy}/toy/1.0.0/toy-test.tfrecord-00000-of-00001, the record at byte 12"


def test_of_several_one_is_chosen(toy, tmp_path):
    shutil.copytree(toy, tmp_path, dirs_exist_ok=True)
    shutil.copytree(toy / "toy/1.0.0", tmp_path / "toy/0.9.1")
    assert find(tmp_path).fingerprint() == find(toy).fingerprint()
    write(tmp_path, {"label": tfds.features.ClassLabel(names=TEXTS)}, lambda _: {"label": 0}, ("train",), "second")
    assert "choose with --dataset=NAME. There: second, toy." in error_of(tmp_path)
    assert find(tmp_path, dataset="second").name == "second"
    assert "No prepared TFDS data set 'cifar10'" in error_of(tmp_path, dataset="cifar10")


def test_the_newest_version_is_found(toy, tmp_path):
    for version in ("1.0.0", "1.10.0", "1.9.0"):
        path = shutil.copytree(toy / "toy/1.0.0", tmp_path / "toy" / version) / "dataset_info.json"
        path.write_text(path.read_text(encoding="utf-8").replace("1.0.0", version), encoding="utf-8")
    for directory, version in ((tmp_path, "1.10.0"), (tmp_path / "toy/1.9.0", "1.9.0")):
        assert find(directory).directory == str(tmp_path / "toy" / version)


def test_another_tools_file_of_that_name_is_not_a_data_set(tmp_path):
    (tmp_path / "dataset_info.json").write_text("[]")
    assert "holds nothing to train on" in error_of(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "is damaged: {} records were expected"),
        (lambda path: path.write_bytes(path.read_bytes() + b"\0" * 7), "is damaged: {} records were expected"),
        (lambda path: path.unlink(), "cannot be read: No such file"),
    ],
    ids=["cut", "tail", "missing"],
)
def test_a_damaged_file_is_named(toy, tmp_path, damage, message):
    shutil.copytree(toy, tmp_path, dirs_exist_ok=True)
    [path] = (tmp_path / "toy/1.0.0").glob("*train*")
    damage(path)
    assert f"{path} {message.format(COUNT)}" in error_of(tmp_path)


def test_a_set_without_train_or_without_images_says_so(tmp_path):
    write(tmp_path / "a", {"label": tfds.features.Text()}, lambda number: {"label": "a"}, splits=("test",))
    assert "has no split 'train'; it has test" in error_of(tmp_path / "a")
    features = tfds.features.FeaturesDict({"x": tfds.features.Scalar(np.int64)})
    store = tfds.dataset_builders.store_as_tfds_dataset
    store("numbers", "1.0.0", features, {"train": [(0, {"x": 1})]}, data_dir=tmp_path / "b")
    assert "numbers: an image and a label are needed" in error_of(tmp_path / "b")


def test_a_run_with_its_classes_in_another_order_gets_its_own_labels(toy):
    expected = {number: TEXTS[number % 3] for number in range(COUNT)}
    data = discovery.load_run_dataset(RunData(TEXTS[::-1]), str(toy))
    assert data.class_names == TEXTS[::-1] and labels_by_grey(data) == labels_by_grey(data, "test") == expected


@pytest.mark.parametrize("others", [(), ("holdout",), ("holdout", "extra")])
def test_without_a_validation_split_every_tenth_example_of_train_is_held_out(tmp_path, others):
    write(
        tmp_path,
        {"label": tfds.features.ClassLabel(num_classes=3)},
        lambda number: {"label": number % 3},
        splits=("train", *others),
    )
    data = find(tmp_path)
    assert sizes(data) == {"train": 18, "validation": 2} | dict.fromkeys(others, COUNT)
    assert data.validation == "validation"
    assert labels_by_grey(data) | labels_by_grey(data, "validation") == {i: str(i % 3) for i in range(COUNT)}
    there = ", ".join(("train", *others))
    assert data.notes == (f"No validation split is there, but {there}: every tenth example of train is held out.",)


def test_the_advice_for_array_record_works_when_it_is_pasted(tmp_path, monkeypatch):
    pytest.importorskip("array_record")
    source = write(
        tmp_path / "it's here",
        {"label": tfds.features.ClassLabel(names=TEXTS)},
        lambda number: {"label": number % 3},
        file_format="array_record",
    )
    reason, _, rest = error_of(source).partition("\n")
    assert "is stored as array_record; TFRecord files are read" in reason
    command, _, advice = rest.rpartition("\nand give ")
    python, option, code, *arguments = shlex.split(command)
    assert (python, option) == ("python", "-c")
    monkeypatch.setattr(sys, "argv", [option, *arguments])
    exec(code, {})
    [data_dir] = [word.removeprefix("--data_dir=") for word in shlex.split(advice)]
    data = find(data_dir)
    assert labels_by_grey(data) == {number: TEXTS[number % 3] for number in range(COUNT)}
