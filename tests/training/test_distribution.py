"""Tests of `distribution`."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import devices, errors
from alexnet_tf.training import cluster, configure, distribution
from alexnet_tf.training.configure import PlacementOptions

TWO = ("CPU:0", "CPU:1")


@pytest.fixture
def two_gpus(monkeypatch):
    """Has TensorFlow say that there are two GPUs; nothing can be placed on them."""
    real = tf.config.list_physical_devices
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a", "b"] if kind == "GPU" else real(kind))


def test_auto_on_one_cpu_is_tensorflows_default_and_a_named_device_is_that_one():
    placement = distribution.make_placement()
    assert placement.strategy is tf.distribute.get_strategy() and placement.towers is None
    assert (placement.num_replicas, placement.worker, placement.num_workers) == (1, 0, 1)
    named = distribution.make_placement(PlacementOptions(devices=("CPU:1",)))
    assert named.num_replicas == 1
    assert "CPU:1" in named.strategy.run(lambda: tf.constant(1.0) + tf.constant(1.0)).device


@pytest.mark.parametrize("strategy", ["auto", "mirrored"])
def test_several_devices_are_mirrored(strategy):
    placement = distribution.make_placement(PlacementOptions(strategy, TWO))
    assert isinstance(placement.strategy, tf.distribute.MirroredStrategy) and placement.num_replicas == 2


def test_mirrored_without_a_gpu_is_one_copy():
    assert distribution.make_placement(PlacementOptions("mirrored")).num_replicas == 1


def test_gpus_are_found(two_gpus, monkeypatch):
    monkeypatch.setattr(distribution.tf.distribute, "MirroredStrategy", lambda devices: devices)
    assert distribution.make_placement().strategy == ["GPU:0", "GPU:1"]
    assert distribution.make_placement(PlacementOptions("mirrored")).strategy == ["GPU:0", "GPU:1"]
    assert distribution.make_placement(PlacementOptions("split")).towers == ("GPU:0", "GPU:1")
    assert distribution.make_placement(
        PlacementOptions(
            "split",
            (
                "GPU:1",
                "CPU:0",
            ),
        )
    ).towers == ("GPU:1", "CPU:0")


@pytest.mark.parametrize(
    ("strategy", "devices", "message"),
    [
        ("split", [], "two devices, one for each tower; got no GPU.*--devices=CPU:0,CPU:1"),
        ("split", ["CPU:0"], "two devices, one for each tower; got CPU:0"),
        ("split", ["CPU:0", "CPU:1", "CPU:2"], "two devices, one for each tower; got CPU:0, CPU:1, CPU:2"),
        ("auto", ["CPU:0", "CPU:0"], "names a device twice: CPU:0,CPU:0"),
        ("auto", ["gpu"], "names such as GPU:0 or CPU:0; got 'gpu'"),
        ("mirrored", ["GPU:0"], "got 'GPU:0'. This machine has no GPU and CPU:0, CPU:1"),
        ("auto", ["CPU:7"], "CPU:7 cannot be made any more"),
        ("multi_worker", ["CPU:0"], "takes all GPUs of each machine.*CUDA_VISIBLE_DEVICES"),
    ],
)
def test_devices_that_cannot_be_used_are_refused(strategy, devices, message):
    tf.constant(0)  # TensorFlow has begun.
    with pytest.raises(errors.UserError, match=message):
        distribution.make_placement(PlacementOptions(strategy, devices))


def test_an_unknown_gpu_is_told_which_there_are(two_gpus):
    with pytest.raises(errors.UserError, match="got 'GPU:2'. This machine has GPU:0, GPU:1 and CPU:0, CPU:1"):
        distribution.make_placement(
            PlacementOptions(
                "split",
                (
                    "GPU:1",
                    "GPU:2",
                ),
            )
        )


CLUSTER = {"worker": ["a:1", "b:1"]}


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (None, "It lacks 'TF_CONFIG'"),
        ("{", "cannot be used: Expecting"),
        ("[]", "cannot be used: list indices"),
        ({"cluster": CLUSTER}, "It lacks 'task'"),
        ({"task": {"type": "worker", "index": 0}}, "It lacks 'cluster'"),
        ({"cluster": CLUSTER, "task": {"type": "chief", "index": 0}}, "It lacks 'chief'"),
        ({"cluster": CLUSTER, "task": {"type": "worker", "index": 2}}, "cannot be used: list index out of range"),
        ({"cluster": CLUSTER, "task": {"type": "worker", "index": -1}}, "cannot be used: there is no worker -1"),
        ({"cluster": CLUSTER, "task": {"type": "worker", "index": "one"}}, "cannot be used: invalid literal"),
        ({"cluster": CLUSTER | {"ps": ["c:1"]}, "task": {"type": "worker", "index": 0}}, "only chief and worker"),
    ],
)
def test_a_tf_config_that_says_nothing_usable_is_refused(monkeypatch, stated, message):
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", None)  # Nobody waits for workers.
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if stated:
        monkeypatch.setenv("TF_CONFIG", stated if isinstance(stated, str) else json.dumps(stated))
    with pytest.raises(
        errors.UserError, match=rf"needs TF_CONFIG(.|\n)*{message}(.|\n)*python train.py --strategy=multi_worker"
    ):
        distribution.make_placement(PlacementOptions("multi_worker"))


@pytest.mark.parametrize(
    ("cluster", "kind", "index", "worker", "num_workers"),
    [
        (CLUSTER, "worker", 0, 0, 2),
        (CLUSTER, "worker", 1, 1, 2),
        (CLUSTER | {"chief": ["c:1"]}, "chief", 0, 0, 3),
        (CLUSTER | {"chief": ["c:1"]}, "worker", 1, 2, 3),
    ],
)
def test_a_tf_config_says_which_worker_this_is(monkeypatch, cluster, kind, index, worker, num_workers):
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", lambda: None)
    monkeypatch.setattr("alexnet_tf.training.cluster.wait_for_all", lambda *_: None)
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}}))
    placement = distribution.make_placement(PlacementOptions("multi_worker"))
    assert (placement.worker, placement.num_workers) == (worker, num_workers)


@pytest.mark.parametrize(
    ("nodes", "per_node", "rank", "hosts"),
    [
        ("gpu[1-2]", "1(x2)", 1, ("gpu1:12345", "gpu2:12345")),
        ("gpu07,login3", "2,1", 2, ("gpu07:12345", "gpu07:12346", "login3:12345")),
    ],
)
def test_slurm_names_the_cluster(monkeypatch, nodes, per_node, rank, hosts):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name, value in (
        ("PROCID", rank),
        ("STEP_NUM_TASKS", len(hosts)),
        ("STEP_NODELIST", nodes),
        ("STEP_TASKS_PER_NODE", per_node),
    ):
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    try:
        assert cluster.from_environment() == cluster.Cluster(hosts, rank)
    finally:
        del os.environ["TF_CONFIG"]


@pytest.fixture
def hosts():
    """Two addresses of this machine whose ports are free."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        return tuple(f"127.0.0.1:{server.getsockname()[1]}" for server in servers)


def test_a_worker_waits_names_who_is_missing_and_gives_up(hosts, monkeypatch, capsys):
    monkeypatch.setattr(cluster, "_REPORT_SECONDS", 0.1)
    message = f"did not meet within --worker_timeout=1 seconds: no answer from worker 2 .{hosts[1]}.. Start all"
    with pytest.raises(errors.UserError, match=message):
        cluster.wait_for_all(cluster.Cluster(hosts, 0), 1)
    assert capsys.readouterr().out.count(f"Still waiting: no answer from worker 2 ({hosts[1]})") == 1


def test_workers_that_come_at_different_times_meet(hosts):
    first = threading.Thread(target=cluster.wait_for_all, args=(cluster.Cluster(hosts, 0), 60))
    first.start()
    time.sleep(0.5)
    assert first.is_alive()
    cluster.wait_for_all(cluster.Cluster(hosts, 1), 60)
    with socket.create_server(("", int(hosts[1].rpartition(":")[2]))):  # As TensorFlow's server does now.
        first.join(60)
    assert not first.is_alive()


def test_a_port_that_is_taken_is_named(hosts):
    with socket.create_server(("", int(hosts[0].partition(":")[2]))):
        with pytest.raises(errors.UserError, match="cannot be used: .*in use"):
            cluster.wait_for_all(cluster.Cluster(hosts, 0), 1)


def test_a_wait_in_tensorflow_ends_in_time():
    code = "import time; from alexnet_tf.training import cluster\nwith cluster.interruptible(1): time.sleep(60)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1 and "Timeout (0:00:01)!" in result.stderr


def test_workers_that_do_not_meet_are_told_in_a_line(monkeypatch):
    def fail():
        raise tf.errors.UnknownError(None, None, "Could not start gRPC server")

    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", fail)
    monkeypatch.setattr(cluster, "wait_for_all", lambda *_: None)
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": CLUSTER, "task": {"type": "worker", "index": 0}}))
    with pytest.raises(errors.UserError, match="the workers did not meet: Could not start gRPC server"):
        distribution.make_placement(PlacementOptions("multi_worker"))


@pytest.mark.parametrize(("batch_size", "use"), [(7, "6 or 8"), (1, "2")])
def test_a_batch_that_cannot_be_divided_is_refused_with_the_nearest_that_can(batch_size, use):
    placement = distribution.make_placement(PlacementOptions("mirrored", TWO))
    with pytest.raises(errors.UserError, match=rf"multiple of the 2 replicas; got {batch_size}. Use {use}\.$"):
        placement.check_batch_size(batch_size)
    placement.check_batch_size(8)
    distribution.make_placement().check_batch_size(7)


def test_summary_of_the_split_tells_each_towers_bytes():
    variables = []
    for device, count in (("CPU:0", 3_000_000), ("CPU:1", 1_000_000), ("CPU:1", 500_000)):
        with tf.device(device):
            variables.append(keras.Variable(np.zeros(count, "float32")))
    assert distribution.make_placement(PlacementOptions("split", TWO)).summary(variables, 8) == (
        "Devices: CPU:0 (tower a and fc8) keeps 12 MB of weights and momentum, CPU:1 (tower b) keeps 6 MB of weights "
        "and momentum"
    )


def test_summary_of_mirrored_counts_every_copy_and_gives_the_linear_rule_as_advice():
    placement = distribution.make_placement(PlacementOptions("mirrored", TWO))
    with placement.strategy.scope():
        variable = keras.Variable(np.zeros(2_000_000, "float32"))
    first, *others = placement.summary([variable], 8).splitlines()
    assert first == "Devices: CPU:0 keeps 8 MB of weights and momentum, CPU:1 keeps 8 MB of weights and momentum"
    assert others[0].startswith("  A batch of 8 is 4 for each of 2 replicas") and "scaling rule" in others[1]


def test_summary_says_on_a_gpu_whether_tf32_is_on(two_gpus):
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    try:
        for is_on in (True, False):
            devices.set_numerics(tf32=is_on)
            line = distribution.Placement(tf.distribute.get_strategy()).summary([], 8).splitlines()[1]
            assert line.startswith(f"  TF32 is {'on' if is_on else 'off'}"), line
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


@pytest.mark.parametrize(
    ("batch_size", "num_gpus", "count"),
    [
        (128, 1, 1),
        (128, 8, 2),
        (256, 3, 2),
        (256, 5, 4),
        (384, 7, 6),
        (64, 2, 1),
        (100, 3, 1),
        (128, 0, 1),
    ],
)
def test_as_many_gpus_as_a_batch_keeps_busy(batch_size, num_gpus, count):
    assert distribution.num_replicas_for(batch_size, num_gpus) == count


def test_only_a_placement_that_nobody_asked_for_is_made_smaller(two_gpus, monkeypatch):
    monkeypatch.setattr(
        tf.distribute, "MirroredStrategy", lambda devices: types.SimpleNamespace(num_replicas_in_sync=len(devices))
    )
    monkeypatch.setattr(
        tf.distribute, "OneDeviceStrategy", lambda device: types.SimpleNamespace(num_replicas_in_sync=1)
    )
    assert distribution.make_placement().for_batch_size(128).devices == ("GPU:0", "GPU:1")
    assert distribution.make_placement().for_batch_size(64).devices == ("GPU:0",)
    assert distribution.make_placement(PlacementOptions("mirrored")).for_batch_size(64).devices == ("GPU:0", "GPU:1")
    assert distribution.make_placement(
        PlacementOptions(
            devices=(
                "GPU:0",
                "GPU:1",
            )
        )
    ).for_batch_size(64).devices == ("GPU:0", "GPU:1")


SEVEN = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 7)
from alexnet_tf.training.distribution import Placement
values = np.array([0.1, 1 / 3, 1e6 + 0.7, 2.0 ** 40 - 1])
for count in (3, 5, 6, 7):
    reduction = tf.distribute.ReductionToOneDevice()  # One process knows one size of a group of collectives.
    placement = Placement(tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)], reduction))
    assert placement._sum(values).tobytes() == values.tobytes(), count
"""


def test_a_sum_over_workers_is_exact_with_any_number_of_replicas():
    result = subprocess.run([sys.executable, "-c", SEVEN], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_total_of_one_process_is_its_own():
    total = distribution.make_placement(PlacementOptions("mirrored", TWO)).total([1, 2.5])
    assert total.dtype == "float64" and total.tolist() == [1, 2.5]


def test_workers_with_unequal_gpus_are_refused():
    def names(*gpus):
        return [
            f"/job:worker/replica:0/task:{task}/device:{device}"
            for task, count in enumerate(gpus)
            for device in ("CPU:0", *(f"GPU:{index}" for index in range(count)))
        ]

    distribution.check_equal_gpus(names(0, 0))
    distribution.check_equal_gpus(names(2, 2, 2))
    with pytest.raises(errors.UserError, match="2 on worker 0, 4 on worker 1.*CUDA_VISIBLE_DEVICES=0,1 on all"):
        distribution.check_equal_gpus(names(2, 4))
    with pytest.raises(errors.UserError, match="0 on worker 0, 1 on worker 1.*CUDA_VISIBLE_DEVICES=-1 on all"):
        distribution.check_equal_gpus(names(0, 1))


def test_a_worker_that_sees_no_checkpoint_of_the_chief_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_FILE_SYSTEM_SECONDS", 0)
    # The chief's last is of step 10.
    placement = types.SimpleNamespace(worker=1, total=lambda value: np.float64(value + 11))
    with pytest.raises(configure.TrainingError, match="worker 2, sees .* with no checkpoint, .* one of step 10"):
        cluster._wait_for_checkpoint(placement, RunDirectory(tmp_path))


def test_a_lost_worker_is_told_in_words():
    alone, job = (types.SimpleNamespace(num_workers=count) for count in (1, 2))
    error = tf.errors.UnavailableError(None, None, "{{node x}} Connection reset by peer\nmore")
    with pytest.raises(configure.TrainingError, match="cannot be reached any(.|\n)*says: Connection reset by peer$"):
        with cluster.lost_workers_reported(job):
            raise error
    with pytest.raises(tf.errors.UnavailableError), cluster.lost_workers_reported(alone):
        raise error
