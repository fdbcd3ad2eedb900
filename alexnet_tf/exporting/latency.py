"""How long does one image take, and with how many threads? Standard library only."""

from collections.abc import Callable

from alexnet_tf.support import processors, timing

# Of one image, one at a time; the median counts.
_TIMED_CALLS = 20


def thread_counts() -> list[int]:
    """Returns the numbers of threads that latencies are measured with."""
    return sorted({1, processors.available_cpus()})


def milliseconds(call: Callable[[], object]) -> float:
    """Returns the median duration of a call in milliseconds."""
    return 1000 * timing.median_seconds(call, calls=_TIMED_CALLS)


def milliseconds_by_threads(load: Callable[[int], Callable[[], object]]) -> dict[int, float]:
    """Measures a call with each number of threads.

    Args:
        load: Returns the call that uses a number of threads.
    """
    return {threads: milliseconds(load(threads)) for threads in thread_counts()}
