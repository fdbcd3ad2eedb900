"""Tests of `openvino_baseline`: that OpenVINO computes the same network, which makes the comparison one."""

import numpy as np
import pytest

from alexnet_tf import alexnet, architectures
from alexnet_tf.benchmarks import model_throughput, worker_process
from tests.helpers.networks import TINY

openvino = pytest.importorskip("openvino")


@pytest.mark.parametrize("implementation", ["builtin", "convolution"])
def test_logits_are_ours(implementation, tmp_path):
    architecture = architectures.with_initialization(TINY, "he")
    model = alexnet.build_model(architecture)
    model_throughput._write_weights(model, architecture, tmp_path, [implementation])
    images, _ = worker_process.random_batch(TINY, 3)
    compiled = openvino.compile_model(
        openvino.convert_model(tmp_path / f"saved_model_{implementation}"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    expected = model(images, training=False).numpy()
    np.testing.assert_allclose(compiled(images)[0], expected, atol=1e-5 * np.abs(expected).max())
    assert np.ptp(expected) > 1e-3
