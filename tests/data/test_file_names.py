"""Tests of `file_names`: classes that only the files' names state, and the command that writes them down."""

import pathlib
import subprocess

import PIL.Image
import pytest

from alexnet_tf.data import discovery
from alexnet_tf.support import errors


def write_images(directory, *names):
    for name in names:
        path = pathlib.Path(directory, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (8, 8)).save(path)


def error_of(directory):
    with pytest.raises(errors.DataError) as caught:
        discovery.find_dataset(str(directory))
    return str(caught.value)


LAYOUTS = {  # As Kaggle's Dogs vs. Cats, the Oxford pets and a phone's exports come.
    "train and numbered test1": (
        [f"train/{name}.{number}.jpg" for name in ("cat", "dog") for number in range(20)]
        + [f"test1/{number}.jpg" for number in range(5)],
        ["cat", "dog"],
    ),
    "train and test": (
        [f"train/{name}.{number}.jpg" for name in ("cat", "dog") for number in range(20)] + ["test/1.jpg"],
        ["cat", "dog"],
    ),
    "one folder of images": (
        [f"images/{name}_{number}.png" for name in ("Abyssinian", "great_pyrenees") for number in range(20)],
        ["Abyssinian", "great_pyrenees"],
    ),
    "flat": ([f"{name} ({number}).jpg" for name in ("red fox", "wolf") for number in range(20)], ["red fox", "wolf"]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_printed_command_writes_labels_that_are_read(tmp_path, layout):
    files, names = LAYOUTS[layout]
    directory = tmp_path / "my data"
    write_images(directory, *files)
    message = error_of(directory)
    question, _, rest = message.partition("Are the classes in the names of the files: ")
    assert rest.startswith(f"{', '.join(names)}? Then type\n"), message
    command, _, train = rest.split("\n", 1)[1].rpartition("\n")
    subprocess.run(["bash", "-c", command], check=True)
    [folder] = [word for word in directory.rglob("labels.csv")]
    assert train == f"python train.py --data_dir='{folder.parent}' --labels=labels.csv"
    data = discovery.find_dataset(str(folder.parent), options={"labels": "labels.csv"})
    assert list(data.class_names) == names
    assert sum(len(split) for split in data.splits.values()) == 40
    for split in data.splits.values():
        for path, label in zip(split.paths, split.labels.tolist()):
            assert pathlib.Path(path).name.startswith(names[label])


@pytest.mark.parametrize(
    "files",
    [
        [f"IMG_{number}.jpg" for number in range(9)],
        [f"{number}.jpg" for number in range(9)],
        [f"name{chr(97 + number)}.jpg" for number in range(9)],
        [*(f"cat.{number}.jpg" for number in range(9)), "a1.jpg"],
    ],
)
def test_names_that_state_no_classes_are_not_asked_about(tmp_path, files):
    write_images(tmp_path, *files)
    assert "in the names of the files" not in error_of(tmp_path)


def test_a_class_may_be_called_as_a_split(tmp_path):
    write_images(tmp_path, *[f"{name}/{number}.jpg" for name in ("train", "test tube", "bus") for number in range(4)])
    assert discovery.find_dataset(str(tmp_path)).class_names == ("bus", "test tube", "train")
