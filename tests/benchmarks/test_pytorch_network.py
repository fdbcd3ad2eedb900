"""Tests of `pytorch_network`: that PyTorch computes the same network."""

import dataclasses

import numpy as np
import pytest

from alexnet_tf.network import alexnet, architectures
from alexnet_tf.support import errors
from tests.helpers.networks import TINY, narrow

torch = pytest.importorskip("torch")
pytorch_network = pytest.importorskip("alexnet_tf.benchmarks.pytorch_network")


def both(architecture):
    """Returns our model and PyTorch's network, with the same weights, whose logits are of unit size."""
    architecture = architectures.with_initialization(architecture, "he")
    model = alexnet.build_model(architecture)
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        if variable.path.endswith("bias"):
            variable.assign(rng.normal(0, 0.1, variable.shape))
    network = pytorch_network.build_network(architecture)
    pytorch_network.load_weights(network, architecture, {v.path: v.numpy() for v in model.variables})
    images = rng.integers(0, 256, (2, architecture.image_size, architecture.image_size, 3), "uint8")
    with torch.inference_mode():
        got = network.eval()(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    return got, model(images, training=False).numpy()


# Narrow networks with all that architectures have: towers that see both, LRN inside towers and across, spatial LRN,
# padding before and after, pooling that rounds up, convolutions without biases, the last stages as convolutions.
@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_logits_are_ours(name):
    got, expected = both(narrow(architectures.ARCHITECTURES[name]))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert np.ptp(expected) > 1e-4


def test_logits_are_ours_at_full_width():
    got, expected = both(architectures.PAPER)
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def test_dense_towers_that_see_their_own_are_refused():
    architecture = dataclasses.replace(
        TINY, stages=(*TINY.stages[:-1], architectures.Stage("fc7", 8, towers=2, input_towers="own"), TINY.stages[-1])
    )
    with pytest.raises(errors.UserError, match="fc7 of tiny: PyTorch has no dense layer in groups"):
        pytorch_network.build_network(architecture)
