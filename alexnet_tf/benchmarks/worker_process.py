"""How contestants take turns: every engine in a process of its own, asleep while another computes.

In one process the engines' thread pools and allocators would disturb each other. Only ratios within one run mean
anything on a shared machine, so each round gives every contestant one turn.
"""

import collections.abc
import dataclasses
import importlib
import multiprocessing
import os
import pathlib
import statistics
import tempfile
import time
import traceback

import numpy as np

from alexnet_tf import architectures, errors


@dataclasses.dataclass(frozen=True)
class Speed:
    """Images per second of one contestant.

    Attributes:
        name: What ran.
        rounds: Images per second in each round.
    """

    name: str
    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


@dataclasses.dataclass(frozen=True)
class Workload:
    """What one process brings.

    Attributes:
        calls: By name, what it can be asked for: for a contestant, seconds -> what it does a second.
        facts: What else there is to say; like all that the calls return, it must be possible to pickle it.
    """

    calls: dict[str, collections.abc.Callable]
    facts: dict


class WorkerProcess:
    """A process with a team. Use it in a `with`.

    Args:
        make: "module:function" that makes the team in that process, where nothing else is loaded.
        **arguments: For the function.

    Attributes:
        names: What it can be asked for.
        facts: The team's.

    Raises:
        UserError: If the function does.
    """

    def __init__(self, make: str, **arguments):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,))
        self._process.start()
        theirs.close()
        try:
            self._connection.send((make, arguments))
            self.names, self.facts = self._answer()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._connection.close()
        self._process.join(10)
        self._process.kill()  # TensorFlow's workers take no notice of SIGTERM.
        self._process.join()

    def call(self, name: str, *arguments):
        """Asks for something.

        Returns:
            What came out, and the most memory in bytes that the process had meanwhile beyond what it had when the
            team was made; None where the system does not know.
        """
        self._connection.send((name, arguments))
        return self._answer()

    def _answer(self):
        try:
            answer = self._connection.recv()
        except EOFError:
            self._process.join()
            raise errors.UserError(
                f"A process of the benchmark died with status {self._process.exitcode}. If that is -9, memory has run out: "
                "take a smaller --batch_size.") from None
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(connection):
    """What the process does: makes its team, then gives turns until nobody asks any more.

    Processes that the team has started end with it.
    """
    try:
        make, arguments = connection.recv()
        module, function = make.split(":")
        # Libraries greet and warn on file descriptor 2; a failure is told by its traceback.
        with tempfile.TemporaryFile() as messages:
            os.dup2(messages.fileno(), 2)
        team = _or_error(lambda: getattr(importlib.import_module(module), function)(**arguments))
        connection.send(team if isinstance(team, Exception) else (list(team.calls), team.facts))
        before = reset_peak()
        while True:
            name, arguments = connection.recv()
            reset_peak()
            result = _or_error(lambda: team.calls[name](*arguments))
            peak = None if before is None else max(0, memory("VmHWM") - before)
            connection.send(result if isinstance(result, Exception) else (result, peak))
    except (EOFError, KeyboardInterrupt, BrokenPipeError):
        pass
    finally:
        for helper in multiprocessing.active_children():  # Python would send SIGTERM and wait, in vain as above.
            helper.kill()


def _or_error(call):
    """Returns what a call returns, or an exception that can be sent."""
    try:
        return call()
    except errors.UserError as error:
        return error
    except MemoryError as error:
        return errors.UserError(f"Memory ran out: take a smaller --batch_size. {error}")
    except Exception:
        return RuntimeError(f"In a process of the benchmark:\n{traceback.format_exc()}")


@dataclasses.dataclass(frozen=True)
class Case:
    """Who takes a turn.

    Attributes:
        label: For people.
        engine: Where.
        name: The engine's name for it.
    """

    label: str
    engine: WorkerProcess
    name: str

    def turn(self, seconds: float) -> float:
        time.sleep(0.5)  # Threads of the one before may spin for a while.
        return self.engine.call(self.name, seconds)[0]


def interleave(contestants: list[Case], rounds: int, seconds: float, is_hopeless=None) -> list[Speed]:
    """Gives everyone a short turn to warm up, and then one in each round.

    Args:
        contestants: In their order.
        rounds: How often each one's turn comes.
        seconds: How long a turn is at least.
        is_hopeless: Function of (label, what all did in the warm-up, by label): whether that figure is enough of this one.

    Returns:
        The speeds, in the same order.
    """
    first = {each.label: each.turn(0.0) for each in contestants}
    out = {label for label in first if is_hopeless and is_hopeless(label, first)}
    rates = {label: [rate] if label in out else [] for label, rate in first.items()}
    for _ in range(rounds):
        for each in contestants:
            if each.label not in out:
                rates[each.label].append(each.turn(seconds))
    return [Speed(label, tuple(each)) for label, each in rates.items()]


def random_batch(row: architectures.Architecture, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the batch that all engines compute: uint8 images [batch, size, size, 3] and int64 labels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch_size, row.image_size, row.image_size, 3), "uint8")
    return images, rng.integers(0, row.num_classes, batch_size)


def repeated(step, images: int):
    """Returns the contestant that repeats a step: seconds -> images per second, over at least one step.

    In the first turn a step goes before that counts not, for what engines do once.
    """
    is_warm = False

    def run(seconds: float) -> float:
        nonlocal is_warm
        if not is_warm:
            step()
            is_warm = True
        steps, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds or not steps:
            step()
            steps += 1
        return steps * images / elapsed

    return run


def memory(field: str) -> int:
    """Returns a field of the process's status, such as VmRSS, in bytes."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def reset_peak() -> int | None:
    """Makes VmHWM begin anew at the memory in use, and returns that; None where the system knows no such thing."""
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        return memory("VmRSS")
    except (OSError, KeyError):
        return None
