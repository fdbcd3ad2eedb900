"""How fast is the network in training or inference, against the machine's matmul peak and other frameworks?

All cases run in interleaved rounds, each framework in a process of its own.
"""

import contextlib
import dataclasses
import functools
import json
import math
import multiprocessing
import os
import pathlib
import platform
import signal
import socket
import tempfile
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import cpuinfo
import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.benchmarks import baselines, layer_profile, rounds, worker_process
from alexnet_tf.evaluation import metrics
from alexnet_tf.network import alexnet, architectures
from alexnet_tf.runs.config import TrainConfig
from alexnet_tf.support import processors
from alexnet_tf.support.devices import describe_gpus, gpus, set_numerics, share_memory
from alexnet_tf.training import distribution, train_step
from alexnet_tf.training.configure import PlacementOptions

# A baseline's case is pruned below this fraction of the best rate of its precision in the warm-up.
_PRUNED = 0.6


@dataclasses.dataclass(frozen=True)
class Throughput:
    """What `measure` measured."""

    facts: dict[str, Any]  # The settings and the machine, "flop" an image, "state_bytes" of weights and momentum.
    ours: tuple[rounds.Speed, ...]  # Each LRN implementation in inference, or each value of a sweep.
    matmul_peak: rounds.Speed  # FLOP/s of a product of square matrices, in the same precision and process.
    baselines: tuple[rounds.Speed, ...] = ()
    baseline_facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    stages: tuple[layer_profile.StageTime, ...] = ()  # Empty in a sweep.

    @property
    def best(self) -> rounds.Speed:
        """Our fastest case."""
        return max(self.ours, key=attrgetter("median"))

    def share_of_peak(self, speed: rounds.Speed) -> float:
        """Returns a speed's arithmetic as a fraction of the matmul peak."""
        return speed.median * self.facts["flop"] / self.matmul_peak.median

    def ratios(self) -> dict[str, tuple[rounds.Speed, float]]:
        """Returns (the baseline's fastest case, our best divided by it) in float32 and in any precision."""
        kept = [speed for speed in self.baselines if len(speed.rounds) == len(self.matmul_peak.rounds)]
        kinds = {"float32": [speed for speed in kept if speed.name.startswith("float32,")], "any precision": kept}
        bests = {kind: max(speeds, key=attrgetter("median")) for kind, speeds in kinds.items() if speeds}
        return {kind: (speed, self.best.median / speed.median) for kind, speed in bests.items()}


def measure(
    architecture: architectures.Architecture,
    *,
    is_training: bool,
    precision: str,
    batch_size: int = 128,
    deterministic: bool = True,
    baseline: str | None = None,
    is_compiled: bool = True,
    sweep: str | None = None,
    values: tuple[int, ...] = (),
    num_rounds: int = 3,
    seconds: float = 3.0,
) -> Throughput:
    """Measures the training step or inference, the matmul peak, a baseline, and the time of each stage.

    Args:
        architecture: The network.
        is_training: Whether to train as `training` does or to predict as `evaluation` does.
        precision: Keras dtype policy.
        batch_size: Images a step, over all devices and workers.
        deterministic: As in training.
        baseline: A key of `baselines.BASELINES`; see `baselines.check_options`.
        is_compiled: Whether to include `torch.compile`, which compiles for minutes.
        sweep: A key of `baselines.SWEEPS`. Devices are GPUs or, without any, CPU devices on the same cores; workers
            are processes of this machine.
        values: Values of the sweep in ascending order; those of `baselines.SWEEPS` by default.
        num_rounds: Number of rounds after the warm-up.
        seconds: Shortest duration of a trial.
    """
    with contextlib.ExitStack() as stack:
        arguments = {
            "architecture": architecture,
            "is_training": is_training,
            "directory": stack.enter_context(tempfile.TemporaryDirectory()),
        }
        processes = [
            stack.enter_context(
                worker_process.WorkerProcess(
                    f"{__name__}:make_workload",
                    precision=precision,
                    deterministic=deterministic,
                    baseline=baseline,
                    **arguments,
                    **placement,
                )
            )
            for placement in _placements(sweep, values, batch_size)
        ]
        owners = {name: process for process in processes for name in process.facts["cases"]}
        peaks = {name: process.peak_memory(name) for name, process in owners.items()}  # Before anything else ran.
        owners["matmul peak"] = processes[0]
        names, baseline_facts = [], {}
        if baseline:
            other = stack.enter_context(
                worker_process.WorkerProcess(
                    f"{__package__}.{baselines.BASELINES[baseline].module}:make_workload",
                    batch_size=batch_size,
                    is_compiled=is_compiled,
                    **arguments,
                )
            )
            names, baseline_facts = other.names, other.facts
            owners |= dict.fromkeys(names, other)
        speeds = rounds.interleave(
            {name: functools.partial(process.call, name) for name, process in owners.items()},
            num_rounds,
            seconds,
            _is_pruned,
        )
        stages = [] if sweep else processes[0].call("stages", batch_size)
    return Throughput(
        processes[0].facts | {"sweep": sweep, "batch_size": batch_size, "rounds": num_rounds, "seconds": seconds},
        tuple(dataclasses.replace(speeds[name], peak_bytes=peak) for name, peak in peaks.items()),
        speeds["matmul peak"],
        tuple(speeds[name] for name in names),
        baseline_facts,
        tuple(stages),
    )


def _placements(sweep, values, batch_size):
    """Returns arguments of `make_workload` for each process: one for all batch sizes, or one for each placement."""
    values = values or baselines.SWEEPS.get(sweep, ())
    if sweep == "batch_size":
        return [{"batch_sizes": {f"batch size {value}": value for value in values}}]
    if sweep == "devices":
        values = [value for value in values if len(distribution.several_devices(value)) == value]
    return [{"batch_sizes": {f"{sweep} {value}": batch_size}, sweep: value} for value in values] or [
        {"batch_sizes": {"alexnet_tf": batch_size}}
    ]


def _is_pruned(name, rates):
    """Returns whether a baseline's case was too slow in the warm-up to become the best of its precision."""
    precision = name.partition(",")[0]
    rivals = [rate for rival, rate in rates.items() if rival.partition(",")[0] == precision]
    return precision != "alexnet_tf" and rates[name] < _PRUNED * max(rivals)


def make_workload(
    architecture: architectures.Architecture,
    *,
    batch_sizes: dict[str, int],
    is_training: bool,
    precision: str,
    deterministic: bool,
    baseline: str | None = None,
    directory: str = "",
    devices: int = 0,
    workers: int = 0,
) -> worker_process.Workload:
    """Returns our workload: a case for each batch size (by name), and in inference for each LRN implementation.

    A batch is divided over `devices` by MirroredStrategy or over `workers`. The other workers are started here: they
    step whenever the first one does, and wait for it between its trials. Other arguments are those of `measure`.
    """
    step, placed = None, (architecture, next(iter(batch_sizes.values())), precision, deterministic, devices, workers)
    _start_workers(placed)
    if is_training:
        step = make_step(*placed)
    else:
        share_memory()
        set_numerics(tf32=False, deterministic=deterministic)
    network = step.model if step else alexnet.build_model(architecture, precision=precision)
    if baseline:
        _write_weights(network, architecture, pathlib.Path(directory), baselines.BASELINES[baseline].saved_models)
    if step:
        cases = {name: (train_call(step, architecture, size), size) for name, size in batch_sizes.items()}
    else:
        network, cases = _inference_cases(network, architecture, batch_sizes)
    state = step.variables if step else network.trainable_variables

    def profile(batch_size):
        batch = map(tf.constant, worker_process.random_batch(architecture, batch_size))
        return layer_profile.profile(network, architecture, *batch, step and step.update)

    trials = {name: rounds.repeat(call, size, layer_profile.wait) for name, (call, size) in cases.items()}
    return worker_process.Workload(
        trials | {"matmul peak": layer_profile.matmul_peak(precision), "stages": profile},
        {
            "cases": list(cases),
            "architecture": architecture.name,
            "is_training": is_training,
            "precision": precision,
            "deterministic": deterministic,
            "flop": 2 * sum(layer_profile.multiply_adds(architecture, is_training).values()),
            "state_bytes": sum(math.prod(v.shape) * tf.as_dtype(v.dtype).size for v in state),
            "cpu": cpuinfo.get_cpu_info().get("brand_raw", platform.machine()),
            "cores": processors.available_cpus(),
            "accelerators": describe_gpus(),
            "versions": {"Python": platform.python_version(), "TensorFlow": tf.__version__, "Keras": keras.__version__},
        },
        _peak_gpu_memory if gpus() else worker_process.peak_host_memory,
    )


def make_step(
    architecture: architectures.Architecture,
    batch_size: int,
    precision: str,
    deterministic: bool = False,
    devices: int = 0,
    workers: int = 0,
) -> train_step.TrainStep:
    """Returns the step of `training`, with its numeric settings, at rate 0, so that every step computes the same."""
    share_memory()  # The baseline needs memory there too.
    placement = distribution.Placement(tf.distribute.get_strategy())
    if devices or workers:
        placement = distribution.make_placement(
            PlacementOptions(
                "multi_worker" if workers else "mirrored",
                tuple(distribution.several_devices(devices)) if devices else (),
            )
        )
    keras.utils.set_random_seed(0)
    set_numerics(tf32=True, deterministic=deterministic)
    recipe = dataclasses.replace(architecture.recipe, batch_size=batch_size, learning_rate=0.0)
    return train_step.TrainStep(architecture, TrainConfig(recipe=recipe, precision=precision), placement)


def train_call(
    step: train_step.TrainStep, architecture: architectures.Architecture, batch_size: int
) -> Callable[[], float]:
    """Returns the function that trains on the same batch again, waits for the loss and returns it."""

    def load(_, num_workers):
        batch = worker_process.random_batch(architecture, batch_size // num_workers)
        return tf.data.Dataset.from_tensors(batch).repeat()

    on_one_device = step.placement.num_replicas == 1
    batch = (
        tuple(map(tf.constant, worker_process.random_batch(architecture, batch_size)))
        if on_one_device
        else next(step.batches(load))
    )
    return lambda: float(step(batch)[0])


def _inference_cases(model, architecture, batch_sizes):
    """Returns (the network as `evaluation` computes it, {name: (function that predicts a batch, batch size)}).

    One batch size is measured with every LRN implementation, several with that of `evaluation` only.
    """
    networks = {"": alexnet.for_export(model, "xla")}
    if len(batch_sizes) == 1 and any("lrn" in stage.ops for stage in architecture.stages):
        networks = {f", LRN {name}": alexnet.for_export(model, name) for name in ("xla", "builtin", "convolution")}
    cases = {}
    for name, batch_size in batch_sizes.items():
        images = tf.constant(worker_process.random_batch(architecture, batch_size)[0][:, None])
        for suffix, network in networks.items():
            cases[name + suffix] = functools.partial(_predict, metrics.make_predictor(network), images), batch_size
    return next(iter(networks.values())), cases


def _predict(predict, images):
    return predict(images).numpy()


def _start_workers(placed):
    """Makes this process the first of several workers and starts the others."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(placed[-1])]
        hosts = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for index in reversed(range(len(hosts))):
        os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}})
        if index:  # A process starts with this one's environment.
            multiprocessing.get_context("spawn").Process(target=_follow, args=placed, daemon=True).start()


def _follow(*placed):
    """Trains as another worker until the first one, which has started this process, ends or kills it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The first one may still wait for this one's part of a step.
    processors.end_with_parent()
    train = train_call(make_step(*placed), *placed[:2])
    while True:
        train()


def _write_weights(network, architecture, directory, lrn_implementations):
    """Writes weights.npz and, in float32, a SavedModel for each LRN implementation: what baselines read."""
    np.savez(directory / "weights.npz", **{v.path: v.numpy() for v in network.variables})
    for name in lrn_implementations:
        model = alexnet.build_model(architecture, precision="float32")
        model.set_weights(network.get_weights())
        model, module = alexnet.for_export(model, name), tf.Module()
        module.weights = [v.value for v in model.variables]
        module.predict = tf.function(
            functools.partial(model, training=False),
            input_signature=[tf.TensorSpec([None, *model.input_shape[1:]], tf.uint8, name="images")],
        )
        tf.saved_model.save(module, str(directory / f"saved_model_{name}"), signatures=module.predict)


def _peak_gpu_memory(call):
    """Returns the result of a call and the peak of TensorFlow's memory on the first GPU during it in bytes."""
    gpu = gpus()[0]
    tf.config.experimental.reset_memory_stats(gpu)
    result = call()
    return result, tf.config.experimental.get_memory_info(gpu)["peak"]
