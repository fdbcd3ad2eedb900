"""Tests of `openvino_baseline`: that OpenVINO computes the same network, which makes the comparison one."""

import subprocess
import sys

import numpy as np
import pytest

from alexnet_tf.benchmarks import rounds, tensorflow_workload
from alexnet_tf.exporting import engines
from alexnet_tf.network import alexnet, architectures
from tests.helpers.networks import TINY

openvino = pytest.importorskip("openvino")


def test_logits_are_ours(tmp_path):
    architecture = architectures.with_initialization(TINY, "he")
    arguments = {"batch_size": 3, "is_training": False, "precision": "float32", "deterministic": False}
    tensorflow_workload.make_workload(architecture, str(tmp_path), **arguments)
    images, _ = rounds.random_batch(TINY, 3)
    compiled = engines.openvino_core().compile_model(
        openvino.convert_model(tmp_path / "saved_model"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    model = alexnet.build_model(architecture)
    with np.load(tmp_path / "weights.npz") as arrays:
        for variable in model.variables:
            variable.assign(arrays[variable.path])
    expected = model(images, training=False).numpy()
    np.testing.assert_allclose(compiled(images)[0], expected, atol=1e-5 * np.abs(expected).max())
    assert np.ptp(expected) > 1e-3 and compiled.input(0).element_type == openvino.Type.u8


SIGNAL_AFTER_A_NETWORK_ENDED_IN_ANOTHER_THREAD = """
import os, signal, threading
import numpy as np, openvino
import openvino.opset13 as ops
from alexnet_tf.exporting import engines

image = ops.parameter([1, 3], np.float32)
held = [engines.openvino_core().compile_model(openvino.Model([ops.relu(image)], [image], "relu"), "CPU")]
thread = threading.Thread(target=held.clear)
thread.start()
thread.join()
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_after_openvino_was_used_is_handled():
    done = subprocess.run(
        [sys.executable, "-c", SIGNAL_AFTER_A_NETWORK_ENDED_IN_ANOTHER_THREAD], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr  # A core of its own: -SIGSEGV.
