"""What every command does around its work: flags parsed, TensorFlow started quietly, mistakes reported in one line.

TensorFlow takes seconds to import. A command module therefore imports nothing that needs it; its `main` first checks
what can be checked without, then calls `import_tensorflow` and imports the library.
"""

import contextlib
import dataclasses
import importlib
import inspect
import logging
import os
import pathlib
import re
import signal
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

import absl.logging
from absl import flags

import alexnet_tf
from alexnet_tf.data.options import DataOptions
from alexnet_tf.support import errors, image_limit, shell

flags.disclaim_key_flags()  # Flags that are defined here for several commands are the command's own.

_COMMANDS = "alexnet_tf.commands"

_HELP = {"--help", "-help", "-h", "--helpshort", "--helpfull"}


def run_command(name: str, arguments: Sequence[str]) -> int:
    """Runs a command of this package.

    Args:
        name: Name of a module in `alexnet_tf.commands`.
        arguments: Flags and other arguments, as typed after the command.

    Returns:
        The exit status: 0, or 1 after a mistake that was reported.
    """

    def work() -> int | None:
        with _interrupts_end_at_once(sys.stderr):
            if "--version" in arguments:
                print(f"alexnet_tf {alexnet_tf.__version__}")
                return 0
            command = load_command(name)
            if _HELP & set(arguments):
                listed = flags.FLAGS.module_help(command.__name__).split(":\n", 1)[1]  # Without the module's name.
                print(f"{inspect.getdoc(command)}\n\nFlags:\n{listed}")
                return 0
            rest = _parse(name, arguments)
            _check_local_paths(rest)
            if "max_image_mb" in flags.FLAGS:
                image_limit.set_max_mb(flags.FLAGS.max_image_mb)
        return command.main(rest)

    return report_mistakes(work)


def parse_command(name: str, arguments: Sequence[str]) -> list[str]:
    """Parses a command's arguments without running it.

    Args:
        name: Name of a module in `alexnet_tf.commands`.
        arguments: As for `run_command`.

    Returns:
        The arguments that are not flags.

    Raises:
        UserError: If a flag is unknown, missing or has a wrong value.
    """
    load_command(name)
    return _parse(name, arguments)


def report_mistakes(work: Callable[[], int | None]) -> int:
    """Calls a function; a mistake that the user can correct, Ctrl-C and a closed pipe end without a stack trace.

    Returns:
        The exit status: what the function returned, 0 for None, and 1 if it failed.
    """
    # A file name may not be Unicode; a notebook's streams have no `reconfigure`.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    show_log()
    try:
        if os.name == "nt":
            raise errors.UserError(
                "alexnet_tf needs Linux or macOS. On Windows, install and run it inside WSL2: wsl --install"
            )
        status = work()
        sys.stdout.flush()
        return status or 0
    except errors.UserError as error:
        print(f"\nError: {shell.printable(str(error))}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
    except BrokenPipeError:  # Such as `... | head`. Python would complain once more when it closes standard output.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def load_command(name: str) -> types.ModuleType:
    """Imports a command's module anew, so that a notebook can run several commands, or one twice."""
    for module, defined in flags.FLAGS.flags_by_module_dict().items():
        if module.startswith(_COMMANDS):
            for flag in list(defined):
                delattr(flags.FLAGS, flag.name)
    module = f"{_COMMANDS}.{name}"
    sys.modules.pop(module, None)
    return importlib.import_module(module)


def _parse(name: str, arguments: Sequence[str]) -> list[str]:
    """Parses the flags and returns the other arguments.

    Raises:
        UserError: If a flag is unknown, missing or has a wrong value.
    """
    try:
        return flags.FLAGS([name, *arguments])[1:]
    except flags.Error as error:
        missing = re.match(r"flag --(\w+)=None: ", str(error))
        message = f"--{missing[1]} is missing." if missing else str(error)
        raise errors.UserError(f"{message}\nSee: {shell.command_line(name, '--help')}") from error


class _ScreenHandler(logging.Handler):
    """Prints log records as the library's messages: warnings to standard error, all else to standard output."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        print(shell.printable(record.getMessage()), file=stream, flush=True)


def show_log() -> None:
    """Shows on the screen what the library logs, as plain lines."""
    logger = logging.getLogger("alexnet_tf")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not any(isinstance(handler, _ScreenHandler) for handler in logger.handlers):
        logger.addHandler(_ScreenHandler())


def show(text: object = "", *, flush: bool = False) -> None:
    """Prints a command's result; control characters, which a file name may hold, are escaped."""
    print(shell.printable(str(text)), flush=flush)


def import_tensorflow() -> None:
    """Imports TensorFlow and Keras without their start-up messages, which would hide what the program prints.

    Those messages are written to file descriptor 2 before TensorFlow reads TF_CPP_MIN_LOG_LEVEL. Should the import
    fail, they are shown, and with TF_CPP_MIN_LOG_LEVEL=0 they are not hidden. Settings of the user's keras.json that
    the networks cannot work with are overridden.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    is_quiet = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") != "0"
    if "tensorflow" not in sys.modules:
        with _standard_error_hidden() if is_quiet else contextlib.nullcontext():
            import tensorflow

            tensorflow.config.list_physical_devices()  # Looks for a GPU, which logs a few lines more.
    import keras

    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    absl.logging.set_verbosity(absl.logging.WARNING)  # TensorFlow logs each step of an export.


@contextlib.contextmanager
def _standard_error_hidden() -> Iterator[None]:
    """Keeps what is written to file descriptor 2, by C++ too, and shows it only if an exception is raised."""
    sys.stderr.flush()
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as kept, open(standard_error, "w", closefd=False) as screen:
        os.dup2(kept.fileno(), 2)
        try:
            with _interrupts_end_at_once(screen):
                yield
        except BaseException:
            os.dup2(standard_error, 2)
            kept.seek(0)
            os.write(2, kept.read())
            raise
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)


@contextlib.contextmanager
def _interrupts_end_at_once(screen: TextIO) -> Iterator[None]:
    """Lets Ctrl-C end the process during imports, where an exception would surface as a long trace from anywhere."""

    def stop(number: int, frame: types.FrameType | None) -> None:
        print("\nStopped.", file=screen, flush=True)
        os._exit(1)

    if (
        threading.current_thread() is not threading.main_thread()
        or "ipykernel" in sys.modules
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _check_local_paths(arguments: Sequence[str]) -> None:
    """Refuses `gs://`, `s3://` and the like in any flag or argument but the address of a server."""
    for of_module in flags.FLAGS.flags_by_module_dict().values():
        for flag in of_module:
            values = flag.value if isinstance(flag.value, list) else [flag.value]
            for value in values if flag.name != "server" else ():
                errors.check_local_path(value, f"--{flag.name}=")
    for each in arguments:
        errors.check_local_path(each, "")


def define_data_options() -> list[flags.FlagHolder]:
    """Defines the flags that say which examples of --data_dir are meant, from the fields of `DataOptions`."""
    names = ("labels", "image_column", "label_column", "image_key", "label_key")
    fields = {field.name: field for field in dataclasses.fields(DataOptions)}
    return [flags.DEFINE_string(name, None, fields[name].metadata["help"]) for name in names]


def define_image_limit() -> flags.FlagHolder:
    """Defines --max_image_mb of a command that reads images; `run_command` sets the limit before it calls `main`."""
    return flags.DEFINE_integer(
        "max_image_mb",
        image_limit.DEFAULT_MB,
        "Image files of more megabytes are refused before they are read.",
        lower_bound=1,
        upper_bound=image_limit.LARGEST_MB,
    )


def define_precision_option(default: str = "auto") -> flags.FlagHolder:
    """Defines --precision of a command that does not train; see `devices.chosen_precision`."""
    return flags.DEFINE_enum(
        "precision",
        default,
        ["auto", "float32", "mixed_bfloat16", "mixed_float16"],
        "Numbers to compute in; auto: the fastest of this machine that loses nothing, whatever the run was trained in.",
    )


def check_no_arguments(arguments: Sequence[str]) -> None:
    """Refuses arguments that are not flags.

    Raises:
        UserError: If there are any.
    """
    if arguments:
        raise errors.UserError(
            f"Unexpected arguments: {' '.join(arguments)}. Flags are written --name=value; see --help."
        )


def check_directory(flag: str, path: str | None) -> None:
    """Refuses a directory that does not exist, before TensorFlow is imported.

    Args:
        flag: Name of the flag that gives the directory.
        path: The directory; None is accepted.

    Raises:
        UserError: If it is not there.
    """
    if path is not None and not pathlib.Path(path).expanduser().is_dir():
        what = "is a file, not a directory" if pathlib.Path(path).expanduser().exists() else "does not exist"
        raise errors.UserError(f"--{flag}={path} {what}.")
