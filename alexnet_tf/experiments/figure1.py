"""Figure 1: how much sooner a network with ReLU reaches 25 % training error on CIFAR-10 than its twin with tanh.

Section 3.1. The paper's networks are not published. Here they are cuda-convnet's, in two sizes, started in two ways;
within a pair only the activation differs. Nothing regularises: whole images, no decay, no dropout. As in the paper,
each network gets its own learning rate: that of several with the lowest training error after a few epochs with seed 0.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator

from alexnet_tf.experiments import cifar_data, cifar_training
from alexnet_tf.network import architectures, cifar_architectures
from alexnet_tf.network.architectures import Architecture, Init

ACTIVATIONS = ("relu", "tanh")

# The training error at which the paper compares.
THRESHOLD = 0.25


@dataclasses.dataclass(frozen=True)
class Start:
    """How the networks start.

    Attributes:
        description: For tables.
        learning_rates: What the search tries.
        apply: Architecture and activation -> architecture.
    """

    description: str
    learning_rates: tuple[float, ...]
    apply: Callable[[Architecture, str], Architecture]


def _scaled(architecture: Architecture, activation: str) -> Architecture:
    """Returns the network on pixels of unit variance, with kernels that keep the signal's size."""
    gain = {"relu": 2**0.5, "tanh": 1.0}[activation]
    stages = tuple(dataclasses.replace(stage, kernel=Init("normal_fan_in", gain)) for stage in architecture.stages[:-1])
    return dataclasses.replace(
        architecture, stages=(*stages, architecture.stages[-1]), scale=(1 / architectures.PIXEL_STDEV,) * 3
    )


STARTS = {
    "author": Start(
        "the author's: pixels as they are, conv1 N(0, 1e-4), locally connected layers N(0, .04), others N(0, .01)",
        (0.0003, 0.001, 0.003, 0.01, 0.03),
        lambda architecture, activation: architecture,
    ),
    "scaled": Start(
        "scaled: pixels of unit variance, kernels N(0, g / sqrt(inputs)), g 1.41 for ReLU and 1 for tanh",
        (0.003, 0.01, 0.03, 0.1),
        _scaled,
    ),
}


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much is trained.

    Attributes:
        pairs: (architecture, start) of each pair of networks.
        seeds: Networks of each kind.
        search_epochs: Epochs that each learning rate is tried for.
        epochs: When a network is given up that has not reached the threshold.
        batch_size: Images a step.
    """

    pairs: tuple[tuple[str, str], ...] = (
        ("layers-19pct", "author"),
        ("layers-19pct", "scaled"),
        ("conv-local-13pct", "author"),
    )
    seeds: int = 3
    search_epochs: int = 3
    epochs: int = 60
    batch_size: int = 128


# To see that everything works, in about a minute.
QUICK = Budget(pairs=(("layers-19pct", "scaled"),), seeds=1, search_epochs=1, epochs=3, batch_size=32)


def make_trial(
    name: str,
    start: str,
    activation: str,
    learning_rate: float,
    seed: int,
    batch_size: int,
    precision: str,
) -> cifar_training.Trial:
    """Returns the trial of a network of a pair."""
    architecture = cifar_architectures.with_image_size(
        cifar_architectures.CIFAR_ARCHITECTURES[name], cifar_data.IMAGE_SIZE
    )
    architecture = STARTS[start].apply(cifar_architectures.with_activation(architecture, activation), activation)
    recipe = dataclasses.replace(architecture.recipe, learning_rate=learning_rate, batch_size=batch_size)
    return cifar_training.Trial(
        f"{name}-{start}-{activation}-rate{learning_rate:g}-seed{seed}", architecture, recipe, seed, precision
    )


@dataclasses.dataclass(frozen=True)
class Network:
    """One network of a pair and what was found.

    Attributes:
        pair: (architecture, start).
        activation: "relu" or "tanh".
        search: The curves of the search, by learning rate.
        learning_rate: The best.
        curves: By seed, at the best rate.
    """

    pair: tuple[str, str]
    activation: str
    search: dict[float, cifar_training.Curve]
    learning_rate: float
    curves: dict[int, cifar_training.Curve]

    @property
    def seconds(self) -> float:
        """Wall time of all trainings; the best rate's search is the beginning of the first seed's."""
        others = [curve for rate, curve in self.search.items() if rate != self.learning_rate]
        return sum(curve.seconds for curve in (*others, *self.curves.values()))

    def epochs_to_threshold(self) -> list[float | None]:
        """Returns for each seed when the training error fell below the threshold."""
        return [curve.epochs_to(THRESHOLD) for curve in self.curves.values()]


def train(budget: Budget, images: cifar_data.CifarImages, directory: str, precision: str) -> Iterator[list[Network]]:
    """Trains everything, one seed of all pairs after the other.

    Yields:
        All networks so far, after each that is trained.
    """
    networks: dict[tuple[tuple[str, str], str], Network] = {}

    def run(pair: tuple[str, str], activation: str, rate: float, seed: int, epochs: int) -> cifar_training.Curve:
        trial = make_trial(pair[0], pair[1], activation, rate, seed, budget.batch_size, precision)
        return cifar_training.run_trial(trial, images, directory, epochs, stop_below=THRESHOLD, test_every=0)

    for seed, pair, activation in itertools.product(range(budget.seeds), budget.pairs, ACTIVATIONS):
        key = (pair, activation)
        if key not in networks:
            # The best one has been trained further if this goes on from before.
            search = {
                rate: run(*key, rate, 0, budget.search_epochs).first(budget.search_epochs)
                for rate in STARTS[pair[1]].learning_rates
            }
            networks[key] = Network(pair, activation, search, min(search, key=lambda rate: search[rate].error), {})
        curve = run(*key, networks[key].learning_rate, seed, budget.epochs)
        networks[key] = dataclasses.replace(networks[key], curves=networks[key].curves | {seed: curve})
        yield list(networks.values())
