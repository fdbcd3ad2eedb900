"""What this process may use (processors, memory, open files), and processes that help it."""

import concurrent.futures
import contextlib
import functools
import multiprocessing
import os
import pathlib
import platform
import resource
import threading
from collections.abc import Callable
from multiprocessing import util

from alexnet_tf.support import errors

_CGROUP, _CPUINFO = pathlib.Path("/sys/fs/cgroup"), pathlib.Path("/proc/cpuinfo")


def hide_gpus() -> None:
    """Hides all GPUs from this process and those it starts, which compute on the CPU; a pool's initializer.

    Must be called before TensorFlow or PyTorch looks for GPUs.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


def pool(processes: int = 1, initializer: Callable[[], None] = hide_gpus) -> concurrent.futures.ProcessPoolExecutor:
    """Returns a pool of processes that start afresh.

    Args:
        processes: How many.
        initializer: What each begins with.

    Raises:
        UserError: If the machine has no semaphores for them.
    """
    try:
        return concurrent.futures.ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer)
    except OSError as error:  # Sandboxes, AWS Lambda.
        raise errors.UserError(
            f"Processes cannot work together here, as /dev/shm is missing or cannot be written ({error.strerror})."
        ) from error


def end_with_parent() -> None:
    """Ends this process, which another one has started, when that one is gone, and its own children before it ends."""
    parent = multiprocessing.parent_process()
    assert parent

    def wait() -> None:
        parent.join()
        os._exit(1)

    def end_children() -> None:  # Python would send SIGTERM, which TensorFlow's workers ignore.
        for child in multiprocessing.active_children():
            child.kill()

    threading.Thread(target=wait, daemon=True).start()
    util.Finalize(None, end_children, exitpriority=1)


# Enough for all tables of this package; macOS allows no more than 10,240.
_OPEN_FILES = 8192


def allow_open_files() -> None:
    """Raises this process' limit of open files, which is 256 on macOS, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def max_open_files() -> int:
    """Returns how many files this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _OPEN_FILES if soft == resource.RLIM_INFINITY else soft


def processor() -> tuple[str, frozenset[str]]:
    """Returns the processor's name, and its features such as "avx512_bf16", which only Linux lists."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        lines = []
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    name = facts.get("model name") or platform.processor() or platform.machine()
    return name, frozenset(facts.get("flags", facts.get("Features", "")).split())


@functools.cache
def available_cpus() -> int:
    """Returns how many CPUs this process may use: those of its affinity mask, at most what its container is given."""
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(count, cgroup_cpus() or count))


def cgroup_cpus(root: pathlib.Path = _CGROUP) -> int | None:
    """Returns a container's quota of CPUs, rounded up, or None where there is none.

    Args:
        root: Where control groups are mounted, version 2 or 1.
    """
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = ((root / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        except OSError:
            return None
    try:
        return -(-int(quota) // int(period)) if int(quota) > 0 and int(period) > 0 else None
    except ValueError:  # "max": no quota.
        return None


def cgroup_memory(root: pathlib.Path = _CGROUP) -> int | None:
    """Returns how many bytes of memory a container may use, or None where there is no limit.

    Args:
        root: As for `cgroup_cpus`.
    """
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            return int((root / name).read_text())
        except (OSError, ValueError):  # Not there, or "max": no limit.
            continue
    return None
