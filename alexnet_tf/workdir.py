"""A run's directory: what it was started with, its classes, its checkpoints and its history.

    RUN/config.json        everything that was decided before the first step
    RUN/classes.txt        class names, one a line, in the order of the logits
    RUN/checkpoints/       <step>.npz: the last one, the one before it and the best; best.json names the best
    RUN/history.csv        one row an epoch
    RUN/mean_image.npy     what the first layer subtracts, where that is a mean image

Each file appears whole or not at all: it is written beside its place, synchronised to the disk and renamed.
Knows nothing of networks: a checkpoint is named arrays and a state that JSON can hold.
"""

import contextlib
import csv
import dataclasses
import fcntl
import io
import json
import os
import pathlib
import sys
import zipfile

import numpy as np

from alexnet_tf import config

CONFIG, CLASSES, HISTORY, CHECKPOINTS, BEST = "config.json", "classes.txt", "history.csv", "checkpoints", "best.json"

# Also what config.json says in place of a mean colour.
MEAN_IMAGE = "mean_image.npy"

_STATE = "state.json"


class WorkdirError(config.UserError):
    """The run's directory cannot be used; the message says why and what to do."""


def write_whole(path, write) -> None:
    """Writes a file whole or not at all.

    Args:
        path: Where the file shall appear.
        write: Called with a binary file to fill.

    Raises:
        WorkdirError: If it cannot be written (a full disk, say); nothing half-written stays.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        synchronize(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):  # Such as Ctrl-C.
            raise
        raise WorkdirError(f"{path} could not be written: {error.strerror or error}.") from error


def synchronize(path) -> None:
    """Waits until a file, or a directory's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_json(path, value) -> None:
    write_whole(path, lambda file: file.write((json.dumps(value, indent=2) + "\n").encode()))


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def restore(variables, arrays: dict) -> None:
    """Assigns arrays to the variables of the same path; arrays left over belong to something else and are ignored.

    Args:
        variables: Keras variables.
        arrays: Arrays by path.

    Raises:
        WorkdirError: If an array is missing or has another shape; nothing is assigned then.
    """
    missing = [v.path for v in variables if v.path not in arrays]
    differing = [
        f"{v.path}: {arrays[v.path].shape} in the checkpoint, {tuple(v.shape)} in the network"
        for v in variables if v.path in arrays and arrays[v.path].shape != tuple(v.shape)]
    if missing or differing:
        raise WorkdirError(
            "The checkpoint does not fit the network. Missing: "
            f"{', '.join(missing) or 'none'}. Other shapes: {'; '.join(differing) or 'none'}.")
    for variable in variables:
        variable.assign(arrays[variable.path])


def _differences(name: str, before, now):
    """Yields what differs between two configs, a line each."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            yield from _differences(f"{name}.{key}" if name else key, before.get(key), now.get(key))
    elif name not in ("recipe.epochs", "data.directory", "data.name") and before != now:
        yield f"{name}: {_short(before)} in the run, {_short(now)} now"


_DEFAULTS = dataclasses.asdict(config.TrainConfig())


def _completed(run_config: dict) -> dict:
    """Returns a config with the fields that it was written too early to have, as their defaults: all runs had those then."""
    return _DEFAULTS | run_config | {"recipe": _DEFAULTS["recipe"] | run_config.get("recipe", {})}


def _short(value) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."


def default_path(architecture: str, data_name: str, init_from: str | None = None) -> str:
    """Returns where a run is kept unless it is said: runs/<architecture or source>-<data set>."""
    start = f"{os.path.basename(os.path.abspath(init_from))}-to" if init_from else architecture
    return f"runs/{start}-{data_name}"


class Workdir:
    """The directory of one run.

    Args:
        path: Where it is, or shall be.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path).expanduser()

    def __fspath__(self):
        return str(self.path)

    def __str__(self):
        return str(self.path)

    @contextlib.contextmanager
    def locked(self, work: str = "training"):
        """Holds the directory for this process, so that two processes never write into it.

        Args:
            work: What this process does, and the other one would be doing, for the message.

        Raises:
            WorkdirError: If another process holds it, or it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = open(self.path / ".lock", "a")
        except OSError as error:
            raise WorkdirError(f"--workdir={self.path} cannot be used: {error.strerror}.") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise WorkdirError(
                    f"{self.path} is in use by another {work}. Wait for it, or give another --workdir.") from error
            except OSError:
                pass  # Some network file systems know no locks.
            yield

    def read_config(self) -> dict | None:
        """Returns what the run was started with, or None for a new run.

        Raises:
            WorkdirError: If the file is there and cannot be read.
        """
        try:
            return json.loads((self.path / CONFIG).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise WorkdirError(f"{self.path / CONFIG} cannot be read: {error}") from error

    def existing_config(self) -> dict:
        """Returns what the run was started with.

        Raises:
            WorkdirError: If there is no run, or the file cannot be read.
        """
        run_config = self.read_config()
        if run_config is None:
            raise WorkdirError(f"{self} is no run: it has no {CONFIG}. Make one with: python train.py --workdir={self}")
        return run_config

    def write_config(self, run_config: dict, class_names) -> None:
        """Writes config.json and classes.txt; config.json last, so that its presence says that both are there."""
        lines = "".join(f"{name}\n" for name in class_names)
        write_whole(self.path / CLASSES, lambda file: file.write(lines.encode("utf-8", "surrogateescape")))
        _write_json(self.path / CONFIG, run_config)

    def check_same_config(self, run_config: dict) -> None:
        """Refuses to go on with a run that was started differently. More epochs, or moved data, are the same run.

        Raises:
            WorkdirError: Names each difference with both values.
        """
        old = self.read_config()
        if old is None:
            return
        old, now = (json.loads(json.dumps(_completed(each))) for each in (old, run_config))  # Tuples become lists.
        differences = list(_differences("", old, now))
        if old["data"]["fingerprint"] != now["data"]["fingerprint"]:
            differences.append(f"the images: {old['data']['directory']} in the run, {now['data']['directory']} now")
        if differences:
            raise WorkdirError(
                f"{self} holds a run that was started differently:\n" + "".join(f"  {each}\n" for each in differences)
                + "Give the same flags to resume it, or another --workdir for a new run.")

    def write_mean_image(self, mean_image: np.ndarray) -> None:
        """Writes what the first layer subtracts, float32 [size, size, 3]."""
        write_whole(self.path / MEAN_IMAGE, lambda file: np.save(file, mean_image))

    def read_mean(self, run_config: dict):
        """Returns what the first layer subtracts: the mean colour of config.json, or the mean image beside it.

        Raises:
            WorkdirError: If the mean image cannot be read.
        """
        if run_config["mean"] != MEAN_IMAGE:
            return run_config["mean"]
        try:
            return np.load(self.path / MEAN_IMAGE)
        except (OSError, ValueError) as error:
            raise WorkdirError(f"{self.path / MEAN_IMAGE} cannot be read: {error}") from error

    def class_names(self) -> list[str]:
        """Returns the class names in the order of the logits."""
        return (self.path / CLASSES).read_text(encoding="utf-8", errors="surrogateescape").split("\n")[:-1]

    def steps(self) -> list[int]:
        """Returns the steps that checkpoints were written at, the newest first."""
        names = [path.stem for path in (self.path / CHECKPOINTS).glob("*.npz")]
        return sorted((int(name) for name in names if name.isdecimal()), reverse=True)

    def best_step(self) -> int | None:
        """Returns the step of the best checkpoint, or None."""
        try:
            return int(json.loads((self.path / CHECKPOINTS / BEST).read_text())["step"])
        except (OSError, ValueError, KeyError):
            return None

    def write_checkpoint(self, step: int, arrays: dict, state: dict, best_step: int | None = None) -> None:
        """Writes a checkpoint and removes those that are neither the last two nor the best.

        Args:
            step: Steps done since the start. Checkpoints of later steps could not be read, and are removed.
            arrays: Arrays by name.
            state: What else is needed to go on; must survive JSON.
            best_step: Step of the best checkpoint so far, if there is one; it may be this one.
        """
        members = arrays | {_STATE: np.frombuffer(json.dumps(state).encode(), "uint8")}
        write_whole(self._checkpoint(step), lambda file: np.savez(file, **members))
        self.mark_best(best_step)
        kept = {*[each for each in self.steps() if each <= step][:2], best_step}
        for path in (self.path / CHECKPOINTS).glob("*.npz"):
            if path.stem.isdecimal() and int(path.stem) not in kept:
                path.unlink(missing_ok=True)
        for path in (self.path / CHECKPOINTS).glob(".*.tmp"):  # Left by a process that was killed.
            path.unlink(missing_ok=True)

    def mark_best(self, step: int | None) -> None:
        """Makes best.json name a step, if there is one and it does not yet; also after a kill between the two files."""
        if step is not None and step != self.best_step():
            _write_json(self.path / CHECKPOINTS / BEST, {"step": step})

    def read_checkpoint(self, which: str = "last", *, is_wanted=lambda name: True, say=_say):
        """Reads a checkpoint; a last one that cannot be read falls back to the one before, and that is said.

        Args:
            which: "last" or "best".
            is_wanted: Which arrays to read, by name; the others cost nothing.
            say: Called with a line for each checkpoint that could not be read.

        Returns:
            (arrays by name, state), or None if there is no checkpoint at all.

        Raises:
            WorkdirError: If there are checkpoints and none can be read, or there is no best one.
        """
        steps = self.steps()
        if which == "best" and steps:
            best = self.best_step()
            if best not in steps:
                raise WorkdirError(
                    f"{self.path} has no best checkpoint: no epoch was measured yet. Use --checkpoint=last.")
            steps = [best]
        for step in steps:
            try:
                with open(self._checkpoint(step), "rb") as opened, np.load(opened) as file:
                    arrays = {name: file[name] for name in file.files if name != _STATE and is_wanted(name)}
                    return arrays, json.loads(file[_STATE].tobytes())
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
                say(f"{self._checkpoint(step)} cannot be read ({error})"
                    + ("; falling back to the one before." if step != steps[-1] else "."))
        if steps:
            what = "The best checkpoint" if which == "best" else "No checkpoint"
            raise WorkdirError(f"{what} in {self.path / CHECKPOINTS} can{'not' if which == 'best' else ''} be read.")
        return None

    def existing_checkpoint(self, which: str = "last", *, is_wanted=lambda name: True):
        """Reads a checkpoint as `read_checkpoint` does.

        Raises:
            WorkdirError: Also if there is none at all.
        """
        checkpoint = self.read_checkpoint(which, is_wanted=is_wanted)
        if checkpoint is None:
            raise WorkdirError(f"{self} has no checkpoint yet. Go on training: the command that started it resumes it.")
        return checkpoint

    def write_history(self, rows: list[dict]) -> None:
        """Writes history.csv, one row an epoch; the checkpoint's state holds the rows, this is a view of them."""
        text = io.StringIO()
        writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.path / HISTORY, lambda file: file.write(text.getvalue().encode()))

    def _checkpoint(self, step: int) -> pathlib.Path:
        return self.path / CHECKPOINTS / f"{step:08d}.npz"
