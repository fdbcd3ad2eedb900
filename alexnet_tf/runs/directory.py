"""A run's directory: what it was started with, its classes, its checkpoints and its history.

    RUN/config.json        everything that was decided before the first step
    RUN/classes.txt        class names, one a line, in the order of the logits
    RUN/checkpoints/       <step>.npz: the last one, the one before it and the best; best.json names the best
    RUN/history.csv        one row an epoch
    RUN/mean_image.npz     what the first layer subtracts, where that is a mean image

Each file appears whole or not at all: it is written beside its place, synchronised to the disk and renamed.
A checkpoint is named arrays and a state that JSON can hold; only `load_model` knows networks.
"""

import contextlib
import csv
import dataclasses
import io
import json
import logging
import os
import pathlib
import shlex
import shutil
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from alexnet_tf.runs import checkpoints
from alexnet_tf.runs import config as run_configs
from alexnet_tf.runs.config import MEAN_IMAGE, RunConfig
from alexnet_tf.support import atomic_files, errors, home, processors, shell

if typing.TYPE_CHECKING:
    from alexnet_tf.network import alexnet

CONFIG, CLASSES, HISTORY, CHECKPOINTS, BEST = "config.json", "classes.txt", "history.csv", "checkpoints", "best.json"

_MAX_CHECKPOINTS = 3  # The last two and the best.

Arrays = dict[str, np.ndarray]

_LOGGER = logging.getLogger(__name__)


def _write_json(path: pathlib.Path, value: object) -> None:
    atomic_files.write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


class RunDirectory:
    """The directory of one run.

    Args:
        path: Where it is, or shall be.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        errors.check_local_path(path, "")
        self.path = home.expand(path)

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    @contextlib.contextmanager
    def locked(self, work: str = "training") -> Iterator[None]:
        """Holds the directory as `atomic_files.locked`, and removes what processes that were killed left there."""
        with atomic_files.locked(self.path, work):
            self._remove_temporary_files()
            yield

    def _remove_temporary_files(self) -> None:
        """Removes what processes that were killed had begun to write."""
        for folder in (self.path, self.path / CHECKPOINTS, self.path / "pictures"):
            for path in folder.glob(".*.tmp"):
                if path.is_dir():  # A version of the SavedModel.
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def read_config(self) -> RunConfig | None:
        """Returns what the run was started with, or None for a new run.

        Raises:
            RunError: If the file is there and cannot be read.
        """
        try:
            return RunConfig.from_json(json.loads((self.path / CONFIG).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise errors.RunError(f"{self.path / CONFIG} cannot be read: {error}") from error

    def existing_config(self) -> RunConfig:
        """Returns what the run was started with.

        Raises:
            RunError: If there is no run, or the file cannot be read.
        """
        run_config = self.read_config()
        if run_config is None:
            folders = (self.path, self.path.parent, pathlib.Path("runs"))
            found = sorted({str(path.parent) for folder in folders for path in folder.glob(f"*/{CONFIG}")})
            there = f"Runs here: {', '.join(found)}." if found else f"{shell.command_line('train')} makes one."
            raise errors.RunError(f"There is no run in {self}. {there}")
        return run_config

    def write_config(self, run_config: RunConfig, class_names: Iterable[str]) -> None:
        """Writes config.json and classes.txt; config.json last, so that its presence says that both are there."""
        content = "".join(f"{name}\n" for name in class_names).encode("utf-8", "surrogateescape")
        atomic_files.write_bytes(self.path / CLASSES, content)
        run_config = dataclasses.replace(run_config, cpus=processors.available_cpus())
        _write_json(self.path / CONFIG, run_config.to_json())

    def check_same_config(self, run_config: RunConfig) -> None:
        """Refuses to go on with a run that was started differently. More epochs, or moved data, are the same run.

        Raises:
            RunError: Names each difference with both values.
        """
        old = self.read_config()
        if old is None:
            return
        differences = list(run_configs.differences(old, run_config))
        if not differences:
            cpus = processors.available_cpus()
            if old.cpus not in (None, cpus):
                _LOGGER.info(
                    f"The run was trained on {shell.count(old.cpus, 'processor')} and goes on with {cpus}: its numbers "
                    "may round differently from here on."
                )
            return
        advice = "Give the same flags to resume it, or another --workdir for a new run."
        if all(each.startswith(("recipe.", "data.images", "data: ")) for each in differences):
            advice += (
                f"\nWith --init_from={shlex.quote(str(self))} and another --workdir, a new run starts from this "
                "one's weights under the new settings or with the new images, with a fresh optimizer and at epoch 1."
            )
        lines = "".join(f"  {each}\n" for each in differences)
        raise errors.RunError(f"{self} holds a run that was started differently:\n{lines}{advice}")

    def write_mean_image(self, mean_image: np.ndarray) -> None:
        """Writes what the first layer subtracts, float32 [size, size, 3]."""
        checkpoints.write(self.path / MEAN_IMAGE, {"mean_image": mean_image}, {})

    def read_mean(self, run_config: RunConfig) -> np.ndarray | tuple[float, ...]:
        """Returns what the first layer subtracts: the mean colour of config.json, or the mean image beside it.

        Raises:
            RunError: If the mean image cannot be read.
        """
        if not isinstance(run_config.mean, str):
            return run_config.mean
        shape = (run_config.image_size, run_config.image_size, 3)
        try:
            mean = checkpoints.read(self.path / MEAN_IMAGE)[0]["mean_image"]
        except checkpoints.DamagedError as error:
            raise errors.RunError(f"{self.path / MEAN_IMAGE} cannot be read: {error}") from error
        if mean.shape != shape or not np.isfinite(mean).all():
            raise errors.RunError(f"{self.path / MEAN_IMAGE} cannot be read: expected finite numbers of shape {shape}")
        return mean

    def class_names(self) -> list[str]:
        """Returns the class names in the order of the logits.

        Raises:
            RunError: If the file cannot be read, or has another number of names than the run has classes.
        """
        path, run_config = self.path / CLASSES, self.read_config()
        try:
            names = run_configs.class_names_in(path.read_bytes().decode("utf-8", "surrogateescape"))
        except OSError as error:
            raise errors.RunError(f"{path} cannot be read: {error.strerror}.") from error
        if run_config and len(names) != len(run_config.data.classes):
            raise errors.RunError(
                f"{path} has {len(names)} lines, but the run has {len(run_config.data.classes)} classes. It needs a "
                "class name on each line, in the order of the logits, as data.classes of config.json has them."
            )
        return names

    def steps(self) -> list[int]:
        """Returns the steps that checkpoints were written at, the newest first."""
        names = [path.stem for path in (self.path / CHECKPOINTS).glob("*.npz")]
        return sorted((int(name) for name in names if name.isdecimal()), reverse=True)

    def best_step(self) -> int | None:
        """Returns the step of the best checkpoint, or None where best.json is missing or damaged."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            step = json.loads((self.path / CHECKPOINTS / BEST).read_text(encoding="utf-8"))["step"]
            return step if type(step) is int else None
        return None

    def check_disk_space(self, checkpoint_bytes: int) -> None:
        """Refuses to start where the disk cannot hold three checkpoints, and a fourth while it is written.

        Args:
            checkpoint_bytes: Size of one.

        Raises:
            RunError: Says how much is needed and free.
        """
        written = [path.stat().st_size for path in (self.path / CHECKPOINTS).glob("*.npz")]
        needed = checkpoint_bytes * (_MAX_CHECKPOINTS + 1) - sum(written)
        free = shutil.disk_usage(self.path).free
        if free < needed:
            raise errors.RunError(
                f"The disk of --workdir={self} has {free / 1e6:,.0f} MB free; the run needs {needed / 1e6:,.0f} MB: up "
                f"to {_MAX_CHECKPOINTS} checkpoints of {checkpoint_bytes / 1e6:,.0f} MB, and one more while it is "
                "written. Free some, or give a --workdir on another disk."
            )

    def write_checkpoint(self, step: int, arrays: Arrays, state: dict[str, Any], best_step: int | None = None) -> None:
        """Writes a checkpoint and removes those that are neither the last two nor the best.

        Args:
            step: Steps done since the start. Checkpoints of later steps could not be read, and are removed.
            arrays: Arrays by name.
            state: What else is needed to go on; must survive JSON.
            best_step: Step of the best checkpoint so far, if there is one; it may be this one.
        """
        checkpoints.write(self._checkpoint(step), arrays, state)
        self.mark_best(best_step)
        kept = {*[each for each in self.steps() if each <= step][:2], best_step}
        for path in (self.path / CHECKPOINTS).glob("*.npz"):
            if path.stem.isdecimal() and int(path.stem) not in kept:
                path.unlink(missing_ok=True)

    def mark_best(self, step: int | None) -> None:
        """Makes best.json name a step, if there is one and it does not yet; also after a kill between the two files."""
        if step is not None and step != self.best_step():
            _write_json(self.path / CHECKPOINTS / BEST, {"step": step})

    def read_checkpoint(
        self, which: str = "last", *, is_wanted: Callable[[str], bool] = lambda name: True
    ) -> tuple[Arrays, dict[str, Any]] | None:
        """Reads a checkpoint; a last one that cannot be read falls back to the one before, with a warning.

        Args:
            which: "last" or "best".
            is_wanted: Which arrays to read, by name; the others cost nothing.

        Returns:
            (arrays by name, state), or None if there is no checkpoint at all.

        Raises:
            RunError: If there are checkpoints and none can be read, or there is no best one.
        """
        steps = self.steps()
        if which == "best" and steps:
            steps = [step for step in steps if step == self.best_step()]
            if not steps:
                why = f"no epoch was measured yet, or it or {BEST} is gone or damaged"
                raise errors.RunError(f"{self} has no best checkpoint: {why}. Use --checkpoint=last.")
        for step in steps:
            try:
                return checkpoints.read(self._checkpoint(step), is_wanted)
            except checkpoints.DamagedError as error:
                _LOGGER.warning(
                    f"{self._checkpoint(step)} cannot be read ({error})"
                    + ("; falling back to the one before." if step != steps[-1] else ".")
                )
        if steps:
            what = "The best checkpoint" if which == "best" else "No checkpoint"
            raise errors.RunError(f"{what} in {self.path / CHECKPOINTS} can{'not' if which == 'best' else ''} be read.")
        return None

    def existing_checkpoint(self, which: str = "last", **options: Any) -> tuple[Arrays, dict[str, Any]]:
        """Reads a checkpoint as `read_checkpoint` does.

        Raises:
            RunError: Also if there is none at all.
        """
        checkpoint = self.read_checkpoint(which, **options)
        if checkpoint is None:
            raise errors.RunError(
                f"{self} has no checkpoint yet. Go on training: the command that started it resumes it."
            )
        return checkpoint

    def write_history(self, rows: list[dict]) -> None:
        """Writes history.csv, one row an epoch; the checkpoint's state holds the rows, this is a view of them."""
        text = io.StringIO()
        writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        atomic_files.write_bytes(self.path / HISTORY, text.getvalue().encode())

    def _checkpoint(self, step: int) -> pathlib.Path:
        return self.path / CHECKPOINTS / f"{step:08d}.npz"


def load_model(
    run: RunDirectory, which: str = "last", precision: str | None = None
) -> "tuple[alexnet.AlexNet, RunConfig, dict[str, Any]]":
    """Rebuilds a run's network with the weights of a checkpoint, for inference, on whatever device there is.

    Args:
        run: The run's directory.
        which: "last" or "best".
        precision: Keras dtype policy; by default the run's. See `alexnet.inference_policy`.

    Returns:
        (model, the run's config, the checkpoint's state).

    Raises:
        errors.RunError: If there is no run or no checkpoint, or they do not fit together.
    """
    from alexnet_tf.network import alexnet  # TensorFlow takes seconds, and most of this file does without.
    from alexnet_tf.support import devices

    run_config = run.existing_config()
    devices.share_memory()
    devices.set_numerics(tf32=False)
    model = alexnet.build_model(
        run_config.architecture,
        mean=run.read_mean(run_config),
        precision=alexnet.inference_policy(precision or run_config.train.precision),
        initialize=False,
    )
    paths = {variable.path for variable in model.variables}
    arrays, state = run.existing_checkpoint(which, is_wanted=paths.__contains__)
    checkpoints.restore(model.variables, arrays)
    return model, run_config, state
