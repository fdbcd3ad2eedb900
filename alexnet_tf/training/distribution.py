"""Where a run computes: one device, two towers on two, copies on many, or many workers. Only this file knows devices' names."""

import collections
import dataclasses
import json
import math
import os
import pathlib
import re
import signal

import numpy as np
import tensorflow as tf

from alexnet_tf import errors

STRATEGIES = ("auto", "split", "mirrored", "multi_worker")

_TF_CONFIG = """\
--strategy=multi_worker needs TF_CONFIG, which names all workers and which one this is; the first writes the run. {why} \
For two, type on the first
  TF_CONFIG='{{"cluster": {{"worker": ["HOST0:12345", "HOST1:12345"]}}, "task": {{"type": "worker", "index": 0}}}}' \\
    python train.py --strategy=multi_worker ...
and the same with "index": 1 on the second."""


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a run computes.

    Attributes:
        strategy: Under its scope the variables are made; TensorFlow's default one for one device and for the split.
        towers: The devices of tower a and tower b, or None where a network is not divided.
        worker: Which worker this process is; 0 is the chief, which alone writes.
        num_workers: How many processes there are.
    """

    strategy: tf.distribute.Strategy
    towers: tuple[str, str] | None = None
    worker: int = 0
    num_workers: int = 1

    @property
    def num_replicas(self) -> int:
        """How many copies of the network there are, over all workers."""
        return self.strategy.num_replicas_in_sync

    def check_batch_size(self, batch_size: int) -> None:
        """Refuses a batch that cannot be divided evenly.

        Raises:
            UserError: With the nearest sizes that can.
        """
        if batch_size % self.num_replicas:
            low = batch_size // self.num_replicas * self.num_replicas
            near = " or ".join(str(size) for size in (low, low + self.num_replicas) if size)
            raise errors.UserError(
                f"--batch_size is the size over all devices, and must be a multiple of the {self.num_replicas} replicas; "
                f"got {batch_size}. Use {near}.")

    def summary(self, variables, batch_size: int) -> str:
        """Returns what a person should know of the devices before the first step, in lines.

        Args:
            variables: Keras variables of the network and its optimizer: told by the device that keeps them.
            batch_size: Over all devices.
        """
        kept = collections.Counter()
        for variable in variables:
            for copy in self.strategy.experimental_local_results(variable.value):
                kept[_short_name(copy.device)] += math.prod(variable.shape) * variable.value.dtype.size
        notes = dict(zip(map(_short_name, self.towers), (" (tower a and fc8)", " (tower b)"))) if self.towers else {}
        lines = ["Devices: " + ", ".join(
            f"{name}{notes.get(name, '')} keeps {size / 1e6:,.0f} MB of weights and momentum" for name, size in sorted(kept.items()))]
        if gpus():
            is_on = tf.config.experimental.tensor_float_32_execution_enabled()
            lines.append("  TF32 is " + ("on (--deterministic turns it off)." if is_on else "off."))
        if self.num_workers > 1:
            lines.append(f"  Worker {self.worker + 1} of {self.num_workers}; worker 1 writes the run.")
        if self.num_replicas > 1:
            lines.append(
                f"  A batch of {batch_size} is {batch_size // self.num_replicas} for each of {self.num_replicas} replicas, and "
                "gives what one device would. A batch k times as large usually wants --learning_rate k times as\n  large "
                "(the linear rule; with --warmup_steps): that is yours to say.")
        return "\n".join(lines)

    def total(self, values) -> np.ndarray:
        """Returns the sum of all workers' arrays, float64; every worker must call it."""
        values = np.asarray(values, "float64")
        if self.num_workers == 1:
            return values
        num_local = self.num_replicas // self.num_workers

        @tf.function
        def add():
            return self.strategy.run(lambda: tf.distribute.get_replica_context().all_reduce(
                tf.distribute.ReduceOp.SUM, tf.constant(values / num_local)))

        return self.strategy.experimental_local_results(add())[0].numpy()


def gpus() -> list[str]:
    """Returns the names of this machine's GPUs."""
    return [f"GPU:{index}" for index in range(len(tf.config.list_physical_devices("GPU")))]


def several_devices(count: int) -> list[str]:
    """Returns the names of so many devices of this machine: GPUs where there are any, else CPU devices on the same cores."""
    return gpus()[:count] or [f"CPU:{index}" for index in range(count)]


def make_placement(strategy: str = "auto", devices=()) -> Placement:
    """Decides where to compute. To be called before TensorFlow computes anything.

    Args:
        strategy: "split" puts tower a and tower b on two devices, as in 2012; "mirrored" computes a part of each batch
            on every GPU; "multi_worker" the same on the machines of TF_CONFIG; "auto" is "mirrored" where there are
            several GPUs, and one device otherwise.
        devices: Names such as "GPU:0"; by default all GPUs, for the split the first two. CPUs are made as they are
            named: "CPU:1" is a second one on the same cores.

    Returns:
        The placement.

    Raises:
        UserError: If the devices are not there or not enough, or TF_CONFIG says nothing usable.
    """
    known = gpus()
    for device in devices:
        if not re.fullmatch(r"[CG]PU:\d{1,3}", device) or device[0] == "G" and device not in known:
            raise errors.UserError(
                f"--devices takes names such as GPU:0 or CPU:0; got {device!r}. "
                f"This machine has {', '.join(known) or 'no GPU'} and CPU:0, CPU:1, ... (as many as are named).")
    if len(set(devices)) < len(devices):
        raise errors.UserError(f"--devices names a device twice: {','.join(devices)}.")
    if strategy == "multi_worker" and devices:
        raise errors.UserError("--strategy=multi_worker takes all GPUs of each machine; hide some with "
                               "CUDA_VISIBLE_DEVICES instead of --devices.")
    towers = tuple(devices or known[:2])
    if strategy == "split" and len(towers) != 2:
        raise errors.UserError(
            f"--strategy=split needs two devices, one for each tower; got {', '.join(towers) or 'no GPU'}. "
            "On two CPU devices, which share the cores and are no faster: --devices=CPU:0,CPU:1")
    _make_cpus(devices)
    if strategy == "multi_worker":
        return _multi_worker()
    if strategy == "split":
        return Placement(tf.distribute.get_strategy(), towers=towers)
    chosen = list(devices or known)
    if strategy == "mirrored" or len(chosen) > 1:
        return Placement(tf.distribute.MirroredStrategy(chosen or ["CPU:0"]))
    return Placement(tf.distribute.OneDeviceStrategy(chosen[0]) if devices else tf.distribute.get_strategy())


def _make_cpus(devices) -> None:
    """Makes the logical CPU devices that are named."""
    count = max((int(name.removeprefix("CPU:")) + 1 for name in devices if name.startswith("CPU:")), default=0)
    [cpu] = tf.config.list_physical_devices("CPU")
    if count > len(tf.config.get_logical_device_configuration(cpu) or [cpu]):
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
        except RuntimeError as error:
            raise errors.UserError(f"CPU:{count - 1} cannot be made any more: TensorFlow has begun to compute.") from error


def _multi_worker() -> Placement:
    try:
        stated = json.loads(os.environ["TF_CONFIG"])
        kind, index = stated["task"]["type"], int(stated["task"]["index"])
        cluster = {name: list(hosts) for name, hosts in stated["cluster"].items()}
        cluster[kind][index]  # It must be one of them.
        if index < 0:
            raise ValueError(f"there is no {kind} {index}")
        if not {kind, *cluster} <= {"chief", "worker"}:
            raise ValueError("only chief and worker are known here")
    except KeyError as error:
        raise errors.UserError(_TF_CONFIG.format(why=f"It lacks {error}.")) from error
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise errors.UserError(_TF_CONFIG.format(why=f"This one cannot be used: {error}.")) from error
    chiefs = len(cluster.get("chief", ()))
    num_workers = chiefs + len(cluster.get("worker", ()))
    print(f"Waiting until all {num_workers} workers are there.", flush=True)
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own would not be called before all are there.
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise errors.UserError(_TF_CONFIG.format(why=f"With this one the workers did not meet: {error}.")) from error
    finally:
        signal.signal(signal.SIGINT, handler)
    return Placement(strategy, worker=index + (chiefs if kind == "worker" else 0), num_workers=num_workers)


def _short_name(device: str) -> str:
    return ":".join(device.split(":")[-2:])


def default_precision() -> str:
    """Returns the Keras dtype policy that is fastest here without a loss: mixed_bfloat16 on a CPU that computes in it.

    A GPU, and a CPU that would have to emulate bfloat16, get float32.
    """
    if gpus():
        return "float32"
    try:
        words = pathlib.Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return "float32"
    return "mixed_bfloat16" if {"avx512_bf16", "amx_bf16"} & set(words) else "float32"
