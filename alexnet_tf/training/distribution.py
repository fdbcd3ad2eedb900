"""Where a run computes: one device, two towers on two, copies on many, or many workers."""

import collections
import dataclasses
import logging
import math
import re
from collections.abc import Iterable, Sequence

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from alexnet_tf.support import errors, settings
from alexnet_tf.support.devices import gpus, numerics, share_memory, unusable_gpu
from alexnet_tf.training import cluster
from alexnet_tf.training.configure import PlacementOptions

_LOGGER = logging.getLogger(__name__)

_DEFAULTS = PlacementOptions()

# With fewer images, a GPU's share of a batch does not pay for the exchange of the gradients.
_MIN_IMAGES_PER_GPU = 64


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a run computes.

    Attributes:
        strategy: Under its scope the variables are made; TensorFlow's default one for one device and for the split.
        towers: The devices of tower a and tower b, or None where a network is not divided.
        worker: Which worker this process is; 0 is the chief, which alone writes.
        num_workers: How many processes there are.
        devices: The devices of this process, such as "GPU:0"; empty for all GPUs, or the CPU where there is none.
        is_automatic: Whether nobody asked for these devices, so that fewer may be used.
    """

    strategy: tf.distribute.Strategy
    towers: tuple[str, str] | None = None
    worker: int = 0
    num_workers: int = 1
    devices: tuple[str, ...] = ()
    is_automatic: bool = False

    @property
    def num_replicas(self) -> int:
        """How many copies of the network there are, over all workers."""
        return self.strategy.num_replicas_in_sync

    def for_batch_size(self, batch_size: int) -> "Placement":
        """Returns the placement itself or, if chosen automatically, one on as many GPUs as a batch keeps busy."""
        count = num_replicas_for(batch_size, self.num_replicas)
        if not self.is_automatic or count == self.num_replicas:
            return self
        _LOGGER.info(
            f"{count} of {self.num_replicas} GPUs: as many as divide a batch of {batch_size} into shares of at least "
            f"{_MIN_IMAGES_PER_GPU} images. All: --batch_size={_MIN_IMAGES_PER_GPU * self.num_replicas}"
        )
        return _on(self.devices[:count])

    def check_batch_size(self, batch_size: int) -> None:
        """Refuses a batch that cannot be divided evenly.

        Raises:
            UserError: With the nearest sizes that can.
        """
        if batch_size % self.num_replicas:
            low = batch_size // self.num_replicas * self.num_replicas
            near = " or ".join(str(size) for size in (low, low + self.num_replicas) if size)
            raise errors.UserError(
                f"--batch_size is the size over all devices, and must be a multiple of the {self.num_replicas} "
                f"replicas; got {batch_size}. Use {near}."
            )

    def summary(self, variables: Iterable[keras.Variable], batch_size: int) -> str:
        """Returns what a person should know of the devices before the first step, in lines.

        Args:
            variables: Keras variables of the network and its optimizer: counted by the device that keeps them.
            batch_size: Over all devices.
        """
        kept: collections.Counter[str] = collections.Counter()
        for variable in variables:
            for copy in self.strategy.experimental_local_results(variable.value):
                kept[_short_name(copy.device)] += math.prod(variable.shape) * variable.value.dtype.size
        notes = dict(zip(map(_short_name, self.towers), (" (tower a and fc8)", " (tower b)"))) if self.towers else {}
        lines = [
            "Devices: "
            + ", ".join(
                f"{name}{notes.get(name, '')} keeps {size / 1e6:,.0f} MB of weights and momentum"
                for name, size in sorted(kept.items())
            )
        ]
        if settings := numerics():
            lines.append(f"  {settings}")
        if self.num_workers > 1:
            lines.append(f"  Worker {self.worker + 1} of {self.num_workers}; worker 1 writes the run.")
        if self.num_replicas > 1:
            lines.append(
                f"  A batch of {batch_size} is {batch_size // self.num_replicas} for each of {self.num_replicas} "
                "replicas, and gives what one device would. A batch k times as large usually wants --learning_rate k "
                "times as large (the linear\n  scaling rule), with --warmup_steps."
            )
        return "\n".join(lines)

    def total(self, values: npt.ArrayLike) -> np.ndarray:
        """Returns the sum of all workers' arrays, float64; every worker must call it."""
        values = np.asarray(values, "float64")
        if self.num_workers == 1:
            return values
        return self._sum(values)

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """Returns the sum of what the first replica of each worker contributes, which is exact."""
        num_local = self.num_replicas // self.num_workers

        def contribute():
            context = tf.distribute.get_replica_context()
            is_first = tf.convert_to_tensor(context.replica_id_in_sync_group) % num_local == 0
            return context.all_reduce(
                tf.distribute.ReduceOp.SUM, tf.where(is_first, tf.constant(values), tf.zeros_like(values))
            )

        total = tf.function(lambda: self.strategy.run(contribute))()
        return self.strategy.experimental_local_results(total)[0].numpy()


def num_replicas_for(batch_size: int, num_gpus: int) -> int:
    """Returns how many of so many GPUs a batch keeps busy: the most that divide it into large enough shares."""
    return max(
        count
        for count in range(1, max(1, num_gpus) + 1)
        if count == 1 or batch_size % count == 0 and batch_size // count >= _MIN_IMAGES_PER_GPU
    )


def make_placement(options: PlacementOptions = _DEFAULTS) -> Placement:
    """Decides where to compute. To be called before TensorFlow computes anything.

    Args:
        options: The strategy and the devices. CPUs are made as they are named: "CPU:1" is a second one on the same
            cores.

    Raises:
        UserError: If the devices are not there or not enough, or TF_CONFIG says nothing usable.
    """
    settings.check(options)
    strategy, devices = options.strategy, options.devices
    known = gpus()
    if problem := unusable_gpu():
        _LOGGER.warning(problem)
    for device in devices:
        if not re.fullmatch(r"[CG]PU:\d{1,3}", device) or device[0] == "G" and device not in known:
            raise errors.UserError(
                f"--devices takes names such as GPU:0 or CPU:0; got {device!r}. This machine has "
                f"{', '.join(known) or 'no GPU'} and CPU:0, CPU:1, ... (as many as are named)."
            )
    if len(set(devices)) < len(devices):
        raise errors.UserError(f"--devices names a device twice: {','.join(devices)}.")
    if strategy == "multi_worker" and devices:
        raise errors.UserError(
            "--strategy=multi_worker takes all GPUs of each machine; hide some with "
            "CUDA_VISIBLE_DEVICES instead of --devices."
        )
    towers = tuple(devices or known[:2])
    if strategy == "split" and len(towers) != 2:
        raise errors.UserError(
            f"--strategy=split needs two devices, one for each tower; got {', '.join(towers) or 'no GPU'}. "
            "On two CPU devices, which share the cores and are no faster: --devices=CPU:0,CPU:1"
        )
    _make_cpus(devices)
    share_memory()
    if strategy == "multi_worker":
        return _multi_worker(options.worker_timeout)
    if strategy == "split":
        return Placement(tf.distribute.get_strategy(), towers=(towers[0], towers[1]), devices=towers)
    chosen = tuple(devices or known)
    if strategy == "mirrored" and len(chosen) < 2:
        return Placement(tf.distribute.MirroredStrategy(list(chosen) or ["CPU:0"]), devices=chosen or ("CPU:0",))
    return dataclasses.replace(_on(chosen), is_automatic=strategy == "auto" and not devices)


def _on(devices: tuple[str, ...]) -> Placement:
    """Returns the placement on some devices, or TensorFlow's default one for none."""
    if not devices:
        return Placement(tf.distribute.get_strategy())
    if len(devices) > 1:
        return Placement(tf.distribute.MirroredStrategy(list(devices)), devices=devices)
    # Unlike the default strategy, this one copies batches to its device ahead of time.
    return Placement(tf.distribute.OneDeviceStrategy(devices[0]), devices=devices)


def _make_cpus(devices: Sequence[str]) -> None:
    """Makes the logical CPU devices that are named."""
    count = max((int(name.removeprefix("CPU:")) + 1 for name in devices if name.startswith("CPU:")), default=0)
    [cpu] = tf.config.list_physical_devices("CPU")
    if count > len(tf.config.get_logical_device_configuration(cpu) or [cpu]):
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
        except RuntimeError as error:
            raise errors.UserError(
                f"CPU:{count - 1} cannot be made any more: TensorFlow has begun to compute."
            ) from error


def _multi_worker(timeout: float) -> Placement:
    members = cluster.from_environment()
    num_workers = len(members.hosts)
    _LOGGER.info(f"Waiting until all {num_workers} workers are there.")
    cluster.wait_for_all(members, timeout)
    try:
        with cluster.interruptible(timeout):
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise cluster.unusable(f"with it the workers did not meet: {error}") from error
    # Now that they have met, TensorFlow lists the devices of all.
    check_equal_gpus(device.name for device in tf.config.list_logical_devices())
    return Placement(strategy, worker=members.worker, num_workers=num_workers)


def check_equal_gpus(devices: Iterable[str]) -> None:
    """Refuses workers with different numbers of GPUs: TensorFlow divides a batch as if all had this one's.

    Args:
        devices: Full names of all workers' devices, such as "/job:worker/replica:0/task:1/device:GPU:0".

    Raises:
        UserError: If the numbers differ.
    """
    counts: dict[str, int] = {}
    for device in map(tf.DeviceSpec.from_string, devices):
        worker = f"{device.job} {device.task}"
        counts[worker] = counts.get(worker, 0) + (device.device_type == "GPU")
    if len(set(counts.values())) > 1:
        raise errors.UserError(
            "All workers must have the same number of GPUs; got "
            f"{', '.join(f'{count} on {worker}' for worker, count in sorted(counts.items()))}. Hide some, for example "
            f"with CUDA_VISIBLE_DEVICES={','.join(map(str, range(min(counts.values())))) or -1} on all of them."
        )


def _short_name(device: str) -> str:
    return ":".join(device.split(":")[-2:])
