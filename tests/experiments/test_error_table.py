import dataclasses

import numpy as np
import pytest

from alexnet_tf.data import discovery
from alexnet_tf.experiments import catalogue, error_table, figure4
from alexnet_tf.network import alexnet, architectures
from tests.helpers.networks import TINY


def untrained(data, seed=0):
    """Returns a small network with random weights, and images."""
    stages = (
        architectures.Stage("conv1", 16, 11, strides=4, towers=2, ops=("relu", "pool")),
        architectures.Stage("fc7", 64, ops=("relu", "dropout")),
        architectures.Stage("fc8", len(data.class_names), ops=(), kernel=architectures.Init("normal", 0.1)),
    )
    architecture = dataclasses.replace(TINY, stages=stages, scale=(1 / architectures.PIXEL_STDEV,) * 3)
    model = alexnet.build_model(architecture, seed=seed)
    return error_table.TrainedRun(f"seed {seed}", model, architecture, tuple(data.class_names), "paper", data)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return untrained(discovery.synthetic_dataset(str(tmp_path_factory.mktemp("data") / "images"), 20))


def test_average_of_networks_is_the_average_of_their_probabilities(run):
    other = untrained(run.data, seed=1)
    result = error_table.reproduce([run, other], batch_size=16)
    here, published = result.tables
    assert [(row[0], row[1]) for row in here.rows] == [
        (name, crops) for crops in (1, 10) for name in ("seed 0", "seed 1", "average of 2")
    ]
    first, labels = error_table._probabilities(run, "val", 1, 16)
    second, _ = error_table._probabilities(other, "val", 1, 16)
    expected = ((first + second).argmax(axis=1) != labels).mean()
    assert here.rows[2][2] == pytest.approx(expected)
    assert ("Caffe, bvlc_alexnet", 1, 0.429, 0.198) in published.rows


def test_labels_are_found_by_the_classes_names(run):
    data = dataclasses.replace(run.data, class_names=run.class_names[:1:-1])
    labels = dataclasses.replace(run, data=data).labels_of(np.array([0, 1]))
    assert labels.tolist() == [len(run.class_names) - 1, len(run.class_names) - 2]


@pytest.mark.parametrize(
    ("average", "verdict"), [(0.05, catalogue.REPRODUCED), (0.19, catalogue.SAME_DIRECTION), (0.21, catalogue.NOT_SEEN)]
)
def test_verdict_needs_more_than_the_standard_error(average, verdict):
    assert error_table._finding([0.2, 0.25], average, 1, 400).verdict == verdict


def test_figure4_finds_the_image_itself_among_the_training_images(run):
    splits = run.data.splits | {"val": run.data.splits["train"]}
    result = figure4.reproduce(
        dataclasses.replace(run, data=dataclasses.replace(run.data, splits=splits)), batch_size=16
    )
    [finding] = result.findings
    agreement = float(finding.ours.split(" %")[0]) / 100
    assert agreement >= 1 / 6
    assert finding.verdict in (catalogue.REPRODUCED, catalogue.SAME_DIRECTION)


def test_figure4_shows_one_image_of_each_class_first(run):
    split = run.data.splits["val"]
    chosen = figure4._choose(split, seed=0)
    classes = len(run.class_names)
    assert len(chosen) == len(set(chosen)) == 8
    assert np.asarray(split.labels)[chosen[:classes]].tolist() == list(range(min(classes, 8)))
