"""Figure 1: how much sooner a network with ReLU reaches 25 % training error on CIFAR-10 than its twin with tanh.

Section 3.1. The paper's networks are not published. Here they are cuda-convnet's, in two sizes, started in two ways;
within a pair only the activation differs. Nothing regularises: whole images, no decay, no dropout. As in the paper,
each network gets its own learning rate: that of several with the lowest training error after a few epochs with seed 0.
"""

import dataclasses
import statistics
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from alexnet_tf.experiments import catalogue, cifar
from alexnet_tf.network import architectures, cifar_architectures
from alexnet_tf.network.architectures import Init
from alexnet_tf.support import plotting

ACTIVATIONS = ("relu", "tanh")

# (architecture, start) of each pair of networks.
PAIRS = (("layers-19pct", "author"), ("layers-19pct", "scaled"), ("conv-local-13pct", "author"))

# The learning rates that are tried, by start.
RATES = {"author": (0.0003, 0.001, 0.003, 0.01, 0.03), "scaled": (0.003, 0.01, 0.03, 0.1)}

# Epochs that each learning rate is tried for.
SEARCH_EPOCHS = 3

# When a network is given up that has not reached the threshold.
EPOCHS = 60

# The training error at which the paper compares.
THRESHOLD = 0.25

_CLAIM = "a network with ReLU reaches 25 % training error six times faster than its twin with tanh"

# Each network at its best learning rate -> the training errors of all its learning rates after the search.
Searches = Mapping[cifar.Variant, Mapping[cifar.Variant, float]]


def make_variant(name: str, start: str, activation: str, learning_rate: float) -> cifar.Variant:
    """Returns a network of a pair with a learning rate."""
    architecture = cifar_architectures.with_image_size(cifar_architectures.CIFAR_ARCHITECTURES[name], cifar.IMAGE_SIZE)
    architecture = cifar_architectures.with_activation(architecture, activation)
    stages, scale = architecture.stages, architecture.scale
    if start == "scaled":  # Pixels of unit variance, and kernels that keep the signal's size.
        kernel = Init("normal_fan_in", {"relu": 2**0.5, "tanh": 1.0}[activation])
        stages = (*(dataclasses.replace(stage, kernel=kernel) for stage in stages[:-1]), stages[-1])
        scale = (1 / architectures.PIXEL_STDEV,) * 3
    recipe = dataclasses.replace(architecture.recipe, learning_rate=learning_rate)
    architecture = dataclasses.replace(architecture, stages=stages, scale=scale, recipe=recipe)
    return cifar.Variant(f"{name}-{start}-{activation}-rate{learning_rate:g}", architecture)


def search(train: cifar.Trainer, name: str, start: str, activation: str) -> tuple[cifar.Variant, dict]:
    """Tries a network's learning rates; returns the one with the lowest training error, and the errors of all."""
    variants = [make_variant(name, start, activation, rate) for rate in RATES[start]]
    errors = {variant: train(variant, 0, SEARCH_EPOCHS).error_after(SEARCH_EPOCHS) for variant in variants}
    return min(errors, key=lambda variant: errors[variant]), errors


def run(name: str, options: catalogue.Options) -> Iterator[catalogue.Result]:
    """Searches all learning rates, and yields what is found after each network that is trained at its best."""
    epochs, train = options.epochs or EPOCHS, cifar.make_trainer(options, stop_below=THRESHOLD, test_every=0)
    searches = dict(search(train, *pair, activation) for pair in PAIRS for activation in ACTIVATIONS)
    for curves in cifar.train_all(train, searches, options.seeds, epochs):
        yield result(searches, curves, epochs)


def result(searches: Searches, curves: cifar.Curves, epochs: int) -> catalogue.Result:
    """Returns the findings, tables and picture of what is trained so far.

    Args:
        searches: Of all networks, those with ReLU and those with tanh in turn.
        curves: The training of each network, by seed.
        epochs: When a network is given up.
    """
    networks = list(searches)
    twins = [(curves.get(relu), curves.get(tanh)) for relu, tanh in zip(networks[::2], networks[1::2])]
    times = [(each.name, len(curves[each]), ", ".join(map(_time, curves[each]))) for each in networks if each in curves]
    errors = [(variant.name, error) for each in searches.values() for variant, error in each.items()]
    return catalogue.Result(
        [_finding(pair, relu, tanh, epochs) for pair, (relu, tanh) in zip(PAIRS, twins) if relu and tanh],
        {
            "Epochs to 25 % training error": [("network", "seeds", "epochs"), *times],
            f"The search: after {SEARCH_EPOCHS} epochs": [("network", "training error"), *errors],
        },
        {"curves": _draw(curves, networks)},
        "Starts: *author*: the author's: pixels as they are, conv1 N(0, 1e-4), locally connected layers N(0, .04), "
        "others N(0, .01). *scaled*: pixels of unit variance, kernels N(0, g / sqrt(inputs)), g 1.41 for ReLU and 1 "
        "for tanh. Whole images minus the mean image, no decay, no dropout, momentum .9, biases at twice the rate, 128 "
        "images a step. The training error is that before each update, averaged over quarters of an epoch. A network "
        f"is given up after {epochs} epochs.",
    )


def _time(curve: cifar.Curve) -> str:
    time = curve.epochs_to(THRESHOLD)
    return f"{time:.2f}" if time else f"not reached in {len(curve.history)}"


def _finding(
    pair: tuple[str, str], relu: Sequence[cifar.Curve], tanh: Sequence[cifar.Curve], epochs: int
) -> catalogue.Finding:
    times = [(first.epochs_to(THRESHOLD), second.epochs_to(THRESHOLD)) for first, second in zip(relu, tanh)]
    ratios = [(second or epochs) / first for first, second in times if first]
    verdict, ours = catalogue.NOT_SEEN, "ReLU does not reach it"
    if ratios:
        ratio = statistics.fmean(ratios)
        verdict = catalogue.verdict(ratio > 1.1, ratio >= 5)
        ours = catalogue.mean_and_spread(ratios, lambda value: f"{value:.1f} times")
        if any(first and not second for first, second in times):
            ours = f"over {ours}"
    return catalogue.Finding(f"{_CLAIM} ({pair[0]}, {pair[1]} start)", "6 times", ours, verdict)


@plotting.style()
def _draw(curves: cifar.Curves, networks: Sequence[cifar.Variant]) -> np.ndarray:
    """Draws the training errors over the epochs: ReLU solid, tanh dashed, a colour for each pair."""
    figure = plotting.new_figure(7.5, 5)
    axes = figure.add_subplot(xlabel="epochs", ylabel="training error")
    for place, network in enumerate(networks):
        for seed, curve in enumerate(curves.get(network, [])):
            look = {"color": f"C{place // 2}", "linestyle": "--" if place % 2 else "-", "linewidth": 1.5}
            axes.plot(*curve.points(), **look, label=None if seed else network.name)
    axes.axhline(THRESHOLD, color="black", linewidth=0.8)
    axes.text(0, THRESHOLD - 0.005, "25 %", va="top", fontsize=9)
    axes.set(xlim=(0, None), ylim=(0, 0.8))
    axes.legend(fontsize=9)
    return plotting.pixels(figure)
