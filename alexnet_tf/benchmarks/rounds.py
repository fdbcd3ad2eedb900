"""Interleaved rounds: each case runs once a round, as only ratios within one run mean anything on a shared machine.

A workload runs in a process of its own, idle while another computes: in one process the thread pools and allocators of
several frameworks would disturb each other.
"""

import importlib
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any

import numpy as np

from alexnet_tf.network import architectures
from alexnet_tf.support import errors, processors, report

# One trial of a case: shortest duration in seconds -> its rate, in images per second unless stated otherwise.
Trial = Callable[[float], float]

# What a process computes, as its module's `make_workload` returns it: the trials by name, and what the report says.
Workload = tuple[dict[str, Trial], dict[str, Any]]

# The rates of each case: one a round; of a pruned case only the warm-up's.
Rates = Mapping[str, Sequence[float]]

# A case is pruned below this fraction of the best of its kind.
_PRUNED = 0.6

# Pause between two trials, because threads of the previous one may spin for a while.
SETTLE_SECONDS = 0.5


def interleave(trials: Mapping[str, Trial], num_rounds: int, seconds: float) -> Rates:
    """Runs every case once to warm up, and then once in each round.

    Of cases whose names are alike up to the colon, those that the warm-up finds much slower than another have no round.

    Args:
        trials: By the case's name, in the order of each round.
        num_rounds: Number of rounds after the warm-up.
        seconds: Shortest duration of a trial.
    """

    def measure(name: str, seconds: float) -> float:
        time.sleep(SETTLE_SECONDS)
        return trials[name](seconds)

    def is_pruned(name: str) -> bool:
        kind = name.partition(":")[0]
        return first[name] < _PRUNED * max(rate for rival, rate in first.items() if rival.partition(":")[0] == kind)

    first = {name: measure(name, 0.0) for name in trials}
    rates = {name: [rate] if is_pruned(name) else [] for name, rate in first.items()}
    kept = [name for name, each in rates.items() if not each]
    for _ in range(num_rounds):
        for name in kept:
            rates[name].append(measure(name, seconds))
    return rates


def repeat(step: Callable[[], object], images: int, wait: Callable[[], object] = lambda: None) -> Trial:
    """Returns the trial that repeats a step at least once; the very first step is not timed.

    Args:
        step: Processes a batch.
        images: Number of images in the batch.
        wait: Returns when the device has finished all steps so far.
    """
    is_warm = False

    def run(seconds: float) -> float:
        nonlocal is_warm
        if not is_warm:
            step()
            is_warm = True
        wait()
        steps, start = 0, time.perf_counter()
        while not steps or time.perf_counter() - start < seconds:
            step()
            steps += 1
        wait()
        return steps * images / (time.perf_counter() - start)

    return run


def table(rates: Rates, form: str, columns: Mapping[str, Callable[[float], float]]) -> str:
    """Returns a table in Markdown of the median and range of each case.

    Args:
        rates: From `interleave`.
        form: How a rate is written, such as ".1f".
        columns: What else is said of the median, by the column's title.
    """
    rows = []
    for name, each in rates.items():
        median = statistics.median(each)
        spread = f"{min(each):{form}} to {max(each):{form}}" if len(each) > 1 else "one round"
        rows.append([name, f"{median:{form}}", spread, *(f"{column(median):.2f}" for column in columns.values())])
    return report.markdown_table(["", "images/s", "range", *columns], rows)


class Process(futures.ProcessPoolExecutor):
    """A process of its own, which ends with this one and whose libraries log to nowhere; a context manager."""

    def __init__(self) -> None:
        super().__init__(1, multiprocessing.get_context("spawn"), _start)

    def ask(self, function: Callable, *arguments: Any) -> Any:
        """Returns what a function returns in the process; arguments and results are pickled.

        Raises:
            UserError: If the process dies or memory runs out.
        """
        try:
            return self.submit(function, *arguments).result()
        except (futures.BrokenExecutor, MemoryError) as error:
            raise errors.UserError(
                f"A process of the benchmark failed. If memory ran out, use a smaller batch_size. {error}"
            ) from error


def _start() -> None:
    processors.end_with_parent()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # Libraries log to file descriptor 2; errors travel as exceptions.


# Of this process.
_trials: dict[str, Trial] = {}


def make_workload(module: str, arguments: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Calls the `make_workload` of a module; returns the names of its trials, and what the report says."""
    trials, facts = importlib.import_module(module).make_workload(**arguments)
    _trials.update(trials)
    return list(trials), facts


def run_trial(name: str, seconds: float) -> float:
    """Runs a trial of this process' workload."""
    return _trials[name](seconds)


def random_batch(architecture: architectures.Architecture, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the batch of every case: uint8 images [batch, size, size, 3] and int64 labels [batch]."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch_size, architecture.image_size, architecture.image_size, 3), "uint8")
    return images, rng.integers(0, architecture.num_classes, batch_size)
