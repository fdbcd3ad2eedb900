"""Networks that differ in one thing, on CIFAR-10: LRN, pooling, towers, dropout, colour noise, depth."""

import dataclasses
import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from alexnet_tf.experiments import catalogue, cifar
from alexnet_tf.experiments.cifar import Variant
from alexnet_tf.network import architectures, cifar_architectures
from alexnet_tf.network.architectures import LRN, Architecture, Init, Pool, Stage
from alexnet_tf.network.recipes import Recipe
from alexnet_tf.support import plotting

# The author's schedule: a constant rate, then 10 epochs each at a tenth and a hundredth of it.
FULL_EPOCHS = 520
_STEPS = ((500 / 520, 0.1), (510 / 520, 0.01))

# The same in short: the last two sixths of the run.
_SHORT_STEPS = ((4 / 6, 0.1), (5 / 6, 0.01))

# Test errors measured while a network is trained: nine views of every image take as long as half an epoch.
_TESTS = 4


def lrn_variants(is_full: bool = False) -> tuple[Variant, ...]:
    """Returns the author's network without LRN, the same with LRN, and his network of the 11 %.

    Args:
        is_full: Whether the schedule is the author's; otherwise it is in proportion to the epochs.
    """
    without, eleven = cifar_architectures.CONV_LOCAL_13PCT, cifar_architectures.CONV_LOCAL_11PCT
    recipe = dataclasses.replace(without.recipe, schedule="steps", steps=_STEPS if is_full else _SHORT_STEPS)
    without, eleven = (dataclasses.replace(each, recipe=recipe) for each in (without, eleven))
    decays, of_eleven = (tuple(cifar_architectures.DECAYS[each.name].items()) for each in (without, eleven))
    return (
        Variant("without LRN", without, layer_decays=decays),
        Variant(
            "with LRN",
            cifar_architectures.with_lrn(without),
            "LRN lowers the test error (LRN alone)",
            "not published",
            decays,
        ),
        Variant(
            "conv-local-11pct",
            eleven,
            "LRN lowers the test error (the author's networks, which differ in more than LRN)",
            "13 % without, 11 % with",
            of_eleven,
        ),
    )


_POOL = Pool(padding="same")
_TOWERS: dict[str, Any] = {"towers": 2, "kernel": Init("normal_fan_in", 2**0.5)}
_DENSE: dict[str, Any] = {"ops": ("relu", "dropout"), "kernel": Init("normal_fan_in", 1.0)}

# AlexNet's order of layers at CIFAR-10's size: ours, for the ablations.
SMALL_ALEXNET = Architecture(
    name="small-alexnet",
    source="AlexNet's layers for windows of 24 pixels",
    image_size=24,
    recipe=Recipe(learning_rate=0.01, weight_decay=5e-4, schedule="cosine", warmup_steps=100, clip_norm=5.0),
    mean=(125.0, 123.0, 114.0),
    scale=(1 / architectures.PIXEL_STDEV,) * 3,
    lrn=LRN(depth_radius=2, bias=1.0, alpha=2e-4),
    stages=(
        Stage("conv1", 32, 5, padding=(2, 2), ops=("relu", "lrn", "pool"), pool=_POOL, **_TOWERS),
        Stage("conv2", 64, 5, padding=(2, 2), input_towers="own", ops=("relu", "pool"), pool=_POOL, **_TOWERS),
        Stage("conv3", 96, 3, padding=(1, 1), **_TOWERS),
        Stage("conv4", 96, 3, padding=(1, 1), input_towers="own", **_TOWERS),
        Stage("conv5", 64, 3, padding=(1, 1), input_towers="own", **_TOWERS),
        Stage("fc6", 256, **_DENSE),
        Stage("fc7", 256, **_DENSE),
        Stage("fc8", 10, ops=()),
    ),
)


def ablation_variants() -> tuple[Variant, ...]:
    """Returns a small AlexNet, and it with one thing changed at a time."""
    base = SMALL_ALEXNET

    def each_stage(**changes: Any) -> Architecture:
        return dataclasses.replace(base, stages=tuple(dataclasses.replace(stage, **changes) for stage in base.stages))

    without_conv4 = tuple(stage for stage in base.stages if stage.name != "conv4")
    without_noise = dataclasses.replace(base.recipe, colour_noise=False)
    return (
        Variant("small AlexNet", base),
        Variant(
            "plain pooling",
            each_stage(pool=Pool(2, 2)),
            "overlapping pooling is better than 2 x 2",
            "0.4 % top-1, 0.3 % top-5",
        ),
        Variant(
            "one tower",
            each_stage(towers=1, input_towers="both"),
            "two towers are better than one (the paper's has half the kernels, this one all connections)",
            "1.7 % top-1, 1.2 % top-5",
        ),
        Variant(
            "no dropout",
            dataclasses.replace(base, dropout_rate=0.0),
            "without dropout the network overfits substantially",
            "no number",
        ),
        Variant(
            "no colour noise",
            dataclasses.replace(base, recipe=without_noise),
            "colour noise lowers the error",
            "over 1 % top-1",
        ),
        Variant(
            "no conv4",
            dataclasses.replace(base, stages=without_conv4),
            "removing a middle layer costs",
            "about 2 % top-1",
        ),
    )


def run(name: str, options: catalogue.Options) -> Iterator[catalogue.Result]:
    """Yields what "lrn" or "ablations" has found, after each network from the second on."""
    is_lrn, is_full = name == "lrn", options.budget == "full"
    variants = lrn_variants(is_full) if is_lrn else ablation_variants()
    epochs = options.epochs or (FULL_EPOCHS if is_full else 9 if is_lrn else 6)
    # The rates depend on the number of epochs: another number is another training.
    trainer = cifar.make_trainer(options, f"trials/epochs{epochs}", test_every=math.ceil(epochs / _TESTS))
    for curves in cifar.train_all(trainer, variants, options.seeds, epochs):
        if len(curves) > 1:
            yield result(curves, epochs, is_gain=is_lrn)


def result(curves: cifar.Curves, epochs: int, is_gain: bool) -> catalogue.Result:
    """Compares each network with the first.

    Args:
        curves: Of each network.
        epochs: How long each was trained.
        is_gain: Whether the paper's test errors are lower than the first network's; otherwise they are higher.
    """
    base, *others = curves
    rows = [
        (variant.name, len(each), _spread(_errors(each, "val_top1_error")), _spread(_errors(each, "train_top1_error")))
        for variant, each in curves.items()
    ]
    return catalogue.Result(
        [_finding(curves, base, other, is_gain) for other in others],
        {f"After {epochs} epochs": [("network", "seeds", "test error", "training error, while training"), *rows]},
        {"curves": _draw(curves)},
        "A verdict needs two seeds, and means that differ by more than the larger of the two spreads between seeds "
        "and by more than 0.5 %; a smaller difference is called not seen. The training error is that before each "
        "update, with dropout and random windows; the test error is that of nine windows averaged.",
    )


def _errors(curves: Sequence[cifar.Curve], name: str) -> list[float]:
    """Returns an error after the last epoch, for each seed; 0.9, guessing, where the loss was not finite."""
    return [0.9 if curve.has_diverged else curve.history[-1][name] for curve in curves]


def _spread(values: Sequence[float]) -> str:
    return catalogue.mean_and_spread(values, catalogue.percent)


def _finding(curves: cifar.Curves, base: Variant, other: Variant, is_gain: bool) -> catalogue.Finding:
    before, after = (_errors(curves[variant], "val_top1_error") for variant in (base, other))
    difference = statistics.fmean(after) - statistics.fmean(before)
    is_seen = abs(difference) > max(np.ptp(before), np.ptp(after), 0.005) and (difference < 0) == is_gain
    verdict = catalogue.verdict(is_seen) if min(len(before), len(after)) > 1 else None
    ours = f"{other.name} {_spread(after)}, {base.name} {_spread(before)}"
    return catalogue.Finding(other.claim, other.paper, ours, verdict)


@plotting.style()
def _draw(curves: cifar.Curves) -> np.ndarray:
    """Draws test errors (solid) and training errors (dotted) over the epochs: means over the seeds, and test ranges."""
    figure = plotting.new_figure(7, 4.5)
    axes = figure.add_subplot(xlabel="epochs", ylabel="error: test solid, training dotted")
    for number, (variant, of_seeds) in enumerate(curves.items()):
        if not (whole := [curve for curve in of_seeds if not curve.has_diverged]):
            continue
        times, errors = zip(*(curve.points() for curve in whole))
        axes.plot(times[0], np.mean(errors, 0), ":", color=f"C{number}", linewidth=1.2)
        tests = np.array([[row["val_top1_error"] for row in curve.history] for curve in whole], float)
        (epochs,) = np.nonzero(~np.isnan(tests[0]))
        tests = tests[:, epochs]
        axes.plot(epochs + 1, tests.mean(0), "o-", markersize=4, color=f"C{number}", label=variant.name)
        axes.fill_between(epochs + 1, tests.min(0), tests.max(0), color=f"C{number}", alpha=0.15, linewidth=0)
    axes.set_ylim(0, None)
    axes.legend(fontsize=9)
    axes.grid(axis="y")
    return plotting.pixels(figure)
