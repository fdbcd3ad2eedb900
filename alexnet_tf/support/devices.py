"""This machine's processors: which GPUs TensorFlow can use, what they compute fast, and how exactly.

Where a network is placed is decided in `training.distribution`.
"""

import functools
import os
import pathlib
import shutil
import subprocess
from collections.abc import Sequence

import tensorflow as tf

from alexnet_tf.support import errors, processors

# How the driver of an NVIDIA GPU is seen without any library: Linux, and Linux in Windows.
_DRIVER_FILES = ("/proc/driver/nvidia/version", "/dev/dxg")


@functools.cache
def _first_process() -> int:
    """Returns the process that called this first, also in its children."""
    return os.getpid()


def check_process() -> None:
    """Raises an error in a forked process, where TensorFlow's threads do not exist and its operations wait for ever.

    Raises:
        UserError: In a child of the process that called this first, which is the one that has built a network.
    """
    if os.getpid() != _first_process():
        raise errors.UserError(
            "This process was forked after TensorFlow was used, and TensorFlow would wait for ever in it. Start it "
            'afresh, with multiprocessing.get_context("spawn") (gunicorn: without preloading), and load the run there.'
        )


def gpus() -> list[str]:
    """Returns the names of this machine's GPUs that TensorFlow can use."""
    return [f"GPU:{index}" for index in range(len(tf.config.list_physical_devices("GPU")))]


def describe_gpus() -> list[str]:
    """Returns the name and compute capability of each GPU that TensorFlow can use."""
    described = []
    for gpu in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(gpu)
        capability = ".".join(map(str, details.get("compute_capability", ())))
        name = details.get("device_name", "GPU")
        described.append(f"{name}, compute capability {capability}" if capability else name)
    return described


def driver() -> str | None:
    """Returns the NVIDIA driver's version, with the names and memory of its GPUs; None where there is no driver."""
    if shutil.which("nvidia-smi"):
        result = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        if not result.returncode and result.stdout.strip():
            return "NVIDIA " + "; ".join(result.stdout.strip().splitlines())
    found = next((path for path in map(pathlib.Path, _DRIVER_FILES) if path.exists()), None)
    return f"{found}, without nvidia-smi" if found else None


def unusable_gpu() -> str | None:
    """Returns what to do about a GPU that is there and that TensorFlow cannot use, or None."""
    if gpus() or os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return None
    if not any(pathlib.Path(path).exists() for path in _DRIVER_FILES):
        return None
    if not tf.test.is_built_with_cuda():
        return (
            "An NVIDIA driver is there, but this build of TensorFlow has no support for GPUs: the CPU is used.\n"
            "  pip install 'tensorflow[and-cuda]'"
        )
    return (
        "An NVIDIA driver is there, but TensorFlow finds no GPU that it can use: the CPU is used. CUDA's "
        "libraries are missing or do not fit:\n  pip install 'tensorflow[and-cuda]'\n"
        "What TensorFlow says: TF_CPP_MIN_LOG_LEVEL=0 before the same command."
    )


def share_memory() -> None:
    """Lets TensorFlow take a GPU's memory as it needs it, so that two processes can share one.

    Does nothing once TensorFlow has begun to compute.
    """
    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except (RuntimeError, ValueError):
            return


def set_numerics(*, tf32: bool, deterministic: bool = False) -> None:
    """Makes the numeric settings of this process: the only place that makes them.

    Args:
        tf32: Whether a GPU may round the inputs of float32 products to 10 bits: wanted in training, where it is much
            faster and as reproducible; not where errors are measured and networks compared.
        deterministic: Whether the same seed gives the same bits.
    """
    tf.config.experimental.enable_tensor_float_32_execution(tf32 and bool(gpus()))
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def numerics() -> str | None:
    """Returns a line about TF32 for a machine with a GPU, or None."""
    if not gpus():
        return None
    if tf.config.experimental.tensor_float_32_execution_enabled():
        return "TF32 is on: float32 products are rounded to 10 bits. NVIDIA_TF32_OVERRIDE=0 turns it off."
    return "TF32 is off."


def default_precision(devices: Sequence[str] = ()) -> str:
    """Returns the Keras dtype policy that is fastest without a loss on the devices that are used.

    Args:
        devices: Such as "GPU:0" or "CPU:0"; by default all GPUs, or the CPU where there is none.

    Returns:
        "mixed_bfloat16" on GPUs from compute capability 8.0 and on CPUs that compute in bfloat16, "mixed_float16",
        whose loss is scaled, on GPUs of 7.x, and "float32" elsewhere and where devices differ.
    """
    policies = {_policy(device) for device in devices or gpus() or ["CPU:0"]}
    return policies.pop() if len(policies) == 1 else "float32"


def chosen_precision(precision: str) -> str:
    """Returns the Keras dtype policy that --precision means: `default_precision` for "auto"."""
    return default_precision() if precision == "auto" else precision


def _policy(device: str) -> str:
    if device.startswith("CPU"):
        # A CPU that would emulate bfloat16 is faster in float32.
        return "mixed_bfloat16" if {"avx512_bf16", "amx_bf16"} & processors.processor()[1] else "float32"
    gpu = tf.config.list_physical_devices("GPU")[int(device.removeprefix("GPU:"))]
    capability = tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
    if capability >= (8, 0):
        return "mixed_bfloat16"
    return "mixed_float16" if capability >= (7, 0) else "float32"
