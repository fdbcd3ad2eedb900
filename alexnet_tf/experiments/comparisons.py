"""Networks that differ in one thing, on CIFAR-10: LRN, pooling, towers, dropout, colour noise, depth."""

import dataclasses
import math
import pathlib
import statistics
from collections.abc import Iterator

import numpy as np

from alexnet_tf.experiments import catalogue, cifar
from alexnet_tf.network import architectures, cifar_architectures
from alexnet_tf.network.architectures import LRN, Architecture, Init, Pool, Stage
from alexnet_tf.network.recipes import Recipe
from alexnet_tf.support import plotting


@dataclasses.dataclass(frozen=True)
class Variant:
    """A network of a comparison.

    Attributes:
        name: Short, for file names and tables.
        architecture: The network.
        recipe: How it learns; the number of epochs is the budget's.
        layer_decays: As in `cifar.Trial`.
        claim: What the paper says of the difference to the comparison's first network; None for that one.
        paper: The paper's numbers.
        should_be_worse: Whether the paper's test error is higher than the first network's.
    """

    name: str
    architecture: Architecture
    recipe: Recipe
    layer_decays: tuple[tuple[str, float], ...] = ()
    claim: str | None = None
    paper: str = ""
    should_be_worse: bool = True


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
    decays = {name: tuple(cifar_architectures.DECAYS[name].items()) for name in (without.name, eleven.name)}
    return (
        Variant("without LRN", without, recipe, decays[without.name]),
        Variant(
            "with LRN",
            cifar_architectures.with_lrn(without),
            recipe,
            decays[without.name],
            "LRN lowers the test error (LRN alone)",
            "not published",
            should_be_worse=False,
        ),
        Variant(
            "conv-local-11pct",
            eleven,
            recipe,
            decays[eleven.name],
            "LRN lowers the test error (the author's networks, which differ in more than LRN)",
            "13 % without, 11 % with",
            should_be_worse=False,
        ),
    )


_HE = Init("normal_fan_in", 2**0.5)

# AlexNet's order of layers at CIFAR-10's size: ours, for the ablations.
SMALL_ALEXNET = Architecture(
    name="small-alexnet",
    source="AlexNet's layers for windows of 24 pixels",
    image_size=24,
    recipe=Recipe(),
    mean=(125.0, 123.0, 114.0),
    scale=(1 / architectures.PIXEL_STDEV,) * 3,
    lrn=LRN(depth_radius=2, bias=1.0, alpha=2e-4),
    stages=(
        Stage(
            "conv1", 32, 5, padding=(2, 2), towers=2, ops=("relu", "lrn", "pool"), pool=Pool(padding="same"), kernel=_HE
        ),
        Stage(
            "conv2",
            64,
            5,
            padding=(2, 2),
            towers=2,
            input_towers="own",
            ops=("relu", "pool"),
            pool=Pool(padding="same"),
            kernel=_HE,
        ),
        Stage("conv3", 96, 3, padding=(1, 1), towers=2, kernel=_HE),
        Stage("conv4", 96, 3, padding=(1, 1), towers=2, input_towers="own", kernel=_HE),
        Stage("conv5", 64, 3, padding=(1, 1), towers=2, input_towers="own", kernel=_HE),
        Stage("fc6", 256, ops=("relu", "dropout"), kernel=Init("normal_fan_in", 1.0)),
        Stage("fc7", 256, ops=("relu", "dropout"), kernel=Init("normal_fan_in", 1.0)),
        Stage("fc8", 10, ops=()),
    ),
)

_RECIPE = Recipe(learning_rate=0.01, weight_decay=5e-4, schedule="cosine", warmup_steps=100, clip_norm=5.0)


def _each(architecture: Architecture, is_changed, **changes) -> Architecture:
    """Returns an architecture with changes in the stages that a predicate selects."""
    return dataclasses.replace(
        architecture,
        stages=tuple(
            dataclasses.replace(stage, **changes) if is_changed(stage) else stage for stage in architecture.stages
        ),
    )


def ablation_variants() -> tuple[Variant, ...]:
    """Returns a small AlexNet, and it with one thing changed at a time."""
    base = SMALL_ALEXNET
    without_conv4 = dataclasses.replace(base, stages=tuple(stage for stage in base.stages if stage.name != "conv4"))
    return (
        Variant("small AlexNet", base, _RECIPE),
        Variant(
            "plain pooling",
            _each(base, lambda stage: "pool" in stage.ops, pool=Pool(2, 2)),
            _RECIPE,
            claim="overlapping pooling is better than 2 x 2",
            paper="0.4 % top-1, 0.3 % top-5",
        ),
        Variant(
            "one tower",
            _each(base, lambda stage: stage.towers == 2, towers=1, input_towers="both"),
            _RECIPE,
            claim="two towers are better than one (the paper's has half the kernels, this one all connections)",
            paper="1.7 % top-1, 1.2 % top-5",
        ),
        Variant(
            "no dropout",
            dataclasses.replace(base, dropout_rate=0.0),
            _RECIPE,
            claim="without dropout the network overfits substantially",
            paper="no number",
        ),
        Variant(
            "no colour noise",
            base,
            dataclasses.replace(_RECIPE, colour_noise=False),
            claim="colour noise lowers the error",
            paper="over 1 % top-1",
        ),
        Variant("no conv4", without_conv4, _RECIPE, claim="removing a middle layer costs", paper="about 2 % top-1"),
    )


@dataclasses.dataclass(frozen=True)
class Trained:
    """A variant and its curves.

    Attributes:
        variant: The network.
        curves: By seed.
    """

    variant: Variant
    curves: dict[int, cifar.Curve]

    def test_errors(self) -> list[float]:
        """Returns the test error after the last epoch, for each seed; 0.9, guessing, where the loss was not finite."""
        last = [curve.epochs[-1].test_error for curve in self.curves.values() if not curve.has_diverged]
        return [error for error in last if error is not None] + [0.9] * (len(self.curves) - len(last))

    def train_errors(self) -> list[float]:
        """Returns the training error in the last epoch, for each seed."""
        return [
            0.9 if curve.has_diverged else statistics.fmean(curve.epochs[-1].train_errors)
            for curve in self.curves.values()
        ]


def train(
    variants: tuple[Variant, ...],
    images: cifar.CifarImages,
    directory: pathlib.Path,
    *,
    seeds: int,
    epochs: int,
    precision: str,
) -> Iterator[list[Trained]]:
    """Trains every variant once for each seed, one seed of all variants after the other.

    Yields:
        All variants that have a result, after each network.
    """
    trained = {variant.name: Trained(variant, {}) for variant in variants}
    for seed in range(seeds):
        for variant in variants:
            trial = cifar.Trial(
                f"{variant.name.replace(' ', '-')}-epochs{epochs}-seed{seed}",
                variant.architecture,
                variant.recipe,
                seed,
                precision,
                variant.layer_decays,
            )
            curve = cifar.run_trial(trial, images, directory, epochs, test_every=math.ceil(epochs / _TESTS))
            each = trained[variant.name]
            trained[variant.name] = dataclasses.replace(each, curves=each.curves | {seed: curve})
            yield [each for each in trained.values() if each.curves]


def run(name: str, options: catalogue.Options) -> Iterator[catalogue.Result]:
    """Yields what "lrn" or "ablations" has found, after each network from the second on."""
    is_full = options.budget == "full"
    if name == "lrn":
        variants, epochs = lrn_variants(is_full), FULL_EPOCHS if is_full else 9
    else:
        variants, epochs = ablation_variants(), FULL_EPOCHS if is_full else 6
    epochs = options.epochs or epochs
    directory, precision = cifar.trials_of(options)
    for networks in train(
        variants, cifar.load(options), directory, seeds=options.seeds, epochs=epochs, precision=precision
    ):
        if len(networks) > 1:
            yield result(networks, epochs)


def result(networks: list[Trained], epochs: int) -> catalogue.Result:
    """Compares each network with the first."""
    base, *others = networks
    findings = [_finding(base, each) for each in others]
    rows = [
        (
            each.variant.name,
            len(each.curves),
            catalogue.mean_and_spread(each.test_errors(), catalogue.percent),
            catalogue.mean_and_spread(each.train_errors(), catalogue.percent),
        )
        for each in networks
    ]
    return catalogue.Result(
        tuple(findings),
        (
            catalogue.Table(
                f"After {epochs} epochs",
                ("network", "seeds", "test error", "training error, while training"),
                tuple(rows),
            ),
        ),
        {"curves": _draw(networks)},
        (
            "A verdict needs two seeds, and means that differ by more than the larger of the two spreads between seeds "
            "and by more than 0.5 %; a smaller difference is called not seen. The training error is that before each "
            "update, with dropout and random windows; the test error is that of nine windows averaged.",
        ),
        sum(curve.seconds for each in networks for curve in each.curves.values()),
    )


def _finding(base: Trained, other: Trained) -> catalogue.Finding:
    before, after = base.test_errors(), other.test_errors()
    difference = statistics.fmean(after) - statistics.fmean(before)
    spread = max(max(values) - min(values) for values in (before, after))
    verdict = catalogue.NOT_SEEN
    if abs(difference) > max(spread, 0.005) and (difference > 0) == other.variant.should_be_worse:
        verdict = catalogue.SAME_DIRECTION
    ours = (
        f"{other.variant.name} {catalogue.mean_and_spread(after, catalogue.percent)}, {base.variant.name} "
        f"{catalogue.mean_and_spread(before, catalogue.percent)}"
    )
    has_spread = min(len(before), len(after)) > 1
    return catalogue.Finding(other.variant.claim or "", other.variant.paper, ours, verdict if has_spread else None)


@plotting.style()
def _draw(networks: list[Trained]):
    """Draws test errors (solid) and training errors (dotted) over the epochs: means over the seeds, and test ranges."""
    figure = plotting.new_figure(7, 4.5)
    axes = figure.add_subplot()
    for number, each in enumerate(networks):
        colour, curves = f"C{number}", [curve for curve in each.curves.values() if not curve.has_diverged]
        if not curves:
            continue
        axes.plot(
            curves[0].points()[0], np.mean([curve.points()[1] for curve in curves], 0), ":", color=colour, linewidth=1.2
        )
        tests = np.array([[epoch.test_error for epoch in curve.epochs] for curve in curves], float)
        times = np.flatnonzero(~np.isnan(tests[0]))
        measured = tests[:, times]
        axes.plot(times + 1, measured.mean(0), "o-", markersize=4, color=colour, label=each.variant.name)
        axes.fill_between(times + 1, measured.min(0), measured.max(0), color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel("epochs")
    axes.set_ylabel("error: test solid, training dotted")
    axes.set_ylim(0, None)
    axes.legend(fontsize=9)
    axes.grid(axis="y")
    return figure
