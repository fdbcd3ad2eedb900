"""Whether XLA works here. Where it does not, the same numbers come from ordinary operations, more slowly.

XLA is in the official builds for CPUs and NVIDIA GPUs, but some GPUs are newer than it knows, Apple's have none, and
parts of the CUDA toolkit may be missing. It can end the process instead of raising an exception, so a machine with a
GPU tries it in a process of its own, once.
"""

import contextlib
import contextvars
import functools
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

_LOGGER = logging.getLogger(__name__)

# "0": XLA is not used; "1": it is, without a trial. Processes that this one starts inherit the answer.
VARIABLE = "ALEXNET_TF_XLA"

_TRIAL = """
import tensorflow as tf
for gpu in tf.config.list_physical_devices("GPU"):
    tf.config.experimental.set_memory_growth(gpu, True)
with tf.device("GPU:0"):
    value = tf.function(lambda x: tf.sqrt(x * 2 + 2), jit_compile=True)(tf.ones([64, 64]))
assert abs(float(tf.reduce_sum(value)) - 64 * 64 * 2) < 1
"""

_TRIAL_SECONDS = 180


_is_fusing = contextvars.ContextVar("is_fusing", default=False)


@contextlib.contextmanager
def fused_kernels() -> Iterator[None]:
    """Lets LRN and the normalisation of the input be traced as fast functions of XLA, where it works.

    For functions that stay in this process; without it, a network is traced as ordinary operations, which can be
    exported.
    """
    token = _is_fusing.set(True)
    try:
        yield
    finally:
        _is_fusing.reset(token)


def is_fusing() -> bool:
    """Returns whether a function of XLA is to be traced here."""
    return _is_fusing.get() and is_usable()


@functools.cache
def is_usable() -> bool:
    """Returns whether XLA works on the devices of this machine; says so in a line where it does not."""
    if VARIABLE in os.environ:
        return os.environ[VARIABLE] != "0"
    why = failure()
    os.environ[VARIABLE] = "0" if why else "1"
    if why:
        _LOGGER.warning(
            f"XLA cannot be used here ({why}): the same numbers are computed without it, more slowly. {VARIABLE}=1 "
            f"uses it anyway."
        )
    return not why


def failure() -> str:
    """Tries XLA on a GPU, if there is one; returns why it does not work, or an empty string."""
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        return ""
    try:
        trial = subprocess.run(
            [sys.executable, "-c", _TRIAL], capture_output=True, text=True, timeout=_TRIAL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it took more than {_TRIAL_SECONDS} seconds"
    if not trial.returncode:
        return ""
    lines = [line for line in trial.stderr.splitlines() if "Error" in line or "error" in line]
    return lines[-1].strip() if lines else f"its trial ended with status {trial.returncode}"
