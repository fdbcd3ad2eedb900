"""Flags from dataclasses: every field of a command's `Options` that `settings.setting` made is a flag of its name.

The flags are absl's, in a set of their own for each call, so that a notebook can run several commands, or one twice.
"""

import dataclasses
import re
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import errors, home, image_limit, settings, shell
from alexnet_tf.support.settings import REQUIRED, setting
from alexnet_tf.weights import pretrained


def pretrained_setting() -> Any:
    """Returns the flag --pretrained."""
    return setting(
        None,
        "Public ImageNet weights, downloaded once (244 MB) and kept in ~/.cache/alexnet_tf or $ALEXNET_TF_HOME.",
        choices=pretrained.PRETRAINED,
    )


def load_pretrained(name: str) -> str:
    """Returns the directory of public weights; what is said of them stays out of the output."""
    return str(pretrained.load(name, lambda line: print(line, file=sys.stderr, flush=True)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """A run, or public weights, which are one."""

    workdir: str | None = setting(None, "The run's directory.")
    pretrained: str | None = pretrained_setting()

    def run(self) -> RunDirectory:
        """Returns the directory of the run.

        Raises:
            UserError: If none or two are named, there is no run, or the weights cannot be downloaded.
        """
        if bool(self.workdir) == bool(self.pretrained):
            names = ", ".join(pretrained.PRETRAINED)
            raise errors.UserError(f"Give either --workdir=RUN, or --pretrained=NAME (one of {names}).")
        run = RunDirectory(self.workdir or load_pretrained(self.pretrained or ""))
        run.existing_config()
        return run


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointOptions(RunOptions):
    """A run and one of its checkpoints."""

    checkpoint: str = setting("last", "Which checkpoint.", choices=("last", "best"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """For every command that reads images."""

    max_image_mb: int = setting(
        image_limit.DEFAULT_MB,
        "Image files of more megabytes are refused before they are read.",
        lower=1,
        upper=image_limit.LARGEST_MB,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions(ImageOptions):
    """Images other than those of the run."""

    data_dir: str | None = setting(None, "Images; by default those of the run.", path="directory")
    dataset: str | None = setting(None, "Name of the TFDS data set in --data_dir.")


def parse(options: type, name: str, arguments: Sequence[str]) -> Any:
    """Returns an instance of a command's options.

    Args:
        options: The dataclass. Its field `arguments`, if there is one, takes what is not a flag. A dictionary
            with the metadata "of" stands for the fields of another dataclass: it takes those that are given, by name.
        name: The command's name, for the messages.
        arguments: As typed after the command.

    Raises:
        UserError: If a flag is unknown or missing, or a value is wrong.
    """
    values = define(options)
    try:
        rest = tuple(values([name, *arguments])[1:])
    except flags.Error as error:
        missing = re.match(r"flag --(\w+)=None: ", str(error))
        message = f"--{missing[1]} is missing." if missing else str(error)
        raise errors.UserError(f"{message}\nSee: {shell.command_line(name, '--help')}") from error
    given: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        if field.metadata.get("help"):
            given[field.name] = _plain(values[field.name].value)
        elif "of" in field.metadata:
            changes = given[field.name] = {}
            for each in _settings(field.metadata["of"]):
                value = _plain(values[each.name].value)
                settings.check_value(each, value, "--")
                changes |= {} if value is None else {each.name: value}
        elif field.name == "arguments":
            given["arguments"] = rest
    if rest and "arguments" not in given:
        raise errors.UserError(f"Unexpected arguments: {' '.join(rest)}. Flags are written --name=value; see --help.")
    texts = dict(given)
    for changes in [value for value in given.values() if isinstance(value, dict)]:
        texts |= changes
    for key, value in texts.items():
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, str) and key != "server":  # An address.
                errors.check_local_path(each, "" if key == "arguments" else f"--{key}=")
    made = options(**given)
    settings.check(made, "--")
    return made


def define(options: type) -> flags.FlagValues:
    """Returns the flags of an options dataclass, not parsed yet."""
    values = flags.FlagValues()
    for field in dataclasses.fields(options):
        if field.metadata.get("help"):
            _define_flag(values, options, field, field.default)
        elif "of" in field.metadata:
            for each in _settings(field.metadata["of"]):
                _define_flag(values, field.metadata["of"], each, None)
    return values


def _settings(options: type) -> list[dataclasses.Field]:
    return [field for field in dataclasses.fields(options) if field.metadata.get("help")]


def _define_flag(values: flags.FlagValues, options: type, field: dataclasses.Field, default: Any) -> None:
    limits, kind = field.metadata, settings.kind_of(options, field.name)
    is_required = default is REQUIRED
    arguments: dict[str, Any] = {"flag_values": values, "required": is_required}
    name, help_text, default = field.name, limits["help"], None if is_required else default
    if kind is bool:
        flags.DEFINE_bool(name, default, help_text, **arguments)
    elif kind is tuple:
        flags.DEFINE_list(name, None if default is None else list(default), help_text, **arguments)
    elif kind in (int, float):
        define = flags.DEFINE_integer if kind is int else flags.DEFINE_float
        define(name, default, help_text, lower_bound=limits["lower"], upper_bound=limits["upper"], **arguments)
    elif limits["choices"] is not None:
        flags.DEFINE_enum(name, default, list(limits["choices"]), help_text, case_sensitive=False, **arguments)
    else:
        flags.DEFINE_string(name, default, help_text, **arguments)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def check_paths(options: Any) -> None:
    """Refuses files and directories that must exist and do not.

    Raises:
        UserError: Names the flag.
    """
    for field in dataclasses.fields(options):
        if kind := field.metadata.get("path"):
            check_path(field.name, getattr(options, field.name), kind)


def check_path(name: str, value: str | None, kind: str) -> None:
    """Refuses a path that is not there.

    Args:
        name: The flag's name.
        value: The path, or None, which is none.
        kind: "file", for anything that is there, or "directory".

    Raises:
        UserError: Names the flag.
    """
    if value is None:
        return
    path = home.expand(value)
    if not path.exists():
        raise errors.UserError(f"--{name}={value} does not exist.")
    if kind == "directory" and not path.is_dir():
        raise errors.UserError(f"--{name}={value} is a file, not a directory.")
