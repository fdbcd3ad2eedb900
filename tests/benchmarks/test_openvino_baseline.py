"""Tests of `openvino_peer`: that OpenVINO computes the same network, so that the comparison is one."""

import numpy as np
import pytest

from alexnet_tf import alexnet, architectures
from alexnet_tf.benchmarks import model_throughput, worker_process
from tests.helpers.networks import TINY

openvino = pytest.importorskip("openvino")


@pytest.mark.parametrize("form", ["builtin", "convolution"])
def test_logits_are_ours(form, tmp_path):
    model = alexnet.build_model(architectures.with_initialization(TINY, "he"))
    model_throughput._save(architectures.with_initialization(TINY, "he"), model, form, tmp_path / "saved_model")
    images, _ = worker_process.random_batch(TINY, 3)
    compiled = openvino.compile_model(
        openvino.convert_model(tmp_path / "saved_model"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    expected = model(images, training=False).numpy()
    np.testing.assert_allclose(compiled(images)[0], expected, atol=1e-5 * np.abs(expected).max())
    assert np.ptp(expected) > 1e-3
