"""How fast is the network in training or inference, against the machine's matmul peak and other frameworks?

All cases run in interleaved rounds, each framework in a process of its own. Imports no framework.
"""

import contextlib
import dataclasses
import functools
import importlib.util
import statistics
import tempfile
from collections.abc import Mapping
from typing import Any

from alexnet_tf.benchmarks import rounds
from alexnet_tf.network import architectures
from alexnet_tf.runs.config import PRECISIONS
from alexnet_tf.support import errors, report, settings, tables
from alexnet_tf.support.settings import setting


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


def measure(options: Options, is_training: bool) -> tuple[rounds.Rates, dict[str, Any]]:
    """Measures the network, the matmul peak, a baseline, and the time of each stage.

    Args:
        options: The fields for `train` and `infer`.
        is_training: Whether to train as `training` does or to predict as `evaluation` does.

    Returns:
        (rates, facts): of "alexnet_tf", of the "matmul peak" in FLOP/s in the same precision and process, and of the
        baseline's cases; what `tensorflow_workload` says, and both frameworks of the machine.

    Raises:
        UserError: If a value is not allowed, the baseline cannot train or is not installed, or a process dies.
    """
    settings.check(options)
    baseline = options.baseline
    if baseline and is_training and not BASELINES[baseline].can_train:
        raise errors.UserError(f"baseline={baseline} cannot train: compare inference with it.")
    if baseline and importlib.util.find_spec(baseline) is None:
        raise errors.UserError(f"baseline={baseline} is not installed:\n  pip install {baseline}")
    trials: dict[str, rounds.Trial] = {}
    with contextlib.ExitStack() as stack:
        arguments = {
            "architecture": architectures.ARCHITECTURES[options.architecture],
            "directory": stack.enter_context(tempfile.TemporaryDirectory()) if baseline else None,
            "batch_size": options.batch_size,
            "is_training": is_training,
        }

        def start(module: str, **further: object) -> dict[str, Any]:
            process = stack.enter_context(rounds.Process())
            names, facts = process.ask(rounds.make_workload, module, arguments | further)
            trials.update({name: functools.partial(process.ask, rounds.run_trial, name) for name in names})
            return facts

        ours = f"{__package__}.tensorflow_workload"
        facts = start(ours, precision=options.precision, deterministic=options.deterministic)
        if baseline:
            facts["machine"] += "\n" + start(BASELINES[baseline].module, is_compiled=options.compile)["machine"]
        return rounds.interleave(trials, options.rounds, options.seconds), facts


def table(options: Options, rates: rounds.Rates, facts: Mapping[str, Any]) -> str:
    """Returns what `measure` found as tables in Markdown."""
    ours, peak = (statistics.median(rates[name]) for name in ("alexnet_tf", "matmul peak"))
    flop = {name: 2 * multiply_adds for name, multiply_adds in facts["multiply_adds"].items()}
    total = sum(flop.values())
    columns = {"ms an image": lambda rate: 1000 / rate, "of the matmul peak": lambda rate: rate * total / peak}
    networks = {name: each for name, each in rates.items() if name != "matmul peak"}
    stages = []
    for name, seconds in facts["stages"].items():
        rate = options.batch_size / seconds
        stages.append([name, f"{1000 / rate:.2f}", f"{rate * flop[name] / peak:.2f}" if name in flop else ""])
    return "\n".join(
        [
            f"{facts['title']}; {options.rounds} interleaved rounds of at least {options.seconds:g} s",
            facts["machine"],
            "",
            rounds.table(networks, ".1f", {**columns, "alexnet_tf / this": lambda rate: ours / rate}),
            "",
            f"Matmul peak: {peak / 1e9:,.0f} GFLOP/s. The network: {total / 1e9:.2f} GFLOP an image. Peak memory of "
            f"its process: {facts['peak_bytes'] / 2**20:,.0f} MiB.",
            "",
            report.markdown_table(["each stage by itself", *columns], stages),
        ]
    )
