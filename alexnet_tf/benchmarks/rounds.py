"""Interleaved rounds: each case runs once a round, as only ratios within one run mean anything on a shared machine."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

# One trial of a case: shortest duration in seconds -> its rate, in images per second unless stated otherwise.
Trial = Callable[[float], float]

# Pause between two trials, because threads of the previous one may spin for a while.
SETTLE_SECONDS = 0.5


@dataclass(frozen=True)
class Speed:
    """The rates of one case, in images per second unless stated otherwise."""

    name: str
    rounds: tuple[float, ...]  # One rate a round; of a pruned case only the warm-up's.
    peak_bytes: int | None = None  # Peak memory of the first trial beyond weights and momentum, if it was measured.
    median: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "median", statistics.median(self.rounds))


def interleave(
    cases: dict[str, Trial],
    num_rounds: int,
    seconds: float,
    is_pruned: Callable[[str, dict[str, float]], bool] = lambda name, rates: False,
) -> dict[str, Speed]:
    """Runs every case once to warm up, and then once in each round.

    Args:
        cases: Trials by name, in the order of each round.
        num_rounds: Number of rounds after the warm-up.
        seconds: Shortest duration of a trial.
        is_pruned: (name, rates of the warm-up by name) -> whether to skip this case after the warm-up.
    """

    def measure(name: str, seconds: float) -> float:
        time.sleep(SETTLE_SECONDS)
        return cases[name](seconds)

    first = {name: measure(name, 0.0) for name in cases}
    rates = {name: [rate] if is_pruned(name, first) else [] for name, rate in first.items()}
    kept = [name for name, each in rates.items() if not each]
    for _ in range(num_rounds):
        for name in kept:
            rates[name].append(measure(name, seconds))
    return {name: Speed(name, tuple(each)) for name, each in rates.items()}


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
