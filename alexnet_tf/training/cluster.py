"""Which processes train together: the cluster of TF_CONFIG or Slurm, the wait for all, agreement, and lost workers."""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import hashlib
import json
import logging
import os
import signal
import socket
import time
import typing
from collections.abc import Iterator

import tensorflow as tf

from alexnet_tf.data import input_pipeline
from alexnet_tf.runs.config import RunConfig
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import errors, shell
from alexnet_tf.training.configure import TrainingError

if typing.TYPE_CHECKING:
    from alexnet_tf.training.distribution import Placement

_LOGGER = logging.getLogger(__name__)

# What a step raises when another worker is gone.
_LOST_WORKER = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.InternalError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    *input_pipeline.READ_ERRORS,
)

_ALIKE = "All need the same flags, the same images, the same --precision, and one --workdir that they share"

# Missing workers are named after so long.
_REPORT_SECONDS = 60

# Network file systems show new files within a minute.
_FILE_SYSTEM_SECONDS = 90

_HELP = """\
--strategy=multi_worker needs TF_CONFIG, which names all workers and this one; the first writes the run. {why} \
For two, type on the first
  TF_CONFIG='{{"cluster": {{"worker": ["HOST0:12345", "HOST1:12345"]}}, "task": {{"type": "worker", "index": 0}}}}' \\
    {line}
and the same with "index": 1 on the second. Under Slurm, srun names them."""

# The first port of each machine's tasks under Slurm.
_SLURM_PORT = 12345


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes that train together.

    Attributes:
        hosts: HOST:PORT of each, the chief first.
        worker: Which of them this process is.
    """

    hosts: tuple[str, ...]
    worker: int


def from_environment() -> Cluster:
    """Returns the cluster of TF_CONFIG; under Slurm, TF_CONFIG is written from SLURM_* first.

    Raises:
        UserError: If there is none, or it cannot be used.
    """
    if "TF_CONFIG" not in os.environ and "SLURM_PROCID" in os.environ:
        os.environ["TF_CONFIG"] = json.dumps(_slurm_config())
    try:
        stated = json.loads(os.environ["TF_CONFIG"])
        kind, index = stated["task"]["type"], int(stated["task"]["index"])
        hosts = {name: list(listed) for name, listed in stated["cluster"].items()}
        hosts[kind][index]  # It must be one of them.
        if index < 0:
            raise ValueError(f"there is no {kind} {index}")
        if not {kind, *hosts} <= {"chief", "worker"}:
            raise ValueError("only chief and worker are known here")
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise unusable(error) from error
    chiefs = hosts.get("chief", [])
    return Cluster((*chiefs, *hosts.get("worker", [])), index + (len(chiefs) if kind == "worker" else 0))


def unusable(error: Exception | str) -> errors.UserError:
    """Returns the error for a TF_CONFIG that is not there, or with which nothing can be done."""
    why = f"It lacks {error}." if isinstance(error, KeyError) else f"This one cannot be used: {error}."
    return errors.UserError(_HELP.format(why=why, line=shell.command_line("train", "...", strategy="multi_worker")))


def _slurm_config() -> dict:
    """Returns what TF_CONFIG would hold, from the variables of a Slurm step."""
    try:
        # Slurm itself shows each task its GPUs (--gpus-per-task), so the resolver need not share them out.
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=_SLURM_PORT, gpus_per_node=64, gpus_per_task=1, auto_set_gpu=False
        )
        cluster = resolver.cluster_spec().as_dict()
        kind, index = resolver.get_task_info()
    except (RuntimeError, ValueError, KeyError) as error:
        raise errors.UserError(f"Slurm's variables name no cluster: {error} Start the workers with srun.") from error
    return {"cluster": cluster, "task": {"type": kind, "index": index}}


def wait_for_all(cluster: Cluster, timeout: float) -> None:
    """Waits until all workers are there, and names the missing ones after a minute.

    TensorFlow itself would wait in C++ and hold Python's lock, so that nothing could be said meanwhile. Here each
    worker listens on its port until it has reached all others.

    Args:
        cluster: Who is waited for.
        timeout: Seconds.

    Raises:
        UserError: If some do not come in time, or this one cannot listen on its port.
    """
    missing = {number: host for number, host in enumerate(cluster.hosts, 1) if number != cluster.worker + 1}
    started, is_reported = time.monotonic(), False
    try:
        server = socket.create_server(("", int(cluster.hosts[cluster.worker].rpartition(":")[2])))
    except (OSError, ValueError, OverflowError) as error:
        raise unusable(error) from error
    with server:
        while missing := {number: host for number, host in missing.items() if not _answers(host)}:
            names = ", ".join(f"worker {number} ({host})" for number, host in missing.items())
            waited = time.monotonic() - started
            if waited > timeout:
                raise errors.UserError(
                    f"The workers did not meet within --worker_timeout={timeout:g} seconds: no answer from {names}. "
                    "Start all of them with the same hosts and ports, which each must be able to reach."
                )
            if waited > _REPORT_SECONDS and not is_reported:
                _LOGGER.info(f"Still waiting: no answer from {names}.")
                is_reported = True
            time.sleep(0.2)


def _answers(host: str) -> bool:
    name, _, port = host.rpartition(":")
    try:
        socket.create_connection((name.strip("[]"), int(port)), timeout=5).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


@contextlib.contextmanager
def interruptible(timeout: float) -> Iterator[None]:
    """Lets Ctrl-C and a time limit, in seconds, end this process while TensorFlow waits in C++."""
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    faulthandler.dump_traceback_later(timeout, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGINT, handler)


def check_that_workers_agree(placement: Placement, run: RunDirectory, run_config: RunConfig) -> None:
    """Refuses workers that would each train another run: they would wait for each other for ever, or learn nonsense.

    Raises:
        TrainingError: If they differ in flags, data or checkpoints.
    """
    content = run_config.to_json()
    for name in ("directory", "name"):
        del content["data"][name]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()
    own = int.from_bytes(digest[:5], "big")  # Exact in float64, as is the sum.
    if placement.total(own) != own * placement.num_workers:
        raise TrainingError(
            f"The workers were not started alike. {_ALIKE}; this one is worker {placement.worker + 1}, with the run "
            f"{run}."
        )
    if placement.num_workers > 1:
        _wait_for_checkpoint(placement, run)


def _wait_for_checkpoint(placement: Placement, run: RunDirectory) -> None:
    """Waits until this worker sees the last checkpoint that the chief sees: a network file system may be late."""

    def last() -> int:
        return max(run.steps(), default=-1)

    expected = int(placement.total(last() + 1 if placement.worker == 0 else 0)) - 1
    deadline = time.monotonic() + _FILE_SYSTEM_SECONDS
    while last() != expected:
        if time.monotonic() > deadline:
            seen = f"a checkpoint of step {last()}" if run.steps() else "no checkpoint"
            first = f"one of step {expected}" if expected >= 0 else "none"
            raise TrainingError(
                f"The workers do not see the same run. {_ALIKE}; this one, worker {placement.worker + 1}, sees {run} "
                f"with {seen}, and the first worker {first}."
            )
        time.sleep(0.5)


@contextlib.contextmanager
def lost_workers_reported(placement: Placement) -> Iterator[None]:
    """Turns what TensorFlow raises when another worker is gone into a `TrainingError`."""
    try:
        yield
    except _LOST_WORKER as error:
        if placement.num_workers == 1:
            raise
        raise TrainingError(
            "The other workers cannot be reached any more: one has ended, or the network is cut. Start all of them "
            "again with the same commands: the run goes on from its last checkpoint, if there is one.\n  TensorFlow "
            "says: " + (str(error).rpartition("}} ")[2].splitlines() or [type(error).__name__])[0]
        ) from error
