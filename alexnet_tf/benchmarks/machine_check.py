"""Does everything work on this machine, how fast, and what should be changed? Made to be pasted into an issue.

Every part runs in a process of its own, so that one that crashes TensorFlow is a line of the result like any other.
"""

import hashlib
import importlib.metadata
import pathlib
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from alexnet_tf import architectures, errors
from alexnet_tf.benchmarks import rounds, worker_process

# Precisions that are tried, on GPUs and without.
_GPU_PRECISIONS, _CPU_PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16"), ("float32", "mixed_bfloat16")

# Largest difference of the logits from float32 on the CPU, as a fraction of the largest logit, that is rounding.
_TOLERANCES = {"float32": 1e-4, "mixed_bfloat16": 0.05, "mixed_float16": 0.01}

# Least share of a CPU's float32 rate at which another precision is worth choosing.
_WORTHWHILE = 1.1

_PACKAGES = ("tensorflow", "keras", "numpy", "nvidia-cudnn-cu12", "torch")


@dataclass(frozen=True)
class PrecisionCheck:
    """What one precision does here; of the deterministic training step."""

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
        return (f"{self.images_per_second:,.1f} images/s, {bits}, "
                f"logits within {self.difference:.1e} of float32 on the CPU")


def check(
    architecture: architectures.Architecture = architectures.PAPER, batch_size: int = 64,
    seconds: float = 1.0) -> Iterator[str]:
    """Checks this machine.

    Args:
        architecture: What is trained.
        batch_size: Images a step.
        seconds: Least duration of each measurement.

    Yields:
        Lines for a person, each as soon as it is known; the last ones say what to change.
    """
    yield f"Python      {platform.python_version()}, {platform.platform()}"
    yield f"Packages    {', '.join(f'{name} {version}' for name in _PACKAGES if (version := _version(name)))}"
    facts, _, xla_failure = _run("make_devices_workload", "xla")
    if not facts:
        yield f"TensorFlow  FAILED: {xla_failure}"
        return
    yield f"Built for   {facts['build']}"
    yield f"Processor   {facts['processor']}"
    yield f"Driver      {_driver() or 'no NVIDIA driver'}"
    for gpu in facts["gpus"] or ["none that TensorFlow can use"]:
        yield f"Accelerator {gpu}"
    yield f"XLA         {'FAILED: ' + xla_failure if xla_failure else 'works'}"
    results = []
    for precision in _GPU_PRECISIONS if facts["gpus"] else _CPU_PRECISIONS:
        _, result, failure = _run(
            "make_precision_workload", "check", seconds, architecture=architecture, batch_size=batch_size,
            precision=precision)
        yield f"{precision:15} {'FAILED: ' + failure if failure else result}"
        results += [result] if result else []
    _, speeds, failure = _run(
        "make_input_workload", "check", seconds, architecture=architecture, batch_size=batch_size)
    rates = "{:,.0f} images/s; the bare decode {:,.0f}".format(*speeds or (0, 0))
    yield f"Input       {'FAILED: ' + failure if failure else rates}"
    yield "\nWhat to change:"
    advice = _advice(facts, _driver(), xla_failure, results, speeds and speeds[0])
    yield "\n".join(f"  * {each}" for each in advice) or "  nothing"


def _run(make: str, name: str, *arguments: object, **options: object) -> tuple[dict[str, Any], Any, str]:
    """Returns (the facts of a workload in a new process, what one of its calls returns, why it failed if so)."""
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


def _driver() -> str | None:
    """Returns what the NVIDIA driver says of itself and its GPUs, or None without one."""
    if shutil.which("nvidia-smi"):
        result = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"],
            capture_output=True, text=True, check=False, timeout=30)
        if not result.returncode and result.stdout.strip():
            return "NVIDIA " + "; ".join(result.stdout.strip().splitlines())
    try:
        return pathlib.Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0]
    except OSError:
        return "WSL's, without nvidia-smi" if pathlib.Path("/dev/dxg").exists() else None


def _advice(facts, driver, xla_failure, results: list[PrecisionCheck], input_rate) -> list[str]:
    """Returns what to change, a sentence each."""
    advice = []
    if driver and not facts["gpus"]:
        advice.append("There is an NVIDIA driver, but TensorFlow finds no GPU: "
                      f"pip install 'tensorflow[and-cuda]=={_version('tensorflow')}'")
    if xla_failure:
        advice.append("XLA does not work here, and the training step uses it for the update and for local response "
                      "normalization. Please report this output.")
    for result in results:
        if not result.is_deterministic:
            advice.append(f"Training in {result.precision} is not reproducible here, even with --deterministic.")
        if not result.is_right:
            advice.append(f"{result.precision} computes something else than the CPU: do not use --precision="
                          f"{result.precision}, and please report this output.")
    right = [result for result in results if result.is_right]
    best = max(right, key=lambda result: result.images_per_second, default=None)
    default = next((result for result in right if result.precision == facts["default_precision"]), None)
    if best and default and best.images_per_second > _WORTHWHILE * default.images_per_second:
        advice.append(f"--precision={best.precision} trains {best.images_per_second / default.images_per_second:.1f} "
                      f"times as fast as {default.precision}, the default here.")
    if best and input_rate and input_rate < best.images_per_second:
        advice.append("The input is slower than the training step, which will wait for it: prepare the images once "
                      "(python -m alexnet_tf prepare), or use more processor cores.")
    if facts["free_bytes"] < 4 * 2**30:
        advice.append(f"Only {facts['free_bytes'] / 2**30:.1f} GiB of memory are free: use a smaller --batch_size.")
    return advice


def make_devices_workload() -> worker_process.Workload:
    """Returns "xla", which compiles and runs a function, and as facts what TensorFlow finds here."""
    import cpuinfo
    import psutil
    import tensorflow as tf

    from alexnet_tf.training import distribution

    build, cpu, memory = tf.sysconfig.get_build_info(), cpuinfo.get_cpu_info(), psutil.virtual_memory()
    gpus = [device for device in tf.config.list_physical_devices() if device.device_type != "CPU"]
    features = sorted(set(cpu.get("flags", ())) & {"avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd"})

    def xla() -> None:
        x = tf.random.stateless_normal([64, 64], [0, 1])
        compiled = tf.function(lambda x: tf.nn.relu(x @ x) * 2 + 1, jit_compile=True)(x)
        tf.debugging.assert_near(compiled, tf.nn.relu(x @ x) * 2 + 1, rtol=0.01, atol=0.1)

    return worker_process.Workload({"xla": xla}, {
        "build": f"CUDA {build['cuda_version']}, cuDNN {build['cudnn_version']}" if build["is_cuda_build"] else "CPUs",
        "gpus": [_describe(tf.config.experimental.get_device_details(gpu), gpu.name) for gpu in gpus],
        "processor": f"{cpu.get('brand_raw', platform.machine())}, {psutil.cpu_count()} cores "
                     f"({', '.join(features)}), {memory.total / 2**30:.1f} GiB of memory, "
                     f"{memory.available / 2**30:.1f} free",
        "free_bytes": memory.available, "default_precision": distribution.default_precision()})


def _describe(details, name):
    capability = ".".join(map(str, details.get("compute_capability", ())))
    return details.get("device_name", name) + (f", compute capability {capability}" if capability else "")


def make_precision_workload(
    architecture: architectures.Architecture, batch_size: int, precision: str) -> worker_process.Workload:
    """Returns "check": least seconds -> the precision's `PrecisionCheck`."""
    import tensorflow as tf

    from alexnet_tf import alexnet
    from alexnet_tf.benchmarks import layer_profile, model_throughput

    architecture = architectures.with_initialization(architecture, "he")  # Logits of a size that can be compared.

    def run(seconds: float) -> PrecisionCheck:
        step = model_throughput.make_step(architecture, batch_size, precision, deterministic=True)
        train = model_throughput.train_call(step, architecture, batch_size)
        start, hashes = [variable.numpy() for variable in step.variables], []
        for _ in range(2):
            for variable, value in zip(step.variables, start, strict=True):
                variable.assign(value)
            train(), train()
            hashes.append(hashlib.sha256(b"".join(variable.numpy().tobytes() for variable in step.variables)).digest())
        rate = rounds.repeat(train, batch_size, layer_profile.wait)(seconds)
        images = tf.constant(worker_process.random_batch(architecture, 8)[0])
        logits = step.model(images, training=False).numpy()
        with tf.device("CPU"):
            reference = alexnet.build_model(architecture, precision="float32")
            reference.set_weights(step.model.get_weights())
            expected = reference(images, training=False).numpy()
        difference = np.abs(logits - expected).max() / np.abs(expected).max()
        return PrecisionCheck(precision, rate, hashes[0] == hashes[1], float(difference))

    return worker_process.Workload({"check": run}, {})


def make_input_workload(architecture: architectures.Architecture, batch_size: int) -> worker_process.Workload:
    """Returns "check": least seconds -> images per second of the input and of the bare decode; takes no GPU."""
    import tensorflow as tf

    from alexnet_tf.benchmarks import input_throughput
    from alexnet_tf.data import discovery

    for device in tf.config.list_physical_devices():
        if device.device_type != "CPU":
            tf.config.set_visible_devices([], device.device_type)

    def run(seconds: float) -> tuple[float, float]:
        with tempfile.TemporaryDirectory() as directory:
            data = discovery.synthetic_dataset(str(pathlib.Path(directory, "images")), max(10, batch_size))
            result = input_throughput.benchmark_input(
                data, data, recipe=replace(architecture.recipe, batch_size=batch_size),
                image_size=architecture.image_size, num_images=10_000, num_rounds=1, seconds=seconds)
        return result.pipeline.median, result.decode.median

    return worker_process.Workload({"check": run}, {})
