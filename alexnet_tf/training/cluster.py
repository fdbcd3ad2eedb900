"""Which processes train together: the cluster that TF_CONFIG or Slurm names, and the wait for all of its workers."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import tensorflow as tf

from alexnet_tf.support import errors, shell

_HELP = """\
--strategy=multi_worker needs TF_CONFIG, which names all workers and this one; the first writes the run. {why} \
For two, type on the first
  TF_CONFIG='{{"cluster": {{"worker": ["HOST0:12345", "HOST1:12345"]}}, "task": {{"type": "worker", "index": 0}}}}' \\
    {line}
and the same with "index": 1 on the second. Under Slurm, srun names them."""

# The first port of each machine's tasks under Slurm.
_SLURM_PORT = 12345

# TensorFlow waits in C++ and holds Python's lock, so that only another process can look after it.
_WATCHDOG = """
import os, signal, socket, sys, time
parent, limit, worker, *hosts = sys.argv[1:]
parent, limit, worker, started, is_reported = int(parent), float(limit), int(worker), time.monotonic(), False

def is_missing(host):
    name, _, port = host.rpartition(":")
    try:
        socket.create_connection((name.strip("[]"), int(port)), timeout=5).close()
    except (OSError, ValueError):
        return True

while os.getppid() == parent:
    time.sleep(0.5)
    waited = time.monotonic() - started
    if waited < limit and (is_reported or waited < 60):
        continue
    missing = [f"worker {i + 1} ({h})" for i, h in enumerate(hosts) if i != worker and is_missing(h)]
    missing = "no answer from " + ", ".join(missing) if missing else "all answer, but they do not agree on the cluster"
    if waited < limit:
        is_reported = True
        print(f"Still waiting: {missing}.", flush=True)
    elif os.getppid() == parent:
        print(f"\\nError: The workers did not meet within --worker_timeout={limit:g} seconds: {missing}. Start all "
              "of them with the same hosts and ports, which each must be able to reach.", file=sys.stderr, flush=True)
        os.kill(parent, signal.SIGKILL)
"""


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
    except KeyError as error:
        raise errors.UserError(_help(f"It lacks {error}.")) from error
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise unusable(error) from error
    chiefs = hosts.get("chief", [])
    return Cluster((*chiefs, *hosts.get("worker", [])), index + (len(chiefs) if kind == "worker" else 0))


def _help(why: str) -> str:
    return _HELP.format(why=why, line=shell.command_line("train", "...", strategy="multi_worker"))


def unusable(error: Exception | str) -> errors.UserError:
    """Returns the error for a TF_CONFIG with which nothing can be done."""
    return errors.UserError(_help(f"This one cannot be used: {error}."))


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


@contextlib.contextmanager
def watched(cluster: Cluster, timeout: float) -> Iterator[None]:
    """Looks after the wait for the other workers: names the missing ones after a minute, and ends this process in time.

    Args:
        cluster: Who is waited for.
        timeout: Seconds after which this process ends with an error.
    """
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own would not be called before all are there.
    watchdog = subprocess.Popen(
        [sys.executable, "-c", _WATCHDOG, str(os.getpid()), str(timeout), str(cluster.worker), *cluster.hosts]
    )
    try:
        yield
    finally:
        watchdog.kill()
        watchdog.wait()
        signal.signal(signal.SIGINT, handler)
