"""How fast is the network, trained or asked: against the machine's own matrix products, and against other engines.

Everyone takes turns, each engine in a process of its own (`turns`). What came out is put in words by `speed_report`.
"""

import contextlib
import dataclasses
import importlib.util
import itertools
import json
import math
import multiprocessing
import os
import pathlib
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import threading

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import alexnet, architectures, errors
from alexnet_tf.benchmarks import layer_profile, worker_process
from alexnet_tf.evaluation import metrics
from alexnet_tf.training import distribution, train_step

BASELINES = ("torch", "openvino")

# What `sweep` can vary, and the values.
SWEEPS = {"batch_size": (16, 32, 64, 128, 256, 512), "devices": (1, 2, 4), "workers": (1, 2)}

# How our own contestants' names begin.
OURS = "alexnet_tf"

# A peer's variant that does less than this share of the best of its precision in its first turn gets no other.
_PRUNED = 0.6


@dataclasses.dataclass(frozen=True)
class NetworkSpeed:
    """What `measure` found.

    Attributes:
        facts: What ran where.
        ours: Images per second of the network, in each form it has.
        floor: FLOP a second of a product of square matrices, in the same precision and process.
        flop: Of the network, for an image.
        peers: The peer's variants; empty without one.
        peer_facts: Its name, version, threads and data.
        groups: What each group of layers takes.
        state_bytes: Weights, and in training their momentum.
        peak_bytes: Memory at most in the first steps, beyond the state; None where the system does not know.
    """

    facts: dict
    ours: tuple[worker_process.Speed, ...]
    floor: worker_process.Speed
    flop: int
    peers: tuple[worker_process.Speed, ...]
    peer_facts: dict
    groups: tuple[layer_profile.Group, ...]
    state_bytes: int
    peak_bytes: int | None

    @property
    def best(self) -> worker_process.Speed:
        """Our fastest form."""
        return fastest(self.ours)

    def share(self, speed: worker_process.Speed) -> float:
        """Returns a speed's arithmetic over the floor's."""
        return speed.median * self.flop / self.floor.median

    def peer_bests(self) -> dict[str, worker_process.Speed]:
        """Returns the peer's fastest variant in float32, and in any precision, of those with a turn in each round."""
        if not self.peers:
            return {}
        whole = [speed for speed in self.peers if len(speed.rounds) == len(self.floor.rounds)]
        exact = [speed for speed in whole if speed.name.partition(",")[0] == "float32"]
        return {"float32": fastest(exact), "any precision": fastest(whole)}


@dataclasses.dataclass(frozen=True)
class Growth:
    """What `sweep` found.

    Attributes:
        facts: What ran where.
        sweep: What was varied, a key of `SWEEPS`.
        points: (value, the fastest form's images per second, its memory at most beyond the state, of many workers the
            first one's) in order.
        floor: As in `NetworkSpeed`.
        flop: As in `NetworkSpeed`.
    """

    facts: dict
    sweep: str
    points: tuple[tuple[int, worker_process.Speed, int | None], ...]
    floor: worker_process.Speed
    flop: int


def fastest(speeds) -> worker_process.Speed:
    """Returns the one with the highest median."""
    return max(speeds, key=lambda speed: speed.median)


def measure(
    row: architectures.Architecture, *, is_training: bool, batch_size: int, precision: str, deterministic: bool = True,
    peer: str | None = None, is_compiled: bool = True, rounds: int = 3, seconds: float = 3.0) -> NetworkSpeed:
    """Measures the training step or inference, the floor and a peer in turns, and then what each group of layers takes.

    Args:
        row: The network.
        is_training: Whether to train as `training` does, or to predict as `evaluation` does.
        batch_size: Images a step.
        precision: Keras dtype policy.
        deterministic: As in training.
        peer: One of `PEERS`.
        is_compiled: Whether `torch.compile` takes part, which compiles for minutes.
        rounds: How often each one's turn comes.
        seconds: How long a turn is at least.

    Raises:
        UserError: If the peer is not installed or cannot do this.
    """
    check_baseline(peer, is_training)
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        engine = stack.enter_context(_our_worker(
            row, is_training=is_training, batch_sizes=[batch_size], precision=precision, deterministic=deterministic,
            directory=peer and directory, has_saved_models=peer == "openvino"))
        ours = [worker_process.Case(name, engine, name) for name in engine.facts["steps"]]
        _, peak = engine.call(ours[0].name, 0.0)  # Before anything else ran there.
        others = []
        if peer:
            other = stack.enter_context(_baseline_worker(
                peer, row, directory, is_training=is_training, batch_size=batch_size, is_compiled=is_compiled))
            others = [worker_process.Case(name, other, name) for name in other.names]
        floor = worker_process.Case("floor", engine, "floor")
        speeds = worker_process.interleave([*ours, floor, *others], rounds, seconds, _is_pruned)
        groups, _ = engine.call("groups", batch_size)
    return NetworkSpeed(
        facts=engine.facts["machine"] | {"rounds": rounds, "seconds": seconds}, ours=tuple(speeds[:len(ours)]),
        floor=speeds[len(ours)], flop=engine.facts["flop"], peers=tuple(speeds[len(ours) + 1:]),
        peer_facts=other.facts if peer else {}, groups=tuple(groups), state_bytes=engine.facts["state_bytes"],
        peak_bytes=peak)


def sweep(
    row: architectures.Architecture, what: str = "batch_size", *, is_training: bool, precision: str, batch_size: int = 128,
    deterministic: bool = True, values=None, rounds: int = 3, seconds: float = 3.0) -> Growth:
    """Measures how the speed grows with something.

    Args:
        row: The network.
        what: A key of `SWEEPS`. Devices are GPUs, or without any CPU devices on the same cores; workers are processes here.
        is_training: As in `measure`, as are the following.
        precision: Keras dtype policy.
        batch_size: Over all devices and workers, where these are what is varied.
        deterministic: As in training.
        values: What it takes, in ascending order, so that the peak of memory is each one's own; `SWEEPS` by default.
        rounds: How often each one's turn comes.
        seconds: How long a turn is at least.
    """
    values = list(values or SWEEPS[what])
    if what == "devices":
        values = [value for value in values if len(distribution.several_devices(value)) == value]
    if what != "batch_size":
        if not is_training:
            raise errors.UserError(f"--sweep={what} is of training: python -m alexnet_tf benchmark train --sweep={what}")
        return _sweep_placements(row, what, values, rounds, seconds, dict(
            batch_size=batch_size, precision=precision, deterministic=deterministic))
    with _our_worker(
            row, is_training=is_training, batch_sizes=values, precision=precision, deterministic=deterministic) as engine:
        peaks = {name: engine.call(name, 0.0)[1] for name in engine.facts["steps"]}
        contestants = [worker_process.Case(name, engine, name) for name in peaks]
        *speeds, floor = worker_process.interleave([*contestants, worker_process.Case("floor", engine, "floor")], rounds, seconds)
    points = []
    for value in values:
        best = fastest(speed for speed in speeds if engine.facts["steps"][speed.name] == value)
        points.append((value, best, peaks[best.name]))
    return Growth(
        engine.facts["machine"] | {"rounds": rounds, "seconds": seconds}, what, tuple(points), floor, engine.facts["flop"])


def _sweep_placements(row, what, values, rounds, seconds, arguments):
    """Measures training on so many devices or workers, each number in an engine of its own."""
    with contextlib.ExitStack() as stack:
        engines = [stack.enter_context(worker_process.WorkerProcess(
            "alexnet_tf.benchmarks.model_throughput:make_placed_workload", row=row, what=what, count=count, **arguments)) for count in values]
        peaks = [engine.call("step", 0.0)[1] for engine in engines]
        contestants = [worker_process.Case(f"{count} {what}", engine, "step") for count, engine in zip(values, engines)]
        *speeds, floor = worker_process.interleave([*contestants, worker_process.Case("floor", engines[0], "floor")], rounds, seconds)
        facts = engines[0].facts
    return Growth(
        facts["machine"] | {"rounds": rounds, "seconds": seconds}, what, tuple(zip(values, speeds, peaks)), floor, facts["flop"])


def check_baseline(peer: str | None, is_training: bool) -> None:
    """Refuses a peer that is not installed or cannot do this.

    Raises:
        UserError: Says what to type instead.
    """
    if peer == "openvino" and is_training:
        raise errors.UserError(
            "OpenVINO cannot train. Compare with it by\n  python -m alexnet_tf benchmark infer --peer=openvino")
    if peer and importlib.util.find_spec(peer) is None:
        raise errors.UserError(f"--peer={peer} needs a package that is not installed. Type\n  pip install {peer}")


def _our_worker(row, **arguments):
    return worker_process.WorkerProcess("alexnet_tf.benchmarks.model_throughput:make_workload", row=row, **arguments)


def _baseline_worker(peer, row, directory, *, is_training, batch_size, is_compiled):
    arguments = {"is_training": is_training, "is_compiled": is_compiled} if peer == "torch" else {}
    return worker_process.WorkerProcess(
        f"alexnet_tf.benchmarks.{'pytorch' if peer == 'torch' else peer}_baseline:make_workload", row=row, directory=directory, batch_size=batch_size, **arguments)


def _is_pruned(name, first) -> bool:
    """Says whether a variant of a peer was too slow in its first turn to be the best of its precision."""
    precision = name.partition(",")[0]
    rivals = [rate for rival, rate in first.items() if rival.partition(",")[0] == precision]
    return not name.startswith(OURS) and first[name] < _PRUNED * max(rivals)


def make_workload(
    row: architectures.Architecture, *, is_training: bool, batch_sizes: list[int], precision: str, deterministic: bool,
    directory=None, has_saved_models: bool = False) -> worker_process.Workload:
    """Returns our team, in the process that `measure` starts: the steps, "floor", and "groups".

    Args:
        row: The network.
        is_training: Whether to train or to predict.
        batch_sizes: Images a step; each makes steps of its own.
        precision: Keras dtype policy.
        deterministic: As in training.
        directory: Where peers find the weights.
        has_saved_models: Whether they find SavedModels too.
    """
    keras.utils.set_random_seed(0)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    trained = make_step(row, batch_sizes[0], precision) if is_training else None
    network = trained.model if is_training else alexnet.build_model(row, precision=precision)
    if directory:
        np.savez(pathlib.Path(directory, "weights.npz"), **{v.path: v.numpy() for v in network.variables})
    for form in ("builtin", "convolution") if has_saved_models else ():
        _save(row, network, form, pathlib.Path(directory, f"saved_model_{form}"))
    forms = {"": network} if is_training else _forms(row, network)
    network = next(iter(forms.values()))  # In inference the fused one: what `evaluation` computes.
    calls, sizes = {}, {}
    for batch_size, (form, model) in itertools.product(batch_sizes, forms.items()):
        images, labels = map(tf.constant, worker_process.random_batch(row, batch_size))
        step = training_step(trained, images, labels) if is_training else inference_step(model, images)
        name = f"{OURS}{form}" + (f", batch {batch_size}" if len(batch_sizes) > 1 else "")
        calls[name], sizes[name] = worker_process.repeated(step, batch_size), batch_size
    calls["floor"] = layer_profile.matmul_peak(precision)
    calls["groups"] = lambda batch_size: layer_profile.layer_groups(
        network, row, *map(tf.constant, worker_process.random_batch(row, batch_size)), trained and trained.update)
    state = trained.variables if is_training else network.trainable_variables
    return worker_process.Workload(calls, {
        "steps": sizes,
        "flop": 2 * layer_profile.multiply_adds(network, is_training),
        "state_bytes": sum(math.prod(v.shape) * tf.as_dtype(v.dtype).size for v in state),
        "machine": _machine(row, is_training, batch_sizes, precision, deterministic)})


def make_placed_workload(
    row: architectures.Architecture, *, what: str, count: int, batch_size: int, precision: str, deterministic: bool) -> worker_process.Workload:
    """Returns the team of a sweep over devices or workers: "step", which trains, and "floor".

    The other workers step whenever this one does, and wait for it between its turns.

    Args:
        row: The network.
        what: "devices" or "workers".
        count: How many.
        batch_size: Over all of them.
        precision: Keras dtype policy.
        deterministic: As in training.
    """
    arguments = row, what, count, batch_size, precision, deterministic
    if what == "workers":
        hosts = [f"127.0.0.1:{port}" for port in _free_ports(count)]
        context = multiprocessing.get_context("spawn")
        for index in range(1, count):
            context.Process(target=_follow, args=(hosts, index, arguments), daemon=True).start()
        _set_worker(hosts, 0)
    step, batches = _placed_step(*arguments)
    return worker_process.Workload(
        {"step": worker_process.repeated(lambda: step(next(batches)).loss, batch_size), "floor": layer_profile.matmul_peak(precision)}, {
            "flop": 2 * layer_profile.multiply_adds(step.model, True),
            "machine": _machine(row, True, [batch_size], precision, deterministic)})


def _placed_step(row, what, count, batch_size, precision, deterministic):
    """Returns (the step, its batches without end) of one process."""
    with contextlib.redirect_stdout(sys.stderr):  # Nobody need hear that workers wait for each other.
        placement = distribution.make_placement("multi_worker") if what == "workers" else distribution.make_placement(
            "mirrored", distribution.several_devices(count))
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(0)
    step = make_step(row, batch_size, precision, placement)
    return step, step.batches(lambda worker, num_workers: tf.data.Dataset.from_tensors(
        worker_process.random_batch(row, batch_size // num_workers)).repeat())


def _follow(hosts, index, arguments):
    """What another worker does until the first one, whose process has started this one, is gone or kills it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The first one may still wait for this one's part of a step.
    threading.Thread(target=lambda: (multiprocessing.parent_process().join(), os._exit(1)), daemon=True).start()
    _set_worker(hosts, index)
    step, batches = _placed_step(*arguments)
    while True:
        step(next(batches))


def _set_worker(hosts, index):
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}})


def _free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def make_step(
    row: architectures.Architecture, batch_size: int, precision: str, placement: distribution.Placement | None = None) -> train_step.TrainStep:
    """Returns the step of `training`, by default on one device, at rate 0, so that each computes the same."""
    recipe = dataclasses.replace(row.recipe, batch_size=batch_size, learning_rate=0.0)
    placement = placement or distribution.Placement(tf.distribute.get_strategy())
    return train_step.TrainStep(row, recipe, placement, precision=precision)


def training_step(step, images, labels):
    """Returns the function that does one step and waits for it."""
    return lambda: step((images, labels)).loss


def inference_step(model, images):
    """Returns the function that predicts a batch, one crop an image."""
    predict, images = metrics.make_predictor(model), images[:, None]
    return lambda: predict(images).numpy()


def _forms(row, network):
    """Returns the network as `evaluation` computes it, and with each other form of LRN, by what to call it."""
    if not any("lrn" in stage.ops for stage in row.stages):
        return {"": alexnet.for_export(network, "xla")}
    return {f", LRN {form}": alexnet.for_export(network, form) for form in ("xla", "builtin", "convolution")}


def _save(row, network, form, path):
    """Writes the network as a SavedModel in float32."""
    model = alexnet.build_model(row, precision="float32")
    model.set_weights(network.get_weights())
    model = alexnet.for_export(model, form)
    module = tf.Module()
    module.weights = [v.value for v in model.variables]
    module.predict = tf.function(
        lambda images: model(images, training=False),
        input_signature=[tf.TensorSpec([None, row.image_size, row.image_size, 3], tf.uint8, name="images")])
    tf.saved_model.save(module, str(path), signatures=module.predict)


def _machine(row, is_training, batch_sizes, precision, deterministic) -> dict:
    """Returns what ran where."""
    return {
        "architecture": row.name, "is_training": is_training, "batch_sizes": batch_sizes, "precision": precision,
        "deterministic": deterministic,
        "cpu": _cpu_name(), "cores": os.cpu_count(),
        "accelerators": [tf.config.experimental.get_device_details(device).get("device_name", device.name)
                         for device in tf.config.list_physical_devices() if device.device_type != "CPU"],
        "versions": {"Python": platform.python_version(), "TensorFlow": tf.__version__, "Keras": keras.__version__}}


def _cpu_name() -> str:
    """Returns the processor's name as `lscpu` knows it."""
    try:
        lines = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout.splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("Model name"))
    except (OSError, subprocess.CalledProcessError, StopIteration):
        return platform.processor() or platform.machine()
