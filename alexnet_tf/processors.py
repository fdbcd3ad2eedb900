"""How many processors this process may use. Standard library only."""

import functools
import os
import pathlib

_CGROUP = pathlib.Path("/sys/fs/cgroup")


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
