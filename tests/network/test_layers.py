"""The layers against their sources' formulas, written out here in float64."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.network import layers, lrn, xla

# Half the distance between two numbers of the dtype, relative: what rounding the exact result may cost. The 32-bit
# value leaves room for TensorFlow's own arithmetic.
ROUNDING = {"float32": 1e-5, "float16": 2**-11 * 1.05, "bfloat16": 2**-8 * 1.05}
POLICIES = {"float32": "float32", "mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}


def lrn_of_the_paper(a, radius, k, alpha, beta):
    """Section 3.3: b_i = a_i / (k + alpha * sum over j of a_j^2)^beta, j from max(0, i - n/2) to min(N-1, i + n/2).

    Caffe and cuda-convnet divide their alpha by n.
    """
    a = np.asarray(a, "float64")
    b = np.empty_like(a)
    channels = a.shape[-1]
    for i in range(channels):
        total = 0.0
        for j in range(max(0, i - radius), min(channels - 1, i + radius) + 1):
            total = total + a[..., j] ** 2
        b[..., i] = a[..., i] / (k + alpha * total) ** beta
    return b


def rnorm_of_cuda_convnet(a, size=5, min_div=1.0, scale=1e-3, power=0.75):
    """The same map: a square of size x size pixels; layer.py divides `scale` by its area."""
    a = np.asarray(a, "float64")
    scale /= size**2
    out = np.empty_like(a)
    for y in range(a.shape[1]):
        for x in range(a.shape[2]):
            rows = slice(max(y - size // 2, 0), y - size // 2 + size)
            columns = slice(max(x - size // 2, 0), x - size // 2 + size)
            total = (a[:, rows, columns] ** 2).sum((1, 2))
            out[:, y, x] = a[:, y, x] * (min_div + scale * total) ** -power
    return out


def numerical_gradient(function, x, upstream, step=1e-3):
    """Central differences of sum(upstream * function(x)), in float64."""
    x = np.asarray(x, "float64")
    gradient = np.empty_like(x)
    for index in np.ndindex(*x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[index] += step
        behind[index] -= step
        gradient[index] = ((function(ahead) - function(behind)) * upstream).sum() / (2 * step)
    return gradient


def activations(shape, std=200.0, dtype="float32", seed=0):
    """Returns random values, rounded to the dtype."""
    return tf.cast(np.random.default_rng(seed).normal(0, std, shape), dtype)


def forward_and_gradient(layer, x, upstream, jit):
    def compute(x, upstream):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return y, tape.gradient(y, x, upstream)

    return tf.function(compute, jit_compile=jit)(x, upstream)


def float64(tensor):
    return tf.cast(tensor, tf.float64).numpy()


def assert_computes(formula, x, y, upstream, gradient, atol=2e-6):
    """Compares y and the gradient of sum(upstream * y) with a formula's, as exactly as their dtype allows."""
    assert y.dtype == gradient.dtype == x.dtype
    rounding = ROUNDING[x.dtype.name]
    np.testing.assert_allclose(float64(y), formula(float64(x)), rtol=rounding, atol=1e-6)
    expected = numerical_gradient(formula, float64(x), float64(upstream))
    np.testing.assert_allclose(
        float64(gradient), expected, rtol=max(rounding, 2e-5), atol=atol * np.abs(expected).max()
    )


# Half width of the window, k, alpha, beta.
ACROSS_CHANNELS = {
    "paper": (2, 2.0, 1e-4, 0.75),
    "n=3 beta=.5": (1, 2.0, 1e-4, 0.5),
    "n=9 beta=1": (4, 2.0, 1e-4, 1.0),
    "caffe": (2, 1.0, 1e-4 / 5, 0.75),
}


@pytest.fixture(params=[True, False], ids=["fused", "builtin"])
def fused(request):
    """Layers with the kernels that training and prediction use, and as ordinary operations."""
    with xla.fused_kernels() if request.param else contextlib.nullcontext():
        assert xla.is_fusing() is request.param
        yield


@pytest.mark.parametrize("jit", [False, True], ids=["eager-ops", "xla"])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("source", ACROSS_CHANNELS)
@pytest.mark.usefixtures("fused")
def test_lrn_equals_its_source_forward_and_backward(source, policy, jit):
    keras.config.set_dtype_policy(policy)
    arguments, dtype = ACROSS_CHANNELS[source], POLICIES[policy]
    x = activations((1, 2, 2, 9), dtype=dtype)
    upstream = activations(x.shape, std=1, dtype=dtype, seed=1)
    y, gradient = forward_and_gradient(lrn.LocalResponseNormalization(*arguments), x, upstream, jit)
    assert_computes(lambda a: lrn_of_the_paper(a, *arguments), x, y, upstream, gradient)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("source", ACROSS_CHANNELS)
def test_lrn_by_convolution_equals_its_source(source, policy):
    keras.config.set_dtype_policy(policy)
    arguments, dtype = ACROSS_CHANNELS[source], POLICIES[policy]
    x = activations((2, 3, 4, 9), dtype=dtype)
    y = lrn.LocalResponseNormalization(*arguments, implementation="convolution")(x)
    assert y.dtype == dtype
    np.testing.assert_allclose(float64(y), lrn_of_the_paper(float64(x), *arguments), rtol=ROUNDING[dtype], atol=1e-6)


@pytest.mark.parametrize("jit", [False, True], ids=["eager-ops", "xla"])
@pytest.mark.parametrize(
    ("radius", "bias", "alpha", "beta"),
    [(2, 2.0, 1e-4, 0.75), (2, 1.0, 2e-5, 0.75), (1, 2.0, 1e-3, 0.5), (5, 1.0, 1e-4, 1.25)],
)
@pytest.mark.usefixtures("fused")
def test_lrn_gradient_equals_tensorflows_own(radius, bias, alpha, beta, jit):
    x = activations((2, 4, 4, 48))
    upstream = activations(x.shape, std=1, seed=1)
    _, gradient = forward_and_gradient(lrn.LocalResponseNormalization(radius, bias, alpha, beta), x, upstream, jit)
    _, expected = forward_and_gradient(
        lambda x: tf.nn.local_response_normalization(x, radius, bias, alpha, beta), x, upstream, jit=False
    )
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=2e-6 * np.abs(expected).max())


def test_lrn_of_zeros():
    layer = lrn.LocalResponseNormalization(2, 2.0, 1e-4, 0.75)
    y, gradient = forward_and_gradient(layer, tf.zeros((1, 2, 2, 3)), tf.ones((1, 2, 2, 3)), jit=False)
    np.testing.assert_array_equal(y, np.zeros((1, 2, 2, 3)))
    np.testing.assert_allclose(gradient, np.full((1, 2, 2, 3), 2**-0.75), rtol=1e-6, atol=0)


@pytest.mark.parametrize("jit", [False, True], ids=["eager-ops", "xla"])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("arguments", "formula"),
    [
        ((2, 1.0, 4e-5, 0.75), rnorm_of_cuda_convnet),
        ((1, 2.0, 1e-4, 0.5), lambda a: rnorm_of_cuda_convnet(a, size=3, min_div=2, scale=9e-4, power=0.5)),
    ],
    ids=["cnorm2", "3x3 beta=.5"],
)
def test_same_map_lrn_equals_its_source_forward_and_backward(arguments, formula, policy, jit):
    keras.config.set_dtype_policy(policy)
    dtype = POLICIES[policy]
    x = activations((1, 6, 7, 2), dtype=dtype)
    upstream = activations(x.shape, std=1, dtype=dtype, seed=1)
    y, gradient = forward_and_gradient(lrn.SameMapNormalization(*arguments), x, upstream, jit)
    assert_computes(formula, x, y, upstream, gradient, atol=5e-6)


def mask(layer, shape=(4, 500)):
    return layer(tf.ones(shape), training=True).numpy() != 0


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_dropout_drops_the_rates_share_and_keeps_the_expectation(rate):
    y = layers.Dropout(rate, seed=3)(tf.ones((100, 1000)), training=True).numpy()
    # Five standard deviations of a binomial share.
    np.testing.assert_allclose((y == 0).mean(), rate, rtol=0, atol=5 * np.sqrt(rate * (1 - rate) / y.size))
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=1e-6, atol=0)
    np.testing.assert_allclose(y.mean(), 1, rtol=0, atol=5 * np.sqrt(rate / (1 - rate) / y.size))


@pytest.mark.parametrize("policy", POLICIES)
def test_dropout_keeps_the_dtype_under_every_policy(policy):
    keras.config.set_dtype_policy(policy)
    y = layers.Dropout(0.5)(tf.ones((10, 10), POLICIES[policy]), training=True)
    assert y.dtype == POLICIES[policy]
    assert set(np.unique(float64(y))) == {0, 2}


def test_dropout_examples_and_units_have_masks_of_their_own():
    kept = mask(layers.Dropout(0.5))
    assert len({row.tobytes() for row in kept}) == 4
    assert len({column.tobytes() for column in kept.T}) == 16


@pytest.mark.parametrize(("rate", "arguments"), [(0.5, {}), (0.5, {"training": False}), (0, {"training": True})])
def test_dropout_is_the_identity_in_inference_and_of_rate_0(rate, arguments):
    x = activations((3, 7))
    layer = layers.Dropout(rate)
    np.testing.assert_array_equal(layer(x, **arguments), x)
    assert int(layer.iteration) == 0


def test_dropout_mask_is_a_function_of_seed_name_and_iteration():
    first = layers.Dropout(0.5, seed=1, name="fc6_dropout")
    again = layers.Dropout(0.5, seed=1, name="fc6_dropout")
    first_masks = [mask(first) for _ in range(3)]
    np.testing.assert_array_equal(first_masks, [mask(again) for _ in range(3)])
    all_masks = first_masks + [
        mask(layers.Dropout(0.5, seed=seed, name=name)) for seed, name in ((2, "fc6_dropout"), (1, "fc7_dropout"))
    ]
    for i, a in enumerate(all_masks):
        for b in all_masks[:i]:
            # Independent masks agree in half of their places; 5 standard deviations.
            assert abs((a == b).mean() - 0.5) < 5 * 0.5 / np.sqrt(a.size)


def test_dropout_iteration_counts_training_calls_and_restores_the_mask():
    layer = layers.Dropout(0.5, seed=1, name="fc6_dropout")
    masks = [mask(layer) for _ in range(4)]
    assert int(layer.iteration) == 4
    assert layer.trainable_variables == []
    assert [v.path for v in layer.non_trainable_variables] == ["fc6_dropout/iteration"]
    resumed = layers.Dropout(0.5, seed=1, name="fc6_dropout")
    resumed.build((4, 500))
    resumed.iteration.assign(2)
    np.testing.assert_array_equal(mask(resumed), masks[2])
    np.testing.assert_array_equal(mask(resumed), masks[3])


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_dropout_in_a_function_gives_masks_that_can_be_repeated(jit):
    def masks(layer):
        layer.build((4, 500))
        function = tf.function(lambda: layer(tf.ones((4, 500)), training=True), jit_compile=jit)
        return [function().numpy() != 0 for _ in range(3)]

    arguments = {"rate": 0.5, "seed": 1, "name": "fc6_dropout"}
    layer = layers.Dropout(**arguments)
    first = masks(layer)
    assert int(layer.iteration) == 3
    assert len({each.tobytes() for each in first}) == 3
    np.testing.assert_array_equal(first, masks(layers.Dropout(**arguments)))
    if not jit:
        # XLA's Philox takes another key from the same seed: its masks are others than those of the plain kernels.
        eager = layers.Dropout(**arguments)
        np.testing.assert_array_equal(first, [mask(eager) for _ in range(3)])


def test_dropout_draws_another_mask_on_every_replica():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        layer = layers.Dropout(0.5, seed=1, name="fc6_dropout")
        layer.build((4, 500))

    @tf.function
    def step():
        return strategy.run(lambda: layer(tf.ones((4, 500)), training=True))

    masks = []
    for count in (1, 2):
        masks += [value.numpy() != 0 for value in strategy.experimental_local_results(step())]
        assert int(tf.convert_to_tensor(layer.iteration.value)) == count
    assert len(masks) == 4
    for i, a in enumerate(masks):
        for b in masks[:i]:
            assert abs((a == b).mean() - 0.5) < 5 * 0.5 / np.sqrt(a.size)
    # The first replica is what a single device draws.
    np.testing.assert_array_equal(masks[0], mask(layers.Dropout(0.5, seed=1, name="fc6_dropout")))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.usefixtures("fused")
def test_normalize_computes_in_float32_under_every_policy(policy, dtype):
    keras.config.set_dtype_policy(policy)
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3)).astype(dtype)
    mean, scale = (123.675, 116.28, 103.53), (1 / 58.395, 1 / 57.12, 1 / 57.375)
    layer = layers.Normalize(mean, scale)
    y = layer(images)
    assert y.dtype == POLICIES[policy]
    expected = (images.astype("float64") - mean) * scale
    # The subtraction in bfloat16 would be off by up to 1 grey level, a hundredfold of this near the mean.
    np.testing.assert_allclose(float64(y), expected, rtol=ROUNDING[POLICIES[policy]], atol=2e-6)
    assert layer.weights == []


@pytest.mark.parametrize(
    "layer",
    [
        layers.Normalize((1.0, 2.0, 3.0), (0.5, 0.25, 0.125), name="normalize"),
        layers.Normalize(np.arange(12.0).reshape(2, 2, 3), (1.0, 1.0, 1.0), name="normalize"),
        lrn.LocalResponseNormalization(2, 2.0, 1e-4, 0.75, name="conv1_lrn"),
        lrn.SameMapNormalization(2, 1.0, 4e-5, 0.75, name="conv2_same_map_lrn"),
        layers.Dropout(0.25, seed=5, name="fc6_dropout"),
    ],
    ids=lambda layer: layer.name,
)
def test_layers_survive_serialization(layer):
    copy = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()
    x = activations((2, 2, 2, 3))
    np.testing.assert_array_equal(
        copy(x, training=True) if "dropout" in layer.name else copy(x),
        layer(x, training=True) if "dropout" in layer.name else layer(x),
    )


@pytest.mark.parametrize(("padding", "use_bias"), [((1, 1), True), ((0, 0), False), ((0, 1), True)])
def test_locally_connected_layer_is_a_loop_over_positions(padding, use_bias):
    generator = np.random.default_rng(0)
    images = generator.normal(size=(2, 5, 4, 3)).astype("float32")
    layer = layers.LocallyConnected2D(6, 3, padding, use_bias, "random_normal", "random_normal")
    result = layer(images)
    padded = np.pad(images, [(0, 0), padding, padding, (0, 0)])
    expected = np.zeros((2, 3 + sum(padding), 2 + sum(padding), 6))
    for row, column in np.ndindex(expected.shape[1:3]):
        patch = padded[:, row : row + 3, column : column + 3].reshape(2, -1)
        expected[:, row, column] = patch @ layer.kernel.numpy()[row, column] + (
            layer.bias.numpy()[row, column] if use_bias else 0
        )
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-6)
    assert layer.compute_output_shape(images.shape) == expected.shape
    twin = type(layer).from_config(layer.get_config())
    assert twin(images).shape == result.shape
