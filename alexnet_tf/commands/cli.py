"""What every command does around its work: flags parsed, TensorFlow started quietly, mistakes reported in one line.

A command is a module of this package with `Options`, a dataclass whose fields are its flags, and `main(options)`, which
returns the exit status or None. TensorFlow takes seconds to import. A command module therefore imports nothing that
needs it; its `main` first checks what can be checked without, then calls `import_tensorflow` and imports the library.
"""

import contextlib
import importlib
import inspect
import logging
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

import absl.logging

import alexnet_tf
from alexnet_tf.commands import options
from alexnet_tf.support import errors, image_limit, processors, quiet, shell

# The exit status of what Ctrl-C stopped, as a shell has it; of training that any signal stopped, which can be resumed.
STOPPED = 130

_HELP = {"--help", "-help", "-h", "--helpshort", "--helpfull"}


def run_command(name: str, arguments: Sequence[str]) -> int:
    """Runs a command of this package.

    Args:
        name: Name of a module in `alexnet_tf.commands`.
        arguments: Flags and other arguments, as typed after the command.

    Returns:
        The exit status: 0, 1 after a mistake that was reported, or `STOPPED`.
    """

    def work() -> int | None:
        processors.allow_open_files()
        with _interrupts_end_at_once(sys.stderr):
            if "--version" in arguments:
                print(f"alexnet_tf {alexnet_tf.__version__}")
                return 0
            command = load_command(name)
            if _HELP & set(arguments):
                listed = options.define(command.Options).get_help(include_special_flags=False)
                print(f"{inspect.getdoc(command)}\n\nFlags:\n{listed.split(':', 1)[1].strip(chr(10))}")
                return 0
            given = options.parse(command.Options, name, arguments)
            options.check_paths(given)
            if isinstance(given, options.ImageOptions):
                image_limit.set_max_mb(given.max_image_mb)
        return command.main(given)

    return report_mistakes(work)


def load_command(name: str) -> Any:
    """Imports a command's module."""
    return importlib.import_module(f"{__package__}.{name}")


def parse_command(name: str, arguments: Sequence[str]) -> Any:
    """Returns the `Options` that a command's `main` would get.

    Raises:
        UserError: If a flag is unknown, missing or has a wrong value.
    """
    return options.parse(load_command(name).Options, name, arguments)


def report_mistakes(work: Callable[[], int | None]) -> int:
    """Calls a function; a mistake that the user can correct, Ctrl-C and a closed pipe end without a stack trace.

    Returns:
        The exit status: what the function returned, 0 for None, 1 if it failed, and `STOPPED` after Ctrl-C.
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
        return STOPPED
    except BrokenPipeError:  # Such as `... | head`. Python would complain once more when it closes standard output.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


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
        with contextlib.ExitStack() as stack:
            if is_quiet:
                stack.enter_context(_interrupts_end_at_once(stack.enter_context(quiet.standard_error_hidden())))
            import tensorflow

            tensorflow.config.list_physical_devices()  # Looks for a GPU, which logs a few lines more.
    import keras

    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    absl.logging.set_verbosity(absl.logging.WARNING)  # TensorFlow logs each step of an export.


@contextlib.contextmanager
def _interrupts_end_at_once(screen: TextIO) -> Iterator[None]:
    """Lets Ctrl-C end the process during imports, where an exception would surface as a long trace from anywhere."""

    def stop(number: int, frame: types.FrameType | None) -> None:
        print("\nStopped.", file=screen, flush=True)
        os._exit(STOPPED)

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


def check_some(arguments: Sequence[str], noun: str, line: str) -> None:
    """Refuses a command without arguments.

    Args:
        arguments: What follows the flags.
        noun: What is needed, in the singular.
        line: The command as it should be typed.

    Raises:
        UserError: If there are none.
    """
    if not arguments:
        raise errors.UserError(f"Give at least one {noun}: {line}")
