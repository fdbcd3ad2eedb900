"""Runs of the tiny network: their config, and what two of them must have in common."""

import csv
import dataclasses

from alexnet_tf.network import recipes
from alexnet_tf.runs.config import TrainConfig
from alexnet_tf.runs.directory import RunDirectory


def tiny_config(precision="float32", **changes):
    """Returns how to train `tiny` for two epochs; `changes` are fields of `TrainConfig` or of its recipe."""
    own = {field.name for field in dataclasses.fields(TrainConfig)} & changes.keys()
    recipe = {"batch_size": 8, "epochs": 2, "schedule": "cosine", "learning_rate": 0.01}
    recipe |= {name: value for name, value in changes.items() if name not in own}
    return TrainConfig(
        architecture="tiny",
        recipe=recipes.Recipe(**recipe),
        seed=3,
        precision=precision,
        **{name: changes[name] for name in own},
    )


def final_arrays(path):
    return RunDirectory(path).read_checkpoint()[0]


def history(path, dropped=("images_per_second",)):
    with open(path / "history.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k not in dropped} for row in csv.DictReader(file)]


def assert_same_run(path, expected):
    """Asserts that two runs have the same figures, and the same bits in every array of their last checkpoint."""
    got, whole = final_arrays(path), final_arrays(expected)
    assert got.keys() == whole.keys() and any("momentum" in name for name in whole)
    for name, array in whole.items():
        assert array.tobytes() == got[name].tobytes(), name
    assert history(path) == history(expected)
