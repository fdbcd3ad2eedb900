"""Does everything work on this machine, how fast, and what should be changed? Made to be pasted into an issue.

Every part runs in a process of its own, so that a part which crashes TensorFlow becomes a line of the output.
"""

import dataclasses
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from alexnet_tf.benchmarks import rounds, worker_process
from alexnet_tf.network import architectures, xla
from alexnet_tf.support import errors, processors, shell

# Largest difference of the logits from float32 on the CPU that is rounding, as a fraction of the largest logit.
_TOLERANCES = {"float32": 1e-4, "mixed_bfloat16": 0.05, "mixed_float16": 0.01}

# Another precision is recommended from this multiple of the default's rate on.
_WORTHWHILE = 1.1

_LITTLE_MEMORY = 4 * 2**30

_PACKAGES = ("tensorflow", "keras", "numpy", "nvidia-cudnn-cu12", "torch")


@dataclasses.dataclass(frozen=True)
class PrecisionCheck:
    """The deterministic training step in one precision."""

    precision: str
    images_per_second: float
    is_deterministic: bool  # Whether two steps from the same state gave the same bits twice.
    difference: float  # Of the logits from float32 on the CPU, as a fraction of the largest.

    @property
    def is_right(self) -> bool:
        """Whether the difference is rounding."""
        return self.difference <= _TOLERANCES[self.precision]

    def __str__(self) -> str:
        bits = "same bits twice" if self.is_deterministic else "NOT the same bits twice"
        return (
            f"{self.images_per_second:,.1f} images/s, {bits}, logits within {self.difference:.1e} of float32 on the CPU"
        )


def check(
    architecture: architectures.Architecture = architectures.PAPER, batch_size: int = 64, seconds: float = 1.0
) -> Iterator[str]:
    """Checks this machine.

    Args:
        architecture: The network that is trained.
        batch_size: Images a step.
        seconds: Shortest duration of each measurement.

    Yields:
        Lines to print, each as soon as it is known; the last ones say what to change.
    """
    yield f"Python      {platform.python_version()}, {platform.platform()}"
    yield f"Packages    {', '.join(f'{name} {version}' for name in _PACKAGES if (version := _version(name)))}"
    facts, found, failure = _run("make_devices_workload", "xla")
    if not facts:
        yield f"TensorFlow  FAILED: {failure}"
        return
    yield from facts["lines"]
    xla_failure = failure or found
    yield f"XLA         {f'FAILED: {xla_failure}' if xla_failure else 'works'}"
    os.environ.setdefault(xla.VARIABLE, "0" if xla_failure else "1")  # The next processes need not try again.
    options: dict[str, Any] = {"architecture": architecture, "batch_size": batch_size}
    results = []
    for precision in facts["precisions"]:
        _, result, failure = _run("make_precision_workload", "check", seconds, precision=precision, **options)
        yield f"{precision:15} {result or f'FAILED: {failure}'}"
        results += [result] if result else []
    _, speeds, failure = _run("make_input_workload", "check", seconds, **options)
    rates = "{:,.0f} images/s; the bare decode {:,.0f}".format(*speeds or (0, 0))
    yield f"Input       {f'FAILED: {failure}' if failure else rates}"
    yield "\nWhat to change:"
    yield "\n".join(f"  * {each}" for each in _advice(facts, xla_failure, results, speeds and speeds[0])) or "  nothing"


def _run(make: str, name: str, *arguments: object, **options: object) -> tuple[dict[str, Any], Any, str]:
    """Returns (facts of a workload in a new process, result of one of its calls, why it failed or an empty string)."""
    facts: dict[str, Any] = {}
    try:
        with worker_process.WorkerProcess(f"{__name__}:{make}", **options) as process:
            facts = process.facts
            return facts, process.call(name, *arguments), ""
    except Exception as error:  # Whatever it is, the user wants to know it.
        cause = error.__cause__ if isinstance(error, errors.UserError) and error.__cause__ else error
        return facts, None, f"{type(cause).__name__}: {' '.join(str(cause).split())[:200]}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _advice(facts, xla_failure, results: list[PrecisionCheck], input_rate) -> list[str]:
    """Returns what to change, a sentence each."""
    advice = [facts["unusable_gpu"]] if facts["unusable_gpu"] else []
    if xla_failure:
        advice.append(
            "XLA does not work here. Training computes the same numbers without it, more slowly; please "
            "report this output."
        )
    for result in results:
        if not result.is_deterministic:
            advice.append(f"Training in {result.precision} is not reproducible here, even with --deterministic.")
        if not result.is_right:
            advice.append(
                f"{result.precision} does not compute the CPU's numbers: do not use --precision="
                f"{result.precision}, and please report this output."
            )
    rates = {result.precision: result.images_per_second for result in results if result.is_right}
    best, default = max(rates, key=rates.__getitem__, default=""), facts["default_precision"]
    if default in rates and rates[best] > _WORTHWHILE * rates[default]:
        advice.append(
            f"--precision={best} trains {rates[best] / rates[default]:.1f} times as fast as {default}, the "
            "default here."
        )
    if best and input_rate and input_rate < rates[best]:
        advice.append(
            "The input is slower than the training step, which will wait for it: prepare the images once "
            f"({shell.command_line('prepare', data_dir='DIR', output_dir='OUT')}), or use more processor "
            "cores."
        )
    if facts["free_bytes"] < _LITTLE_MEMORY:
        advice.append(f"Only {facts['free_bytes'] / 2**30:.1f} GiB of memory are free: use a smaller --batch_size.")
    return advice


def make_devices_workload() -> worker_process.Workload:
    """Returns "xla", which tries XLA and returns why it fails, and as facts what TensorFlow finds here."""
    import cpuinfo
    import psutil
    import tensorflow as tf

    from alexnet_tf.support import devices

    build, cpu, memory = tf.sysconfig.get_build_info(), cpuinfo.get_cpu_info(), psutil.virtual_memory()
    features = sorted(set(cpu.get("flags", ())) & {"avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd"})
    gpus = devices.describe_gpus()
    cuda = f"CUDA {build['cuda_version']}, cuDNN {build['cudnn_version']}" if build["is_cuda_build"] else "CPUs"
    return worker_process.Workload(
        {"xla": xla.failure},
        {
            "lines": [
                f"Built for   {cuda}",
                f"Processor   {cpu.get('brand_raw', platform.machine())}, {processors.available_cpus()} cores "
                f"({', '.join(features)}), {memory.total / 2**30:.1f} GiB of memory, "
                f"{memory.available / 2**30:.1f} free",
                f"Driver      {devices.driver() or 'no NVIDIA driver'}",
                *(f"Accelerator {gpu}" for gpu in gpus or ["none that TensorFlow can use"]),
            ],
            "precisions": list(_TOLERANCES)[: 3 if gpus else 2],
            "unusable_gpu": devices.unusable_gpu(),
            "free_bytes": memory.available,
            "default_precision": devices.default_precision(),
        },
    )


def make_precision_workload(
    architecture: architectures.Architecture, batch_size: int, precision: str
) -> worker_process.Workload:
    """Returns "check": shortest duration in seconds -> `PrecisionCheck`."""
    import tensorflow as tf

    from alexnet_tf.benchmarks import layer_profile, model_throughput
    from alexnet_tf.network import alexnet
    from alexnet_tf.support import devices

    architecture = architectures.with_initialization(architecture, "he")  # Logits of a size that can be compared.

    def run(seconds: float) -> PrecisionCheck:
        step = model_throughput.make_step(architecture, batch_size, precision, deterministic=True)
        train = model_throughput.train_call(step, architecture, batch_size)
        start, hashes = [variable.numpy() for variable in step.variables], set()
        for _ in range(2):
            for variable, value in zip(step.variables, start, strict=True):
                variable.assign(value)
            train(), train()
            hashes.add(hashlib.sha256(b"".join(variable.numpy().tobytes() for variable in step.variables)).digest())
        rate = rounds.repeat(train, batch_size, layer_profile.wait)(seconds)
        devices.set_numerics(tf32=False)
        images = tf.constant(worker_process.random_batch(architecture, 8)[0])
        logits = step.model(images, training=False).numpy()
        with tf.device("CPU"):
            reference = alexnet.build_model(architecture, precision="float32")
            reference.set_weights(step.model.get_weights())
            expected = reference(images, training=False).numpy()
        difference = np.abs(logits - expected).max() / np.abs(expected).max()
        return PrecisionCheck(precision, rate, len(hashes) == 1, float(difference))

    return worker_process.Workload({"check": run}, {})


def make_input_workload(architecture: architectures.Architecture, batch_size: int) -> worker_process.Workload:
    """Returns "check": shortest duration in seconds -> images per second of the input and of the bare decode."""
    processors.hide_gpus()
    from alexnet_tf.benchmarks import input_throughput
    from alexnet_tf.data import discovery

    def run(seconds: float) -> tuple[float, float]:
        with tempfile.TemporaryDirectory() as directory:
            data = discovery.synthetic_dataset(str(pathlib.Path(directory, "images")), max(10, batch_size))
            result = input_throughput.benchmark_input(
                data,
                data,
                recipe=dataclasses.replace(architecture.recipe, batch_size=batch_size),
                image_size=architecture.image_size,
                num_images=10_000,
                num_rounds=1,
                seconds=seconds,
            )
        return result.pipeline.median, result.decode.median

    return worker_process.Workload({"check": run}, {})
