"""How long does a call take? The one stopwatch of exports, layers and benchmarks; TensorFlow is not imported."""

import collections.abc
import statistics
import time


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
    now = start = time.perf_counter()
    while len(times) < calls or now - start < least_seconds:
        before = now
        call()
        now = time.perf_counter()
        times.append(now - before)
    return statistics.median(times)
