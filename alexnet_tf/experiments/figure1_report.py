"""What Figure 1's networks showed: the picture, the times to 25 % training error, their ratios."""

import itertools
import statistics

from alexnet_tf.experiments import report
from alexnet_tf.experiments.figure1 import ACTIVATIONS, STARTS, THRESHOLD, Budget, Network
from alexnet_tf.support import plotting

_CLAIM = "a network with ReLU reaches 25 % training error six times faster than its twin with tanh"


def result(networks: list[Network], budget: Budget, *, is_real: bool = True) -> report.Result:
    """Returns the findings, tables and picture of what is trained so far.

    Args:
        networks: From `figure1.train`.
        budget: What they were trained with.
        is_real: Whether on CIFAR-10, so that a verdict can be given.
    """
    pairs = {
        pair: {each.activation: each for each in group}
        for pair, group in itertools.groupby(sorted(networks, key=lambda each: each.pair), lambda each: each.pair)
    }
    findings = tuple(_finding(pair, twins, budget, is_real) for pair, twins in pairs.items() if len(twins) == 2)
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
    return report.Result(
        findings,
        (
            report.Table(
                "Epochs to 25 % training error", ("network", "start", "activation", "rate", "seeds", "epochs"), times
            ),
            report.Table(
                f"The search: training error after {budget.search_epochs} epochs, by learning rate",
                ("network", "start", "activation", "rate: error"),
                search,
            ),
        ),
        {"curves": _draw(networks)},
        (
            f"Starts: {starts} Whole images minus the mean image, no decay, no dropout, momentum .9, biases at twice "
            f"the rate, {budget.batch_size} images a step. The training error is that before each update, averaged "
            f"over quarters of an epoch. A network is given up after {budget.epochs} epochs.",
        ),
        sum(each.seconds for each in networks),
    )


def _finding(pair: tuple[str, str], twins: dict[str, Network], budget: Budget, is_real: bool) -> report.Finding:
    relu, tanh = (twins[activation].epochs_to_threshold() for activation in ACTIVATIONS)
    both = [(first, second) for first, second in zip(relu, tanh) if first is not None]
    ratios = [(second or budget.epochs) / first for first, second in both]
    is_bound = any(second is None for _, second in both)
    verdict, ours = report.NOT_SEEN, "ReLU does not reach it"
    if ratios:
        ratio = statistics.fmean(ratios)
        ours = ("over " if is_bound else "") + report.mean_and_spread(ratios, lambda value: f"{value:.1f} times")
        verdict = report.REPRODUCED if ratio >= 5 else report.SAME_DIRECTION if ratio > 1.1 else report.NOT_SEEN
    return report.Finding(f"{_CLAIM} ({pair[0]}, {pair[1]} start)", "6 times", ours, verdict if is_real else None)


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
