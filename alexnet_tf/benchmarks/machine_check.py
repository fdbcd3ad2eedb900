"""Does everything work on this machine, and how fast? Made to be pasted into an issue.

Every part runs in a process of its own, so that a part which crashes TensorFlow becomes a line of the output.
"""

import dataclasses
import functools
import importlib.metadata
import os
import platform
import statistics
from collections.abc import Callable, Iterator

from alexnet_tf.benchmarks import model_throughput, rounds
from alexnet_tf.network import architectures, xla
from alexnet_tf.support import processors, settings, shell
from alexnet_tf.support.settings import setting

# Largest difference of the logits from float32 on the CPU that is rounding, as a fraction of the largest logit.
_TOLERANCES = {"float32": 1e-4, "mixed_bfloat16": 0.05, "mixed_float16": 0.01}

_PACKAGES = ("tensorflow", "keras", "numpy", "nvidia-cudnn-cu12", "torch")


@dataclasses.dataclass(frozen=True)
class Options:
    """What to check with."""

    architecture: str = setting("paper", "The network of the training steps.", choices=architectures.ARCHITECTURES)
    batch_size: int = setting(64, "Images a step.", lower=1)
    seconds: float = setting(1.0, "Shortest time of each measurement, in seconds.", lower=0)


def check(options: Options) -> Iterator[str]:
    """Checks this machine.

    Yields:
        Lines to print, each as soon as it is known.
    """
    settings.check(options)
    installed = {each.metadata["Name"]: each.version for each in importlib.metadata.distributions()}
    yield f"{'Python':15} {platform.python_version()}, {platform.platform()}"
    yield f"{'Packages':15} {', '.join(f'{name} {installed[name]}' for name in _PACKAGES if name in installed)}"
    parts: dict[str, Callable[[], str]] = {
        "Machine": machine,
        "XLA": compiler,
        **{precision: functools.partial(training, options, precision) for precision in _TOLERANCES},
        "Input": functools.partial(reading, options),
    }
    for name, part in parts.items():
        try:
            with rounds.Process() as process:
                found = process.submit(part).result()
        except Exception as error:  # Whatever it is, the user wants to know it.
            found = f"FAILED: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        yield f"{name:15} {found}"


def machine() -> str:
    """Returns what TensorFlow finds here, and what to do about a GPU that it cannot use."""
    import tensorflow as tf

    from alexnet_tf.support import devices

    build, (cpu, features) = tf.sysconfig.get_build_info(), processors.processor()
    cuda = f"CUDA {build['cuda_version']}, cuDNN {build['cudnn_version']}" if build["is_cuda_build"] else "CPUs"
    known = sorted(features & {"avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd"})
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    lines = [
        f"{cpu}, {processors.available_cpus()} cores ({', '.join(known)}), {memory:.1f} GiB of memory",
        f"TensorFlow built for {cuda}; {devices.driver() or 'no NVIDIA driver'}",
        *(devices.describe_gpus() or [devices.unusable_gpu() or "no GPU"]),
    ]
    return f"\n{'':16}".join(lines)


def compiler() -> str:
    """Tries XLA."""
    if not (failure := xla.failure()):
        return "works"
    return f"FAILED: {failure}. Training computes the same numbers without it, more slowly; please report this output."


def training(options: Options, precision: str) -> str:
    """Trains in a precision: how fast, whether twice the same bits, and whether the logits are the CPU's."""
    import tensorflow as tf

    from alexnet_tf.benchmarks import tensorflow_workload
    from alexnet_tf.network import alexnet
    from alexnet_tf.support import devices

    if precision == "mixed_float16" and not devices.gpus():
        return "for GPUs only"
    architecture = architectures.ARCHITECTURES[options.architecture]
    architecture = architectures.with_initialization(architecture, "he")  # Logits of a size that can be compared.
    devices.set_numerics(tf32=True, deterministic=True)
    step, train = tensorflow_workload.make_step(architecture, options.batch_size, precision)
    start, ends = [variable.numpy() for variable in step.variables], set()
    for _ in range(2):
        for variable, value in zip(step.variables, start, strict=True):
            variable.assign(value)
        train(), train()
        ends.add(b"".join(variable.numpy().tobytes() for variable in step.variables))
    rate = rounds.repeat(train, options.batch_size, tensorflow_workload.wait)(options.seconds)
    devices.set_numerics(tf32=False)
    images = tf.constant(rounds.random_batch(architecture, 8)[0])
    with xla.fused_kernels():
        logits = step.model(images, training=False)
    with tf.device("CPU"):
        reference = alexnet.build_model(architecture, precision="float32")
        reference.set_weights(step.model.get_weights())
        expected = reference(images, training=False)
    difference = float(tf.reduce_max(abs(logits - expected)) / tf.reduce_max(abs(expected)))
    bits = "the same bits twice" if len(ends) == 1 else "NOT the same bits twice: not reproducible here"
    text = f"{rate:,.1f} images/s, {bits}, logits within {difference:.1e} of float32 on the CPU"
    return text if difference <= _TOLERANCES[precision] else f"{text}: WRONG, do not use it and report this output"


def reading(options: Options) -> str:
    """Measures the training input of the synthetic data set."""
    processors.hide_gpus()
    from alexnet_tf.benchmarks import input_throughput

    rates = input_throughput.measure(
        model_throughput.Options(options.architecture, options.batch_size, rounds=1, seconds=options.seconds)
    )
    decode, rate, _ = map(statistics.median, rates.values())
    line = shell.command_line("prepare", data_dir="DIR", output_dir="OUT")
    return (
        f"{rate:,.0f} images/s, the bare decode {decode:,.0f}; if training is faster, prepare the images once: {line}"
    )
