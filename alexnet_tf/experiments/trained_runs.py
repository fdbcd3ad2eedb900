"""Runs as the experiments use them: network, images, and which class of the network a folder is."""

import dataclasses
import pathlib

import keras
import numpy as np

from alexnet_tf.data import datasets, discovery
from alexnet_tf.network import alexnet, architectures, recipes
from alexnet_tf.runs.directory import RunDirectory, load_model
from alexnet_tf.support import errors


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A network that has learned, and the images to try it on.

    Attributes:
        name: For tables.
        model: Learns no more.
        architecture: Its architecture.
        class_names: Of its outputs.
        resize: How its images become 256 x 256.
        data: Splits and their class names.
    """

    name: str
    model: keras.Model
    architecture: architectures.Architecture
    class_names: tuple[str, ...]
    resize: str
    data: datasets.DataSet

    def labels_of(self, labels: np.ndarray) -> np.ndarray:
        """Returns the network's class for each label of the data, which may have fewer classes, in another order."""
        numbers = {name: number for number, name in enumerate(self.class_names)}
        return np.array([numbers[name] for name in self.data.class_names])[labels]


def load(workdir: str, data_dir: str | None = None, checkpoint: str = "last") -> TrainedRun:
    """Loads a run with its images, or with others of its classes.

    Args:
        workdir: The run's directory.
        data_dir: As for `discovery.find_dataset`; by default the run's.
        checkpoint: "last" or "best".

    Raises:
        errors.UserError: If there is no run, or its network does not know a class of the images.
    """
    model, config, _ = load_model(RunDirectory(workdir), checkpoint)
    data = discovery.load_run_dataset(config.data, data_dir, any_classes=True)
    class_names = tuple(config.data.classes)
    if unknown := sorted(set(data.class_names) - set(class_names)):
        raise errors.DataError(
            f"{workdir} does not know {len(unknown)} classes of {data.directory}: {datasets.abbreviate(unknown)}."
        )
    return TrainedRun(
        pathlib.Path(workdir).name, model, config.architecture, class_names, config.train.recipe.resize, data
    )


def untrained(directory: str | pathlib.Path, seed: int = 0, images_per_class: int = 20) -> TrainedRun:
    """Returns a small network with random weights and synthetic images, to try an experiment out.

    Args:
        directory: Where the images are kept.
        seed: Of the weights.
        images_per_class: Training images of each class.
    """
    data = discovery.synthetic_dataset(str(directory), images_per_class)
    architecture = architectures.Architecture(
        "small",
        "to try an experiment out",
        67,
        recipe=recipes.Recipe(),
        scale=(1 / architectures.PIXEL_STDEV,) * 3,
        stages=(
            architectures.Stage("conv1", 16, 11, strides=4, towers=2, ops=("relu", "pool")),
            architectures.Stage("fc7", 64, ops=("relu", "dropout")),
            architectures.Stage("fc8", len(data.class_names), ops=(), kernel=architectures.Init("normal", 0.1)),
        ),
    )
    return TrainedRun(
        f"seed {seed}",
        alexnet.build_model(architecture, seed=seed),
        architecture,
        tuple(data.class_names),
        "paper",
        data,
    )
