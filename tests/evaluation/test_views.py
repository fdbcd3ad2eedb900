"""Tests of `views`: against the paper's formula in NumPy, on gradients by finite differences of a NumPy network."""

import numpy as np
import PIL.Image
import pytest

from alexnet_tf.evaluation import views
from alexnet_tf.network import alexnet
from alexnet_tf.support import plotting
from tests.helpers.networks import TINY
from tests.helpers.numpy_network import max_pool


@pytest.fixture(scope="module")
def model():
    network = alexnet.build_model(TINY)
    rng = np.random.default_rng(0)
    for name in ("conv1_a", "conv1_b", "conv2_a", "conv2_b", "fc6_a", "fc6_b", "fc8"):
        layer = network.get_layer(name)
        scale = 0.05 if name.startswith("conv") else 0.5
        layer.set_weights([rng.normal(0, scale, array.shape) for array in layer.get_weights()])
    for name in ("conv2_a", "conv2_b"):  # All maps above zero: a pool of equal values has no derivative to compare.
        layer = network.get_layer(name)
        layer.set_weights([layer.get_weights()[0], np.full(4, 100.0)])
    return network


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).integers(0, 256, (67, 67, 3)).astype("uint8")


def numpy_tail(model, maps):
    """Computes the logits from the activations of conv2, both towers joined, float64 [height, width, channels]."""

    def dense(x, name):
        kernel, bias = (array.astype("float64") for array in model.get_layer(name).get_weights())
        return x @ kernel + bias

    x = max_pool(maps[None], 3).reshape(-1)
    x = np.concatenate([np.maximum(dense(x, name), 0) for name in ("fc6_a", "fc6_b")])
    return dense(x, "fc8")


def numpy_grad_cam(model, maps, class_index, step=1e-5):
    gradients = np.zeros_like(maps)
    for place in np.ndindex(maps.shape):
        values = []
        for sign in (1, -1):
            moved = maps.copy()
            moved[place] += sign * step
            values.append(numpy_tail(model, moved)[class_index])
        gradients[place] = (values[0] - values[1]) / (2 * step)
    height, width, channels = maps.shape
    total = np.zeros((height, width))
    for channel in range(channels):  # alpha = 1/Z sum over i and j of dy/dA.
        total += gradients[..., channel].sum() / (height * width) * maps[..., channel]
    return np.where(total > 0, total, 0)


@pytest.mark.parametrize("class_index", [None, 1, 4])
def test_look_is_the_papers_formula_on_finite_differences(model, image, class_index):
    view = views.look(model, TINY, image, class_index)
    maps = np.concatenate(view.maps["conv2"], axis=-1).astype("float64")
    logits = numpy_tail(model, maps)
    np.testing.assert_allclose(view.probabilities, np.exp(logits) / np.exp(logits).sum(), rtol=1e-4, atol=1e-6)
    assert view.class_index == (logits.argmax() if class_index is None else class_index)
    expected = numpy_grad_cam(model, maps, view.class_index)
    assert maps.min() > 0 and expected.shape == (7, 7) and expected.max() > 0
    assert (expected.min() == 0) == (class_index == 4)  # Where the sum is negative, ReLU leaves nothing.
    np.testing.assert_allclose(view.evidence, expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_look_has_the_towers_of_every_convolution_apart(model, image):
    maps = views.look(model, TINY, image).maps
    assert {stage: [each.shape for each in towers] for stage, towers in maps.items()} == {
        "conv1": [(15, 15, 4)] * 2,
        "conv2": [(7, 7, 4)] * 2,
    }
    for stage, towers in maps.items():
        assert min(each.min() for each in towers) >= 0  # After ReLU.
        for letter, each in zip("ab", towers):
            extract = alexnet.keras.Model(model.input, model.get_layer(f"{stage}_{letter}_relu").output)
            np.testing.assert_allclose(each, extract(image[None])[0], rtol=1e-5, atol=1e-5)


def test_strongest_orders_by_mean_activation():
    maps = np.zeros((2, 2, 4))
    maps[0, 0] = [1, 9, 0, 4]
    assert views.strongest(maps, 3).tolist() == [1, 3, 0]


def test_draw_writes_a_page_with_strange_names(model, image, tmp_path):
    view = views.look(model, TINY, image)
    views.draw(view, image, ["a", "$b", "c\n", "d" * 60, "\udcff"], "$x_{\udcff.jpg", str(tmp_path / "x.png"))
    with PIL.Image.open(tmp_path / "x.png") as page:
        assert page.size == (13 * plotting.DPI, round(7.4 * plotting.DPI))
