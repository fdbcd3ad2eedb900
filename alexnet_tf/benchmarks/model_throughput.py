"""How fast is the network in training or inference, against the machine's matmul peak and other frameworks?

All cases run in interleaved rounds, each framework in a process of its own. Imports no framework.
"""

import contextlib
import dataclasses
import functools
import importlib.util
import tempfile
from collections.abc import Callable
from typing import Any

from alexnet_tf.benchmarks import rounds
from alexnet_tf.network import architectures
from alexnet_tf.runs.config import PRECISIONS
from alexnet_tf.support import errors, report, settings, tables
from alexnet_tf.support.settings import setting

# A baseline's case is pruned below this fraction of the best rate of its precision in the warm-up.
_PRUNED = 0.6


@dataclasses.dataclass(frozen=True)
class Baseline(tables.Entry):
    """Another framework; its module's `make_workload` imports the framework and no TensorFlow.

    Attributes:
        can_train: Whether it can train, too.
    """

    can_train: bool = False


# By the name of the package that must be installed.
BASELINES = {
    "torch": Baseline("alexnet_tf.benchmarks.pytorch_baseline", "PyTorch", can_train=True),
    "openvino": Baseline("alexnet_tf.benchmarks.openvino_baseline", "OpenVINO, for inference"),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured, and how."""

    architecture: str = setting(
        "paper", "Which network; for input, whose recipe and image size.", choices=architectures.ARCHITECTURES
    )
    batch_size: int = setting(128, "Images a step.", lower=1)
    rounds: int = setting(5, "Number of rounds; medians are reported.", lower=1)
    seconds: float = setting(2.0, "Shortest time of a trial, in seconds.", lower=0)
    precision: str = setting(
        "auto",
        "train, infer: 'auto' is what train uses here.",
        choices=PRECISIONS,
    )
    deterministic: bool = setting(True, "train, infer: as for train.")
    baseline: str | None = setting(
        None,
        "train, infer: the framework to compare with, which must be installed, in all its memory formats and "
        f"precisions: {tables.purposes(BASELINES)}.",
        choices=BASELINES,
    )
    compile: bool = setting(True, "With --baseline=torch: also measure torch.compile, which compiles for minutes.")
    data_dir: str | None = setting(
        None, "input: images, as for train; a small synthetic data set by default.", path="directory"
    )
    read_latency_ms: float = setting(
        0.0,
        "input: also measure the training input with each read delayed by so many milliseconds, as slow storage would.",
        lower=0,
    )


@dataclasses.dataclass(frozen=True)
class Throughput:
    """What `measure` measured.

    Attributes:
        options: How it was measured.
        is_training: Whether the training step was, or inference.
        facts: Of `tensorflow_workload`.
        baseline_facts: Of the baseline's workload; empty without one.
        ours: The network's speed.
        matmul_peak: FLOP/s of a product of square matrices, in the same precision and process.
        baselines: Every case of the baseline.
        stages: Seconds that a batch spends in each stage by itself, and in the update.
    """

    options: Options
    is_training: bool
    facts: dict[str, Any]
    baseline_facts: dict[str, Any]
    ours: rounds.Speed
    matmul_peak: rounds.Speed
    baselines: list[rounds.Speed]
    stages: dict[str, float]


def check_options(options: Options, is_training: bool) -> None:
    """Checks what needs no framework.

    Raises:
        UserError: If a value is not allowed, or the baseline cannot train or is not installed.
    """
    settings.check(options)
    name = options.baseline
    if name and is_training and not BASELINES[name].can_train:
        raise errors.UserError(f"baseline={name} cannot train: compare inference with it.")
    if name and importlib.util.find_spec(name) is None:
        raise errors.UserError(f"baseline={name} is not installed:\n  pip install {name}")


def measure(options: Options, is_training: bool) -> Throughput:
    """Measures the network, the matmul peak, a baseline, and the time of each stage.

    Args:
        options: The fields for `train` and `infer`.
        is_training: Whether to train as `training` does or to predict as `evaluation` does.

    Raises:
        UserError: As `check_options`, or if a process dies.
    """
    check_options(options, is_training)
    trials: dict[str, rounds.Trial] = {}
    with contextlib.ExitStack() as stack:
        arguments = {
            "architecture": architectures.ARCHITECTURES[options.architecture],
            "directory": stack.enter_context(tempfile.TemporaryDirectory()),
            "batch_size": options.batch_size,
            "is_training": is_training,
        }

        def start(module: str, **further: object) -> tuple[dict[str, Any], Callable]:
            process = stack.enter_context(rounds.Process())
            names, facts = process.ask(rounds.make_workload, module, arguments | further)
            call = functools.partial(process.ask, rounds.call, module)
            trials.update({name: functools.partial(call, name) for name in names})
            return facts, call

        facts, call = start(
            "alexnet_tf.benchmarks.tensorflow_workload",
            precision=options.precision,
            deterministic=options.deterministic,
            is_compared=options.baseline is not None,
        )
        baseline_facts: dict[str, Any] = {}
        if options.baseline:
            baseline_facts, _ = start(BASELINES[options.baseline].module, is_compiled=options.compile)
        ours, peak, *baselines = rounds.interleave(trials, options.rounds, options.seconds, _is_pruned).values()
        return Throughput(options, is_training, facts, baseline_facts, ours, peak, baselines, call("stages"))


def _is_pruned(name: str, rates: dict[str, float]) -> bool:
    """Returns whether a baseline's case was too slow in the warm-up to become the best of its precision."""
    precision = name.partition(",")[0]
    return rates[name] < _PRUNED * max(rate for rival, rate in rates.items() if rival.partition(",")[0] == precision)


def table(result: Throughput) -> str:
    """Returns a result as tables in Markdown."""
    facts, other, options = result.facts, result.baseline_facts, result.options
    peak, adds = result.matmul_peak.median, facts["multiply_adds"]
    flop = 2 * sum(adds.values())
    cases = {"alexnet_tf": result.ours} | {f"{other['name']} {each.name}": each for each in result.baselines}
    rows = [
        [
            name,
            *speed.cells(".1f"),
            f"{1000 / speed.median:.2f}",
            f"{speed.median * flop / peak:.2f}",
            f"{result.ours.median / speed.median:.2f}",
        ]
        for name, speed in cases.items()
    ]
    stages = [
        [name, f"{1000 * seconds / options.batch_size:.2f}"]
        + [f"{2 * adds[name] * options.batch_size / seconds / peak:.2f}" if name in adds else ""]
        for name, seconds in result.stages.items()
    ]
    heads = ["", "images/s", "range", "ms an image", "of the matmul peak"]
    lines = [
        f"{'Training steps' if result.is_training else 'Inference'} of {options.architecture}, batches of "
        f"{options.batch_size}, {facts['precision']}, {'' if options.deterministic else 'not '}deterministic; "
        f"{options.rounds} interleaved rounds of at least {options.seconds:g} s",
        *(each["machine"] for each in (facts, other) if each),
        "",
        report.markdown_table([*heads, "alexnet_tf / this"], rows),
        "",
        f"Matmul peak: {peak / 1e9:,.0f} GFLOP/s. The network: {flop / 1e9:.2f} GFLOP an image. Peak memory of its "
        f"process: {facts['peak_bytes'] / 2**20:,.0f} MiB.",
        "",
        report.markdown_table(["each stage by itself", *heads[3:]], stages),
    ]
    return "\n".join(lines)
