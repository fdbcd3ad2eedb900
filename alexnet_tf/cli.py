"""What every script does around its work: TensorFlow started quietly, and a user's mistake told in a line."""

import inspect
import logging
import os
import sys
import tempfile

import absl.logging
from absl import app, flags

from alexnet_tf import errors


def import_tensorflow():
    """Imports TensorFlow and Keras without their start-up lines, which would drown what the program says.

    Those lines are written to file descriptor 2 before TensorFlow reads TF_CPP_MIN_LOG_LEVEL. Should the import
    fail, they are shown, and with TF_CPP_MIN_LOG_LEVEL=0 they are not hidden.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") == "0":
        return
    sys.stderr.flush()
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            import keras  # noqa: F401
            import tensorflow

            tensorflow.config.list_physical_devices()  # Looks for a GPU, which says a few lines more.
        except BaseException:
            os.dup2(standard_error, 2)
            kept.seek(0)
            os.write(2, kept.read())
            raise
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)


def check_no_arguments(argv) -> None:
    """Refuses arguments that are no flags.

    Raises:
        UserError: If there are any.
    """
    if argv[1:]:
        raise errors.UserError(f"Unexpected arguments: {' '.join(argv[1:])}. Flags are written --name=value; see --help.")


class _ScreenHandler(logging.Handler):
    """Prints log records as the library's messages: warnings to standard error, all else to standard output."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        print(record.getMessage(), file=stream, flush=True)


def show_log() -> None:
    """Shows on the screen what the library logs, as plain lines."""
    logger = logging.getLogger("alexnet_tf")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not any(isinstance(handler, _ScreenHandler) for handler in logger.handlers):
        logger.addHandler(_ScreenHandler())


def run(main) -> None:
    """Runs a script's `main(argv)` under absl; arguments that are left over, and errors a user can mend, end in a line.

    `main` may return an exit status. With --help, the docstring of its module and the module's flags are shown.
    """
    module = sys.argv[0] if main.__module__ == "__main__" else main.__module__

    def parse(argv):
        if {"--help", "-help", "-h", "--helpshort"} & set(argv):
            print(f"{inspect.getdoc(sys.modules[main.__module__])}\n\n{flags.FLAGS.module_help(module)}")
            sys.exit(0)
        return app.parse_flags_with_usage(argv)

    def wrapped(argv):
        absl.logging.set_verbosity(absl.logging.WARNING)  # TensorFlow tells each step of an export.
        try:
            return main(argv)
        except errors.UserError as error:
            sys.exit(f"\nError: {error}")
        except KeyboardInterrupt:
            sys.exit("\nStopped.")

    show_log()
    for stream in (sys.stdout, sys.stderr):  # A file's name may be no Unicode.
        stream.reconfigure(errors="backslashreplace")
    app.run(wrapped, flags_parser=parse)
