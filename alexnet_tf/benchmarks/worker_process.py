"""A workload in a process of its own, idle while another computes.

In one process the thread pools and allocators of several frameworks would disturb each other.
"""

import importlib
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

from alexnet_tf.network import architectures
from alexnet_tf.support import errors, processors


def peak_host_memory(call: Callable[[], object]) -> tuple[Any, int]:
    """Returns the result of a call and this process's peak resident memory during it in bytes, which is sampled."""
    process, peak = psutil.Process(), 0
    with futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(call)
        while futures.wait([future], timeout=0.002).not_done:
            peak = max(peak, process.memory_info().rss)
    return future.result(), max(peak, process.memory_info().rss)


@dataclass(frozen=True)
class Workload:
    """What a worker process runs; arguments, results and facts are pickled."""

    calls: dict[str, Callable]  # By name; a case's call is a `rounds.Trial`.
    facts: dict[str, Any]
    peak_memory: Callable = peak_host_memory  # As `peak_host_memory`, for the memory that the workload computes in.


class WorkerProcess(futures.ProcessPoolExecutor):
    """A process that runs a workload; a context manager.

    Args:
        make: "module:function" that returns the workload. It is called in the new process, which imports nothing else.
        **arguments: Arguments of the function.

    Attributes:
        names: Names of the workload's calls.
        facts: The workload's facts.

    Raises:
        UserError: If the function does, or if the process dies.
    """

    def __init__(self, make: str, **arguments: Any):
        super().__init__(1, multiprocessing.get_context("spawn"), processors.end_with_parent)
        try:
            self.names, self.facts = self._ask(_make_workload, make, arguments)
        except BaseException:
            self.shutdown()
            raise

    def call(self, name: str, *arguments: object) -> Any:
        """Returns the result of one of the workload's calls."""
        return self._ask(_call, name, arguments)

    def peak_memory(self, name: str) -> int:
        """Runs one trial of a case; returns its peak memory in bytes, less what the workload held at its start."""
        return self._ask(_peak_memory, name)

    def _ask(self, function, *arguments):
        try:
            return self.submit(function, *arguments).result()
        except (futures.BrokenExecutor, MemoryError) as error:
            raise errors.UserError(
                f"A process of the benchmark failed. If memory ran out, use a smaller --batch_size. {error}"
            ) from error


def _make_workload(make, arguments):
    """Makes this process's workload; returns its names and facts."""
    global _workload, _before
    with tempfile.TemporaryFile() as messages:  # Libraries log to file descriptor 2; errors travel as exceptions.
        os.dup2(messages.fileno(), 2)
    module, function = make.split(":")
    _workload = getattr(importlib.import_module(module), function)(**arguments)
    _, _before = _workload.peak_memory(lambda: None)
    return list(_workload.calls), _workload.facts


def _call(name, arguments):
    return _workload.calls[name](*arguments)


def _peak_memory(name):
    return max(0, _workload.peak_memory(lambda: _workload.calls[name](0.0))[1] - _before)


def random_batch(architecture: architectures.Architecture, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the batch of every case: uint8 images [batch, size, size, 3] and int64 labels [batch]."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch_size, architecture.image_size, architecture.image_size, 3), "uint8")
    return images, rng.integers(0, architecture.num_classes, batch_size)
