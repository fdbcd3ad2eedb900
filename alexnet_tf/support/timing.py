"""How long does a call take? The one stopwatch of exports, layers and benchmarks; TensorFlow is not imported."""

import collections.abc
import statistics
import time


def median_seconds(call: collections.abc.Callable[[], object], *, calls: int, least_seconds: float = 0.0) -> float:
    """Returns the median wall time of a call, after two untimed ones, for tracing, compilation and allocation.

    Args:
        call: Must wait for its own result.
        calls: How many are timed at least.
        least_seconds: For how long calls are timed at least.
    """
    for _ in range(2):
        call()
    times: list[float] = []
    now = start = time.perf_counter()
    while len(times) < calls or now - start < least_seconds:
        before = now
        call()
        now = time.perf_counter()
        times.append(now - before)
    return statistics.median(times)
