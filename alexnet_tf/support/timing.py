"""How long does a call take? The one stopwatch of exports, layers and benchmarks; TensorFlow is not imported."""

import collections.abc
import statistics
import time


def seconds(call: collections.abc.Callable[[], object]) -> float:
    """Returns the wall time of one call, which must wait for its own result."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def median_seconds(
    call: collections.abc.Callable[[], object], *, calls: int = 5, least_seconds: float = 0.0, warmup_calls: int = 2
) -> float:
    """Returns the median wall time of a call.

    Args:
        call: Must wait for its own result.
        calls: How many are timed at least.
        least_seconds: For how long calls are timed at least.
        warmup_calls: How many come before, untimed: for tracing, compilation and allocation.
    """
    for _ in range(warmup_calls):
        call()
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < calls or time.perf_counter() - start < least_seconds:
        times.append(seconds(call))
    return statistics.median(times)
