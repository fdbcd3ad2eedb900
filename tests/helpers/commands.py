"""Runs commands as a user types them, in the tests' own process, which saves a start of Python and TensorFlow."""

import contextlib
import io
import logging
import os
import pathlib

from alexnet_tf import __main__ as package
from alexnet_tf.commands import cli

ROOT = pathlib.Path(__file__).parents[2]


def call(*arguments) -> tuple[int, str, str]:
    """Runs a command to its end, in the repository's root.

    Args:
        *arguments: What follows `python`: train.py or export.py, or -m alexnet_tf and a command's name; then its flags.

    Returns:
        Exit status, standard output and standard error, without any stack trace.
    """
    script, *rest = map(str, arguments)
    out, err, before = io.StringIO(), io.StringIO(), os.getcwd()
    logger = logging.getLogger("alexnet_tf")
    state = logger.level, logger.propagate, list(logger.handlers)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        os.chdir(ROOT)
        try:
            if script == "-m":
                status = package.main(rest[1:])
            else:
                status = cli.run_command(script.removesuffix(".py"), rest)
        except SystemExit as end:
            status = end.code or 0
        finally:
            os.chdir(before)
            logger.level, logger.propagate, logger.handlers[:] = *state[:2], state[2]
    assert "Traceback" not in out.getvalue() + err.getvalue()
    return status, out.getvalue(), err.getvalue()
