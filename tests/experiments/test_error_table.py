import dataclasses

import numpy as np
import pytest

from alexnet_tf.data import discovery, synthetic
from alexnet_tf.evaluation import metrics
from alexnet_tf.experiments import catalogue, error_table, figure4
from alexnet_tf.network import alexnet, architectures
from tests.helpers.networks import SMALL


def untrained(data, seed=0):
    """Returns a small network with random weights, and images."""
    last = architectures.Stage("fc8", len(data.class_names), ops=(), kernel=architectures.Init("normal", 0.1))
    architecture = architectures.with_initialization(SMALL, "he")
    architecture = dataclasses.replace(architecture, stages=(*architecture.stages[:-1], last))
    model = alexnet.build_model(architecture, seed=seed)
    return error_table.TrainedRun(f"seed {seed}", model, architecture, "paper", data)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("data") / "images")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "IMAGES_PER_CLASS", {"train": 20, "val": 2})
        synthetic.write_all(directory)
    return untrained(discovery.find_dataset(directory))


def test_average_of_networks_is_the_average_of_their_probabilities(run):
    other = untrained(run.data, seed=1)
    (_, *here), published = error_table.reproduce([run, other]).tables.values()
    assert [(row[0], row[1]) for row in here] == [
        (name, crops) for crops in (1, 10) for name in ("seed 0", "seed 1", "average of 2")
    ]
    (first, labels), (second, _) = (
        each.outputs(metrics.make_predictor(each.model), run.data.splits["val"]) for each in (run, other)
    )
    assert here[2][2] == pytest.approx(((np.exp(first) + np.exp(second)).argmax(axis=1) != labels).mean())
    assert ("Caffe, bvlc_alexnet", 1, 0.429, 0.198) in published


@pytest.mark.parametrize(
    ("average", "verdict"), [(0.05, catalogue.REPRODUCED), (0.19, catalogue.SAME_DIRECTION), (0.21, catalogue.NOT_SEEN)]
)
def test_verdict_needs_more_than_the_standard_error(average, verdict):
    assert error_table._finding([0.2, 0.25], average, 1, 400).verdict == verdict


def test_figure4_finds_the_image_itself_among_the_training_images(run):
    splits = run.data.splits | {"val": run.data.splits["train"]}
    [finding] = figure4.reproduce(dataclasses.replace(run, data=dataclasses.replace(run.data, splits=splits))).findings
    assert float(finding.ours.split(" %")[0]) / 100 >= 1 / 6
    assert finding.verdict in (catalogue.REPRODUCED, catalogue.SAME_DIRECTION)


def test_figure4_shows_one_image_of_each_class_first(run):
    labels, classes = run.data.splits["val"].labels, len(run.data.class_names)
    chosen = figure4.choose(labels, seed=0)
    assert len(chosen) == len(set(chosen)) == 8
    assert labels[chosen[:classes]].tolist() == list(range(min(classes, 8)))
