"""How fast is the network in training or inference, against the machine's matmul peak and other frameworks?

All cases run in interleaved rounds, each framework in a process of its own. Imports no framework.
"""

import contextlib
import dataclasses
import functools
import importlib.util
import statistics
import tempfile
from collections.abc import Mapping, Sequence
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
        rates: Of the matmul peak, in FLOP/s in the same precision and process, and of each network: "alexnet_tf" first.
        machines: What each framework says of itself.
        facts: What `tensorflow_workload` says.
    """

    options: Options
    is_training: bool
    rates: rounds.Rates
    machines: Sequence[str]
    facts: Mapping[str, Any]


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
    arguments = {
        "architecture": architectures.ARCHITECTURES[options.architecture],
        "batch_size": options.batch_size,
        "is_training": is_training,
    }
    trials: dict[str, rounds.Trial] = {}
    with contextlib.ExitStack() as stack:

        def start(module: str, directory: str | None, **further: object) -> dict[str, Any]:
            process = stack.enter_context(rounds.Process())
            names, facts = process.ask(rounds.make_workload, module, arguments | further | {"directory": directory})
            trials.update({name: functools.partial(process.ask, rounds.run_trial, name) for name in names})
            return facts

        directory = stack.enter_context(tempfile.TemporaryDirectory()) if options.baseline else None
        facts = start(
            "alexnet_tf.benchmarks.tensorflow_workload",
            directory,
            precision=options.precision,
            deterministic=options.deterministic,
        )
        machines = [facts["machine"]]
        if options.baseline:
            other = start(BASELINES[options.baseline].module, directory, is_compiled=options.compile)
            machines.append(other["machine"])
        rates = rounds.interleave(trials, options.rounds, options.seconds, _is_pruned)
    return Throughput(options, is_training, rates, machines, facts)


def _is_pruned(name: str, rates: dict[str, float]) -> bool:
    """Returns whether a baseline's case was too slow in the warm-up to become the best of its precision."""
    precision = name.partition(",")[0]
    return rates[name] < _PRUNED * max(rate for rival, rate in rates.items() if rival.partition(",")[0] == precision)


def table(result: Throughput) -> str:
    """Returns a result as tables in Markdown."""
    options, rates, facts = result.options, dict(result.rates), result.facts
    peak, ours = statistics.median(rates.pop("matmul peak")), statistics.median(rates["alexnet_tf"])
    adds = facts["multiply_adds"]
    flop = 2 * sum(adds.values())
    columns = {"ms an image": lambda rate: 1000 / rate, "of the matmul peak": lambda rate: rate * flop / peak}
    stages = [
        [name, f"{1000 * seconds / options.batch_size:.2f}"]
        + [f"{2 * adds[name] * options.batch_size / seconds / peak:.2f}" if name in adds else ""]
        for name, seconds in facts["stages"].items()
    ]
    lines = [
        f"{'Training steps' if result.is_training else 'Inference'} of {options.architecture}, batches of "
        f"{options.batch_size}, {facts['precision']}, {'' if options.deterministic else 'not '}deterministic; "
        f"{options.rounds} interleaved rounds of at least {options.seconds:g} s",
        *result.machines,
        "",
        rounds.table(rates, ".1f", {**columns, "alexnet_tf / this": lambda rate: ours / rate}),
        "",
        f"Matmul peak: {peak / 1e9:,.0f} GFLOP/s. The network: {flop / 1e9:.2f} GFLOP an image. Peak memory of its "
        f"process: {facts['peak_bytes'] / 2**20:,.0f} MiB.",
        "",
        report.markdown_table(["each stage by itself", *columns], stages),
    ]
    return "\n".join(lines)
