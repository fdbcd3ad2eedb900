"""How fast is the network in training or inference, against the machine's matmul peak and other frameworks?

All cases run in interleaved rounds, each framework in a process of its own.
"""

import collections.abc
import contextlib
import dataclasses
import functools
import importlib.util
import json
import math
import multiprocessing
import os
import pathlib
import platform
import signal
import socket
import sys
import tempfile
import typing

import cpuinfo
import keras
import numpy as np
import psutil
import tensorflow as tf

from alexnet_tf import alexnet, architectures, errors
from alexnet_tf.benchmarks import layer_profile, rounds, worker_process
from alexnet_tf.evaluation import metrics
from alexnet_tf.training import distribution, train_step

# What a sweep can vary, and its values.
SWEEPS = {"batch_size": (16, 32, 64, 128, 256, 512), "devices": (1, 2, 4), "workers": (1, 2)}

# A baseline's case below this share of the best rate of its precision in the warm-up is pruned.
_PRUNED = 0.6


@dataclasses.dataclass(frozen=True)
class Baseline:
    """Another framework to compare with: a module of this package that imports it, and no TensorFlow."""

    module: str  # Its make_workload(architecture, directory, *, batch_size, is_training, is_compiled) finds weights.npz there.
    can_train: bool = False
    saved_models: tuple[str, ...] = ()  # LRN implementations of the SavedModels that it finds as saved_model_<name>.


# By the name of the package that must be installed.
BASELINES = {
    "torch": Baseline("pytorch_baseline", can_train=True),
    "openvino": Baseline("openvino_baseline", saved_models=("builtin", "convolution"))}


@dataclasses.dataclass(frozen=True)
class Throughput:
    """What `measure` found."""

    facts: dict[str, typing.Any]  # What ran where, "flop" of an image, "state_bytes" of weights and momentum.
    ours: tuple[rounds.Speed, ...]  # Each LRN implementation in inference, or each value of a sweep.
    matmul_peak: rounds.Speed  # FLOP a second of a product of square matrices, in the same precision and process.
    baselines: tuple[rounds.Speed, ...] = ()
    baseline_facts: dict[str, typing.Any] = dataclasses.field(default_factory=dict)
    stages: tuple[layer_profile.StageTime, ...] = ()  # Empty in a sweep.

    @property
    def best(self) -> rounds.Speed:
        """Our fastest case."""
        return rounds.fastest(self.ours)

    def share_of_peak(self, speed: rounds.Speed) -> float:
        """Returns a speed's arithmetic as a fraction of the matmul peak."""
        return speed.median * self.facts["flop"] / self.matmul_peak.median

    def best_baselines(self) -> dict[str, rounds.Speed]:
        """Returns the baseline's fastest case in float32 and in any precision, of those that were not pruned."""
        whole = [speed for speed in self.baselines if len(speed.rounds) == len(self.matmul_peak.rounds)]
        exact = [speed for speed in whole if speed.name.startswith("float32,")]
        return {"float32": rounds.fastest(exact), "any precision": rounds.fastest(whole)} if whole else {}


def measure(
    architecture: architectures.Architecture, *, is_training: bool, precision: str, batch_size: int = 128,
    deterministic: bool = True, baseline: str | None = None, is_compiled: bool = True, sweep: str | None = None,
    values: tuple[int, ...] = (), num_rounds: int = 3, seconds: float = 3.0) -> Throughput:
    """Measures the training step or inference beside the matmul peak, and what each stage takes.

    Args:
        architecture: The network.
        is_training: Whether to train as `training` does, or to predict as `evaluation` does.
        precision: Keras dtype policy.
        batch_size: Images a step, over all devices and workers.
        deterministic: As in training.
        baseline: A key of `BASELINES`.
        is_compiled: Whether `torch.compile` takes part, which compiles for minutes.
        sweep: A key of `SWEEPS`. Devices are GPUs, or without any CPU devices on the same cores; workers are processes.
        values: Of the sweep, in ascending order; those of `SWEEPS` by default.
        num_rounds: How many rounds follow the warm-up.
        seconds: Least duration of a trial.

    Raises:
        UserError: If the baseline is not installed, or this cannot be measured.
    """
    check_options(is_training, baseline, sweep)
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        arguments = {"architecture": architecture, "is_training": is_training, "directory": directory}
        processes = [stack.enter_context(worker_process.WorkerProcess(
            f"{__name__}:make_workload", precision=precision, deterministic=deterministic, baseline=baseline, **arguments, **each))
            for each in _placements(sweep, values or SWEEPS.get(sweep or "", ()), batch_size)]
        owners = {name: process for process in processes for name in process.facts["cases"]}
        peaks = {name: process.peak_memory(name) for name, process in owners.items()}  # Before anything else ran there.
        owners["matmul peak"] = processes[0]
        if baseline:
            other = stack.enter_context(worker_process.WorkerProcess(
                f"{__package__}.{BASELINES[baseline].module}:make_workload", batch_size=batch_size, is_compiled=is_compiled,
                **arguments))
            owners |= dict.fromkeys(other.names, other)
        speeds = rounds.interleave(
            {name: process.trial(name) for name, process in owners.items()}, num_rounds, seconds, _is_pruned)
        stages = [] if sweep else processes[0].call("stages", batch_size)
    return Throughput(
        processes[0].facts | {"sweep": sweep, "batch_size": batch_size, "rounds": num_rounds, "seconds": seconds},
        tuple(dataclasses.replace(speeds[name], peak_bytes=peak) for name, peak in peaks.items()), speeds["matmul peak"],
        tuple(speeds[name] for name in other.names) if baseline else (), other.facts if baseline else {}, tuple(stages))


def check_options(is_training: bool, baseline: str | None = None, sweep: str | None = None) -> None:
    """Raises UserError, with what to type instead, if this cannot be measured."""
    if sweep and baseline:
        raise errors.UserError("--sweep compares the network with itself: leave out --baseline.")
    if sweep in ("devices", "workers") and not is_training:
        raise errors.UserError(f"--sweep={sweep} is of training: python -m alexnet_tf benchmark train --sweep={sweep}")
    if baseline and is_training and not BASELINES[baseline].can_train:
        raise errors.UserError(
            f"{baseline} cannot train. Compare with it by\n  python -m alexnet_tf benchmark infer --baseline={baseline}")
    if baseline and importlib.util.find_spec(baseline) is None:
        raise errors.UserError(f"--baseline={baseline} needs a package that is not installed. Type\n  pip install {baseline}")


def _placements(sweep, values, batch_size) -> list[dict]:
    """Returns arguments of `make_workload` for each process: one for all batch sizes, one for each number of devices."""
    if sweep == "batch_size":
        return [{"batch_sizes": {f"batch size {value}": value for value in values}}]
    if sweep == "devices":
        values = [value for value in values if len(distribution.several_devices(value)) == value]
    return [{"batch_sizes": {f"{sweep} {value}": batch_size}, sweep: value} for value in values] or [
        {"batch_sizes": {"alexnet_tf": batch_size}}]


def _is_pruned(name, rates):
    """Returns whether a baseline's case was too slow in the warm-up to be the best of its precision."""
    precision = name.partition(",")[0]
    return rates[name] < _PRUNED * max(rate for rival, rate in rates.items() if rival.partition(",")[0] == precision) and (
        precision != "alexnet_tf")


def make_workload(
    architecture: architectures.Architecture, *, batch_sizes: dict[str, int], is_training: bool, precision: str,
    deterministic: bool, baseline: str | None = None, directory: str = "", devices: int = 0,
    workers: int = 0) -> worker_process.Workload:
    """Returns our workload: a case for each batch size (by name), and in inference for each LRN implementation.

    A batch is divided over `devices` by MirroredStrategy or over `workers`, the others of which are started here: they
    step whenever this first one does, and wait for it between its trials. Other arguments are those of `measure`.
    """
    size = next(iter(batch_sizes.values()))
    placed = architecture, size, precision, deterministic, devices, workers
    _start_workers(placed)
    step = make_step(*placed) if is_training else None
    if not step:
        _place(deterministic, 0, 0)
    network = step.model if step else alexnet.build_model(architecture, precision=precision)
    if baseline:
        _write_weights(network, architecture, pathlib.Path(directory), BASELINES[baseline].saved_models)
    if step:
        cases = {name: (train_call(step, architecture, size), size) for name, size in batch_sizes.items()}
    else:
        network, cases = _inference_cases(network, architecture, batch_sizes)
    calls = {name: rounds.repeat(call, size, layer_profile.wait) for name, (call, size) in cases.items()}
    extras = {"matmul peak": layer_profile.matmul_peak(precision), "stages": lambda size: layer_profile.profile(
        network, architecture, *map(tf.constant, worker_process.random_batch(architecture, size)), step and step.update)}
    gpus = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    state = step.variables if step else network.trainable_variables
    return worker_process.Workload(calls | extras, {
        "cases": list(calls), "architecture": architecture.name, "is_training": is_training, "precision": precision,
        "deterministic": deterministic, "flop": 2 * sum(layer_profile.multiply_adds(architecture, is_training).values()),
        "state_bytes": sum(math.prod(v.shape) * tf.as_dtype(v.dtype).size for v in state),
        "cpu": cpuinfo.get_cpu_info().get("brand_raw", platform.machine()), "cores": psutil.cpu_count(),
        "accelerators": [gpu.get("device_name", "GPU") for gpu in gpus],
        "versions": {"Python": platform.python_version(), "TensorFlow": tf.__version__, "Keras": keras.__version__},
    }, _peak_gpu_memory if gpus else worker_process.peak_host_memory)


def _place(deterministic, devices, workers):
    """Sets up TensorFlow before it computes; returns the placement."""
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)  # The baseline needs memory there too.
    placement = distribution.Placement(tf.distribute.get_strategy())
    if devices or workers:
        with contextlib.redirect_stdout(sys.stderr):  # It would print that workers wait for each other.
            placement = distribution.make_placement(
                "multi_worker" if workers else "mirrored", distribution.several_devices(devices) if devices else ())
    if deterministic:
        keras.utils.set_random_seed(0)
        tf.config.experimental.enable_op_determinism()
    return placement


def make_step(
    architecture: architectures.Architecture, batch_size: int, precision: str, deterministic: bool = False,
    devices: int = 0, workers: int = 0) -> train_step.TrainStep:
    """Returns the step of `training` as `make_workload` places it, at rate 0, so that each computes the same."""
    placement = _place(deterministic, devices, workers)
    recipe = dataclasses.replace(architecture.recipe, batch_size=batch_size, learning_rate=0.0)
    return train_step.TrainStep(architecture, recipe, placement, precision=precision)


def train_call(
    step: train_step.TrainStep, architecture: architectures.Architecture, batch_size: int) -> collections.abc.Callable[[], float]:
    """Returns the function that trains on the same batch again and waits for its loss, which it returns."""
    def load(_, num_workers):
        return tf.data.Dataset.from_tensors(worker_process.random_batch(architecture, batch_size // num_workers)).repeat()

    if step.placement.num_replicas == 1:
        batch = tuple(map(tf.constant, worker_process.random_batch(architecture, batch_size)))
    else:
        batch = next(step.batches(load))
    return lambda: step(batch).loss


def _inference_cases(network, architecture, batch_sizes):
    """Returns (the network as `evaluation` computes it, {name: (function that predicts a batch, batch size)}).

    One batch size is measured with every LRN implementation, several with that of `evaluation` only.
    """
    names = ("xla", "builtin", "convolution") if len(batch_sizes) == 1 and any("lrn" in s.ops for s in architecture.stages) else ("xla",)
    models = {f", LRN {name}" if len(names) > 1 else "": alexnet.for_export(network, name) for name in names}
    cases = {}
    for name, batch_size in batch_sizes.items():
        images = tf.constant(worker_process.random_batch(architecture, batch_size)[0][:, None])
        for suffix, model in models.items():
            cases[name + suffix] = functools.partial(_predict, metrics.make_predictor(model), images), batch_size
    return next(iter(models.values())), cases


def _predict(predict, images):
    return predict(images).numpy()


def _start_workers(placed):
    """Makes this process the first of several workers, and starts the others."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(placed[-1])]
        hosts = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for index, _ in reversed(list(enumerate(hosts))):
        os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}})
        if index:  # A process starts with this one's environment.
            multiprocessing.get_context("spawn").Process(target=_follow, args=placed, daemon=True).start()


def _follow(*placed):
    """Trains as another worker until the first one, whose process has started this one, is gone or kills it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The first one may still wait for this one's part of a step.
    worker_process.end_with_parent()
    train = train_call(make_step(*placed), *placed[:2])
    while True:
        train()


def _write_weights(network, architecture, directory, lrn_implementations):
    """Writes what baselines read: weights.npz, and the network as SavedModels in float32."""
    np.savez(directory / "weights.npz", **{v.path: v.numpy() for v in network.variables})
    for name in lrn_implementations:
        model = alexnet.build_model(architecture, precision="float32")
        model.set_weights(network.get_weights())
        model = alexnet.for_export(model, name)
        module = tf.Module()
        module.weights = [v.value for v in model.variables]
        module.predict = tf.function(
            lambda images: model(images, training=False),  # noqa: B023
            input_signature=[tf.TensorSpec([None, *model.input_shape[1:]], tf.uint8, name="images")])
        tf.saved_model.save(module, str(directory / f"saved_model_{name}"), signatures=module.predict)


def _peak_gpu_memory(call):
    """Returns what a call returns, and TensorFlow's peak of memory on the first GPU meanwhile in bytes."""
    tf.config.experimental.reset_memory_stats("GPU:0")
    result = call()
    return result, tf.config.experimental.get_memory_info("GPU:0")["peak"]
