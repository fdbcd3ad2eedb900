"""Figure 1: how much sooner a network with ReLU reaches 25 % training error on CIFAR-10 than its twin with tanh.

Section 3.1. The paper's networks are not published. Here they are cuda-convnet's, in two sizes, started in two ways;
within a pair only the activation differs. Nothing regularises: whole images, no decay, no dropout. As in the paper,
each network gets its own learning rate: that of several with the lowest training error after a few epochs with seed 0.
"""

import dataclasses
import itertools
import pathlib
import statistics
from collections.abc import Callable, Iterator

from alexnet_tf.experiments import catalogue, cifar
from alexnet_tf.network import architectures, cifar_architectures
from alexnet_tf.network.architectures import Architecture, Init
from alexnet_tf.support import plotting

ACTIVATIONS = ("relu", "tanh")

# The training error at which the paper compares.
THRESHOLD = 0.25

_CLAIM = "a network with ReLU reaches 25 % training error six times faster than its twin with tanh"


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
    """

    pairs: tuple[tuple[str, str], ...] = (
        ("layers-19pct", "author"),
        ("layers-19pct", "scaled"),
        ("conv-local-13pct", "author"),
    )
    seeds: int = 3
    search_epochs: int = 3
    epochs: int = 60


def make_trial(name: str, start: str, activation: str, learning_rate: float, seed: int, precision: str) -> cifar.Trial:
    """Returns the trial of a network of a pair."""
    architecture = cifar_architectures.with_image_size(cifar_architectures.CIFAR_ARCHITECTURES[name], cifar.IMAGE_SIZE)
    architecture = STARTS[start].apply(cifar_architectures.with_activation(architecture, activation), activation)
    recipe = dataclasses.replace(architecture.recipe, learning_rate=learning_rate)
    return cifar.Trial(
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
    search: dict[float, cifar.Curve]
    learning_rate: float
    curves: dict[int, cifar.Curve]

    @property
    def seconds(self) -> float:
        """Wall time of all trainings; the best rate's search is the beginning of the first seed's."""
        others = [curve for rate, curve in self.search.items() if rate != self.learning_rate]
        return sum(curve.seconds for curve in (*others, *self.curves.values()))

    def epochs_to_threshold(self) -> list[float | None]:
        """Returns for each seed when the training error fell below the threshold."""
        return [curve.epochs_to(THRESHOLD) for curve in self.curves.values()]


def train(
    budget: Budget, images: cifar.CifarImages, directory: pathlib.Path, precision: str
) -> Iterator[list[Network]]:
    """Trains everything, one seed of all pairs after the other.

    Yields:
        All networks so far, after each that is trained.
    """
    networks: dict[tuple[tuple[str, str], str], Network] = {}

    def run(pair: tuple[str, str], activation: str, rate: float, seed: int, epochs: int) -> cifar.Curve:
        trial = make_trial(pair[0], pair[1], activation, rate, seed, precision)
        return cifar.run_trial(trial, images, directory, epochs, stop_below=THRESHOLD, test_every=0)

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


def run(name: str, options: catalogue.Options) -> Iterator[catalogue.Result]:
    """Yields what is found, after each network."""
    budget = Budget(seeds=options.seeds)
    budget = dataclasses.replace(budget, epochs=options.epochs or budget.epochs)
    directory, precision = cifar.trials_of(options)
    for networks in train(budget, cifar.load(options), directory, precision):
        yield result(networks, budget)


def result(networks: list[Network], budget: Budget) -> catalogue.Result:
    """Returns the findings, tables and picture of what is trained so far.

    Args:
        networks: From `train`.
        budget: What they were trained with.
    """
    pairs = {
        pair: {each.activation: each for each in group}
        for pair, group in itertools.groupby(sorted(networks, key=lambda each: each.pair), lambda each: each.pair)
    }
    findings = tuple(_finding(pair, twins, budget) for pair, twins in pairs.items() if len(twins) == 2)
    times = tuple(
        (
            *each.pair,
            each.activation,
            f"{each.learning_rate:g}",
            len(each.curves),
            ", ".join(
                f"not reached in {len(curve.epochs)} ({curve.error:.1%})"
                if (time := curve.epochs_to(THRESHOLD)) is None
                else f"{time:.2f}"
                for curve in each.curves.values()
            ),
        )
        for each in networks
    )
    search = tuple(
        (*each.pair, each.activation, ", ".join(f"{rate:g}: {curve.error:.3f}" for rate, curve in each.search.items()))
        for each in networks
    )
    starts = " ".join(f"*{name}*: {start.description}." for name, start in STARTS.items())
    return catalogue.Result(
        findings,
        (
            catalogue.Table(
                "Epochs to 25 % training error", ("network", "start", "activation", "rate", "seeds", "epochs"), times
            ),
            catalogue.Table(
                f"The search: training error after {budget.search_epochs} epochs, by learning rate",
                ("network", "start", "activation", "rate: error"),
                search,
            ),
        ),
        {"curves": _draw(networks)},
        (
            f"Starts: {starts} Whole images minus the mean image, no decay, no dropout, momentum .9, biases at twice "
            f"the rate, 128 images a step. The training error is that before each update, averaged "
            f"over quarters of an epoch. A network is given up after {budget.epochs} epochs.",
        ),
        sum(each.seconds for each in networks),
    )


def _finding(pair: tuple[str, str], twins: dict[str, Network], budget: Budget) -> catalogue.Finding:
    relu, tanh = (twins[activation].epochs_to_threshold() for activation in ACTIVATIONS)
    both = [(first, second) for first, second in zip(relu, tanh) if first is not None]
    ratios = [(second or budget.epochs) / first for first, second in both]
    is_bound = any(second is None for _, second in both)
    verdict, ours = catalogue.NOT_SEEN, "ReLU does not reach it"
    if ratios:
        ratio = statistics.fmean(ratios)
        ours = ("over " if is_bound else "") + catalogue.mean_and_spread(ratios, lambda value: f"{value:.1f} times")
        verdict = (
            catalogue.REPRODUCED if ratio >= 5 else catalogue.SAME_DIRECTION if ratio > 1.1 else catalogue.NOT_SEEN
        )
    return catalogue.Finding(f"{_CLAIM} ({pair[0]}, {pair[1]} start)", "6 times", ours, verdict)


@plotting.style()
def _draw(networks: list[Network]):
    """Draws the training errors over the epochs: ReLU solid, tanh dashed, a colour for each pair."""
    figure = plotting.new_figure(7.5, 5)
    axes = figure.add_subplot()
    pairs = list(dict.fromkeys(each.pair for each in networks))
    for each in networks:
        for number, curve in enumerate(each.curves.values()):
            label = f"{each.activation}, {each.pair[0]}, {each.pair[1]} start, rate {each.learning_rate:g}"
            axes.plot(
                *curve.points(),
                "-" if each.activation == "relu" else "--",
                color=f"C{pairs.index(each.pair)}",
                linewidth=1.5,
                label=None if number else label,
            )
    axes.axhline(THRESHOLD, color="black", linewidth=0.8)
    axes.text(0, THRESHOLD - 0.005, "25 %", va="top", fontsize=9)
    axes.set_xlabel("epochs")
    axes.set_ylabel("training error")
    axes.set_xlim(0, None)
    axes.set_ylim(0, 0.8)
    axes.legend(fontsize=9)
    return figure
