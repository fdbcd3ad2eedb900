"""Every row against its source: layers, shapes, parameters, who sees whom, and the numbers it computes.

The tables are written out by hand from the sources. A forward pass written from them, in NumPy and plain TensorFlow
operations on undivided tensors, must give what the model gives.
"""

import dataclasses
import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.network import alexnet, architectures
from tests.helpers.facts import FACTS, gaussians_of
from tests.helpers.networks import TINY
from tests.helpers.numpy_network import TINY_GROUPS, lrn, max_pool
from tests.helpers.torchvision_network import torchvision_alexnet

STAGES = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
STEP_NAMES = {
    "ReLU": "relu",
    "MaxPooling2D": "pool",
    "LocalResponseNormalization": "lrn",
    "SameMapNormalization": "same_map_lrn",
    "Dropout": "dropout",
}


def test_tables_have_every_row():
    assert set(FACTS) == set(architectures.ARCHITECTURES)


# The tests that take `model` run row after row: each full-size network is built once and let go.
@pytest.fixture(scope="module", params=FACTS)
def model(request):
    return alexnet.build_model(architectures.ARCHITECTURES[request.param])


def table(row):
    """Yields (name, shape, kernel shape or None, parameters) of the row's layers."""
    for line in FACTS[row].layers.strip().splitlines():
        words = line.replace(",", "").split()
        names = [word for word in words if word[0] in "cf"]
        shape = tuple(int(word) for word in words[len(names) :] if word.isdigit())
        kernel, count = None, 0
        if "x" in words[-2]:
            kernel, count, shape = tuple(int(n) for n in words[-2].split("x")), int(words[-1]), shape[:-1]
        for name in names:
            yield name, shape, kernel, count


def is_weighing(layer):
    return isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)


def stage_of(layer):
    return layer.name.split("_")[0]


def weighing_layers(model):
    return [layer for layer in model.layers if is_weighing(layer)]


def test_build_model_has_the_sources_number_of_parameters(model):
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == FACTS[model.name].parameters
    assert sum(count for *_, count in table(model.name)) == FACTS[model.name].parameters


def test_build_model_takes_the_sources_image_and_gives_1000_logits(model):
    assert model.input_shape == (None, FACTS[model.name].image_size, FACTS[model.name].image_size, 3)
    assert model.output_shape == (None, 1000)
    assert model.output.dtype == "float32"


def test_build_model_has_the_sources_layers_and_shapes(model):
    layers = [layer for layer in model.layers if is_weighing(layer) or isinstance(layer, keras.layers.MaxPooling2D)]
    expected = list(table(model.name))
    order = {name: index for index, (name, *_) in enumerate(expected)}
    assert {layer.name for layer in layers} == set(order)
    for layer in layers:
        name, shape, kernel, count = expected[order[layer.name]]
        assert layer.output.shape == (None, *shape), name
        assert sum(int(np.prod(v.shape)) for v in layer.trainable_variables) == count, name
        if kernel:
            assert layer.kernel.shape == kernel, name


def test_layer_names_are_the_weight_layers_in_order(model):
    expected = [name for name, _, kernel, _ in table(model.name) if kernel]
    assert architectures.ARCHITECTURES[model.name].layer_names == expected
    assert {layer.name for layer in weighing_layers(model)} == set(expected)


def test_variables_are_named_by_their_layer(model):
    paths = set()
    for layer in weighing_layers(model):
        paths |= {f"{layer.name}/kernel"}
        if not (model.name == "tf1_class" and layer.name.startswith("conv")):
            paths |= {f"{layer.name}/bias"}
    assert {v.path for v in model.trainable_variables} == paths
    assert {v.path for v in model.non_trainable_variables} == {
        f"{layer.name}/iteration" for layer in model.layers if type(layer).__name__ == "Dropout"
    }


def test_stages_are_followed_by_the_sources_steps(model):
    def following(operation):
        """Returns the steps from a layer's output to the next weight layer, or to the end."""
        readers = [node.operation for node in operation._outbound_nodes]
        if not readers or is_weighing(readers[0]):
            return []
        step = STEP_NAMES.get(type(readers[0]).__name__)
        return ([step] if step else []) + following(readers[0])

    for layer in weighing_layers(model):
        assert following(layer) == FACTS[model.name].steps[stage_of(layer)], layer.name


def test_steps_have_the_sources_constants(model):
    for layer in model.layers:
        step = STEP_NAMES.get(type(layer).__name__)
        if step == "lrn":
            k, alpha, _ = FACTS[model.name].lrn
            assert (layer.depth_radius, layer.bias, layer.alpha, layer.beta) == (2, k, alpha, 0.75)
        elif step == "same_map_lrn":
            # scale=.001 over 25 pixels.
            assert (layer.radius, layer.bias, layer.alpha, layer.beta) == (2, 1, 4e-5, 0.75)
        elif step == "dropout":
            assert layer.rate == 0.5
        elif step == "pool":
            size = FACTS[model.name].pool
            assert (layer.pool_size, layer.strides) == ((size, size), (2, 2))


def seen(layer):
    """Returns the weight layers that a layer reads, with the half where it reads a half: {"conv1[0]"}."""

    def sources(tensor):
        operation, _, index = tensor._keras_history
        if is_weighing(operation) or not operation._inbound_nodes[0].input_tensors:
            return {operation.name}
        names = set().union(*(sources(each) for each in operation._inbound_nodes[0].input_tensors))
        return {f"{name}[{index}]" for name in names} if type(operation).__name__ == "Split" else names

    return set().union(*(sources(tensor) for tensor in layer._inbound_nodes[0].input_tensors))


def test_towers_see_what_the_source_says(model):
    both = {stage: {f"{stage}_a", f"{stage}_b"} for stage in STAGES}
    own_towers = {"conv2": "conv1", "conv4": "conv3", "conv5": "conv4"}
    all_sees = {layer.name: seen(layer) for layer in weighing_layers(model)}
    if model.name in ("paper", "original2012", "no_lrn", "non_overlap"):
        expected = {}
        for before, stage in zip(("images", *STAGES), STAGES):
            for tower in "ab":
                own = {f"{before}_{tower}"} if stage in own_towers else both.get(before, {"images"})
                expected["fc8" if stage == "fc8" else f"{stage}_{tower}"] = own
    elif model.name in ("caffe", "caffenet"):
        # norm2 reads both groups. In caffe it comes before pool2, in caffenet after; conv2's own groups read a half.
        expected = {
            "conv1": {"images"},
            "conv2_a": {"conv1[0]"},
            "conv2_b": {"conv1[1]"},
            "conv3": both["conv2"],
            "conv4_a": {"conv3[0]"},
            "conv4_b": {"conv3[1]"},
            "conv5_a": {"conv4_a"},
            "conv5_b": {"conv4_b"},
            "fc6": both["conv5"],
            "fc7": {"fc6"},
            "fc8": {"fc7"},
        }
    elif model.name == "conv_fc":
        expected = {
            "conv1_a": {"images"},
            "conv1_b": {"images"},
            "conv2_a": {"conv1_a"},
            "conv2_b": {"conv1_b"},
            "conv3": both["conv2"],
            "conv4": {"conv3"},
            "conv5": {"conv4"},
            "fc6": {"conv5"},
            "fc7": {"fc6"},
            "fc8": {"fc7"},
        }
    else:
        expected = {stage: {before} for before, stage in zip(("images", *STAGES), STAGES)}
    assert all_sees == expected


def halves(x, two):
    return np.split(x, 2, axis=-1) if two else [x]


def same_map_lrn(x):
    """x / (1 + .001 / 25 * sum over 5 x 5 pixels of x^2)^.75."""
    height, width = x.shape[1:3]
    padded = np.pad(x.astype("float64") ** 2, ((0, 0), (2, 2), (2, 2), (0, 0)))
    total = sum(padded[:, y : y + height, x_ : x_ + width] for y in range(5) for x_ in range(5))
    return (x / (1 + 0.001 / 25 * total) ** 0.75).astype("float32")


def reference(row, weights, images):
    """Computes the row's network from the tables above.

    Args:
        row: Its name.
        weights: {"conv1_a": [kernel, bias], ...}.
        images: Float, [batch, size, size, 3].

    Returns:
        {name: output} of every weight layer, before what follows it.
    """
    if row == "torchvision":
        x = (images / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    else:
        x = images - (122.67891434, 116.66876762, 104.00698793)
    x, outputs = x.astype("float32"), {}
    paddings = {
        "conv1": FACTS[row].conv1_padding,
        "conv2": (2, 2),
        "conv3": (1, 1),
        "conv4": (1, 1),
        "conv5": (1, 1),
        "fc6": (0, 0),
        "fc7": (0, 0),
        "fc8": (0, 0),
    } | FACTS[row].paddings
    for stage, following in FACTS[row].steps.items():
        names = sorted(name for name in weights if name.split("_")[0] == stage)
        for number, name in enumerate(names):
            kernel, *bias = weights[name]
            if kernel.ndim == 2 and x.ndim == 4:
                x = x.reshape(len(x), -1)
            width = kernel.shape[-2]  # Half of the maps is this tower's own half.
            own = x if width == x.shape[-1] else x[..., number * width : (number + 1) * width]
            if kernel.ndim == 2:
                y = own @ kernel
            else:
                before_after = paddings[stage]
                own = np.pad(own, ((0, 0), before_after, before_after, (0, 0)))
                y = tf.nn.conv2d(own, kernel, strides=FACTS[row].strides.get(stage, 1), padding="VALID").numpy()
            outputs[name] = y + bias[0] if bias else y
        x = np.concatenate([outputs[name] for name in names], axis=-1)
        for step in following:
            if step == "relu":
                x = np.maximum(x, 0)
            elif step == "lrn":
                k, alpha, inside = FACTS[row].lrn
                x = np.concatenate([lrn(half, k, alpha) for half in halves(x, inside and len(names) == 2)], axis=-1)
            elif step == "same_map_lrn":
                x = same_map_lrn(x)
            elif step == "pool":
                x = max_pool(x, FACTS[row].pool)
    return outputs


def loud_images(row, count=1):
    """Returns images with ten times the usual contrast, so that LRN changes much and not a hundredth."""
    size = FACTS[row].image_size
    return np.random.default_rng(1).uniform(-1000, 1250, (count, size, size, 3)).astype("float32")


def weights_of(model):
    return {layer.name: [v.numpy() for v in layer.weights] for layer in weighing_layers(model)}


def outputs_of(model, images):
    inner = keras.Model(model.input, {layer.name: layer.output for layer in weighing_layers(model)})
    return {name: value.numpy() for name, value in inner(images).items()}


def difference(a, b):
    """Returns the largest difference over the largest value."""
    return np.abs(a - b).max() / np.abs(b).max()


def test_build_model_computes_what_the_tables_say(model):
    images = loud_images(model.name)
    outputs = outputs_of(model, images)
    expected = reference(model.name, weights_of(model), images)
    assert set(outputs) == set(expected)
    for name, value in expected.items():
        assert np.abs(value).max() > 0
        np.testing.assert_allclose(outputs[name], value, rtol=0, atol=5e-5 * np.abs(value).max(), err_msg=name)
    np.testing.assert_allclose(
        model(images), expected["fc8"].reshape(1, 1000), rtol=0, atol=5e-5 * np.abs(expected["fc8"]).max()
    )


def test_initial_weights_are_the_sources(model):
    check = {"torchvision": assert_uniform, "tf1_class": assert_tf1_class}.get(model.name, assert_gaussians)
    check(model)


def assert_gaussians(model):
    expected = dict(zip(STAGES, gaussians_of(model.name), strict=True))
    for layer in weighing_layers(model):
        std, bias = expected[stage_of(layer)]
        assert_gaussian(layer.kernel.numpy(), std, layer.name)
        np.testing.assert_array_equal(layer.bias.numpy(), np.float32(bias))


def assert_gaussian(values, std, name):
    """Five standard errors; and not truncated at two standard deviations, as Keras' TruncatedNormal is."""
    np.testing.assert_allclose(values.std(dtype="float64"), std, rtol=5 / np.sqrt(2 * values.size), err_msg=name)
    np.testing.assert_allclose(values.mean(dtype="float64"), 0, atol=5 * std / np.sqrt(values.size), err_msg=name)
    assert np.abs(values).max() > 2.5 * std, name


def assert_uniform(model):
    fan_ins = {
        "conv1": 363,
        "conv2": 1600,
        "conv3": 1728,
        "conv4": 3456,
        "conv5": 2304,
        "fc6": 9216,
        "fc7": 4096,
        "fc8": 4096,
    }
    for layer in weighing_layers(model):
        limit = 1 / np.sqrt(fan_ins[layer.name])
        for values, least in ((layer.kernel.numpy(), 0.999), (layer.bias.numpy(), 0.9)):
            assert least * limit < np.abs(values).max() <= limit * (1 + 1e-6), layer.name
            assert abs(values.mean()) < 5 * limit / np.sqrt(3 * values.size)
            # Its 4th moment is 9/5 of the squared variance: five standard errors of the variance.
            np.testing.assert_allclose(
                values.var(dtype="float64"), limit**2 / 3, rtol=5 * np.sqrt(0.8 / values.size), err_msg=layer.name
            )


def assert_tf1_class(model):
    for layer in weighing_layers(model):
        kernel = layer.kernel.numpy()
        if layer.name.startswith("conv"):
            # tf.truncated_normal draws again beyond two standard deviations: .8796 of the standard deviation is left.
            assert 0.199 < np.abs(kernel).max() <= 0.2
            np.testing.assert_allclose(kernel.std(dtype="float64"), 0.08796, rtol=5 / np.sqrt(2 * kernel.size))
        else:
            assert_gaussian(kernel, 1, layer.name)
            assert_gaussian(layer.bias.numpy(), 1, layer.name)


def test_towers_start_from_different_weights(model):
    for layer in weighing_layers(model):
        if layer.name.endswith("_b"):
            other = model.get_layer(layer.name[:-1] + "a")
            a, b = (each.kernel.numpy().ravel()[:17_424] for each in (layer, other))
            assert abs(np.corrcoef(a, b)[0, 1]) < 0.05


def flat(model):
    return np.concatenate([v.numpy().ravel() for v in model.trainable_variables if v.path.endswith("kernel")])


def test_build_model_same_seed_same_weights():
    np.testing.assert_array_equal(flat(alexnet.build_model(TINY, seed=3)), flat(alexnet.build_model(TINY, seed=3)))


def test_build_model_other_seed_other_weights_everywhere():
    a, b = flat(alexnet.build_model(TINY, seed=3)), flat(alexnet.build_model(TINY, seed=4))
    assert (a == b).mean() < 0.01


def test_build_model_seeds_share_no_kernel():
    """A tower of one seed must not be the other tower of the next: ensembles would be half the same network."""
    kernels = [
        v.numpy().ravel()
        for seed in range(3)
        for v in alexnet.build_model(TINY, seed=seed).trainable_variables
        if v.path.startswith("conv1") and v.path.endswith("kernel")
    ]
    for i, a in enumerate(kernels):
        for b in kernels[:i]:
            assert abs(np.corrcoef(a, b)[0, 1]) < 0.2


def tiny_images(count=2):
    return np.random.default_rng(0).uniform(0, 255, (count, 67, 67, 3)).astype("float32")


# What Keras 3.10's Dense writes; it refuses a file that has anything else.
KERAS_3_10_DENSE = (
    "name trainable dtype units activation use_bias kernel_initializer bias_initializer kernel_regularizer "
    "bias_regularizer kernel_constraint bias_constraint"
).split()


# Keras 3.15 saves a TensorFlow variable with a call that NumPy 2 warns of.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.parametrize("architecture", [TINY, TINY_GROUPS], ids=lambda row: row.name)
def test_build_model_survives_a_keras_file(architecture, tmp_path):
    model = alexnet.build_model(architecture)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(tiny_images()), model(tiny_images()))
    assert [v.path for v in loaded.variables] == [v.path for v in model.variables]
    config = json.loads(zipfile.ZipFile(tmp_path / "model.keras").read("config.json"))["config"]
    [dense, *_] = [layer["config"] for layer in config["layers"] if layer["class_name"] == "Dense"]
    assert [*dense] == KERAS_3_10_DENSE


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("architecture", [TINY, TINY_GROUPS], ids=lambda row: row.name)
def test_build_model_gives_float32_logits_under_mixed_precision(architecture, policy):
    expected = alexnet.build_model(architecture)(tiny_images()).numpy()
    keras.config.set_dtype_policy(policy)
    model = alexnet.build_model(architecture)
    logits = model(tiny_images())
    assert logits.dtype == "float32"
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    assert weighing_layers(model)[0].compute_dtype == policy.removeprefix("mixed_")
    np.testing.assert_allclose(logits, expected, rtol=0, atol=0.03 * np.abs(expected).max())


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("architecture", [TINY, TINY_GROUPS], ids=lambda row: row.name)
def test_for_export_keeps_weights_in_the_dtype_they_are_computed_in(architecture, policy):
    model = alexnet.build_model(architecture, precision=policy, lrn_implementation="builtin")
    copy = alexnet.for_export(model, "builtin")
    dtypes = {v.path.split("/")[0]: v.dtype for v in copy.trainable_variables}
    assert dtypes.pop("fc8") == "float32" and set(dtypes.values()) == {policy.removeprefix("mixed_")}
    np.testing.assert_array_equal(copy(tiny_images()), model(tiny_images()))


def test_build_model_dropout_is_active_in_training_only():
    model = alexnet.build_model(TINY)
    images = tiny_images()
    np.testing.assert_array_equal(model(images), model(images, training=False))
    first, second = model(images, training=True).numpy(), model(images, training=True).numpy()
    assert (first != second).any()
    assert {int(v.value) for v in model.non_trainable_variables} == {2}


def test_build_model_takes_uint8_and_a_mean_image():
    images = np.random.default_rng(0).integers(0, 256, (2, 67, 67, 3), "uint8")
    mean = np.random.default_rng(1).uniform(0, 255, (67, 67, 3)).astype("float32")
    with_image, with_zero = alexnet.build_model(TINY, mean=mean), alexnet.build_model(TINY, mean=np.zeros(3))
    np.testing.assert_allclose(with_image(images), with_zero(images - mean), rtol=1e-5, atol=1e-6)
    assert difference(with_image(images).numpy(), with_zero(images).numpy()) > 0.01


# conv_fc without zeros inside, so that a map's position is exactly a crop's prediction: 16 pixels are one position.
WINDOWS = dataclasses.replace(
    TINY,
    name="windows",
    stages=(
        TINY.stages[0],
        dataclasses.replace(TINY.stages[1], padding=(0, 0), kernel_size=1),
        dataclasses.replace(TINY.stages[2], kernel_size=3, towers=1),
        dataclasses.replace(TINY.stages[3], kernel_size=1),
    ),
)


def test_build_model_on_a_larger_image_gives_the_map_of_the_crops_predictions():
    image = np.random.default_rng(0).uniform(0, 255, (1, 99, 99, 3)).astype("float32")
    small, large = alexnet.build_model(WINDOWS), alexnet.build_model(WINDOWS, image_size=99)
    assert small.output_shape == (None, 5)
    logits = large(image).numpy()
    assert logits.shape == (1, 3, 3, 5)
    for row in range(3):
        for column in range(3):
            crop = image[:, 16 * row : 16 * row + 67, 16 * column : 16 * column + 67]
            np.testing.assert_allclose(logits[:, row, column], small(crop), rtol=1e-4, atol=1e-6)


def test_conv_fc_on_a_larger_image_applies_its_dense_layers_everywhere():
    """Inside, conv2 to conv5 see the neighbouring pixels where a crop has zeros: the windows are those of pool5."""
    model = alexnet.build_model(architectures.ARCHITECTURES["conv_fc"], image_size=259)
    assert model.output_shape == (None, 2, 2, 1000)
    inner = keras.Model(model.input, [model.get_layer("conv5_pool").output, model.output])
    image = np.random.default_rng(1).uniform(-1000, 1250, (1, 259, 259, 3)).astype("float32")
    pool5, logits = (value.numpy() for value in inner(image))
    weights = weights_of(model)
    for row in range(2):
        for column in range(2):
            x = pool5[:, row : row + 6, column : column + 6].reshape(1, -1)
            for name in ("fc6", "fc7", "fc8"):
                kernel, bias = weights[name]
                x = x @ kernel.reshape(-1, kernel.shape[-1]) + bias
                x = x if name == "fc8" else np.maximum(x, 0)
            np.testing.assert_allclose(logits[:, row, column], x, rtol=0, atol=5e-5 * np.abs(x).max())


@pytest.mark.parametrize(
    ("kernel_size", "padding", "size"),
    [(2, (0, 0), 6), (2, (0, 1), 7), (4, (1, 1), 6), (4, (1, 2), 7), (3, (1, 1), 7), (3, (0, 0), 5), (3, (0, 1), 6)],
)
def test_build_model_pads_even_kernels_as_the_stage_says(kernel_size, padding, size):
    stage = dataclasses.replace(TINY.stages[1], kernel_size=kernel_size, padding=padding, ops=("relu",))
    model = alexnet.build_model(dataclasses.replace(TINY, stages=(TINY.stages[0], stage, *TINY.stages[2:])))
    assert model.get_layer("conv2_a").output.shape == (None, size, size, 4)


@pytest.mark.parametrize(("name", "size"), [("paper", 224), ("paper", 256), ("torchvision", 227), ("conv_fc", 226)])
def test_build_model_refuses_an_image_size(name, size):
    row = architectures.ARCHITECTURES[name]
    with pytest.raises(ValueError, match=f"{name} takes images of {row.image_size} pixels; got image_size={size}"):
        alexnet.build_model(row, image_size=size)


def test_build_model_refuses_an_unknown_distribution():
    stages = (dataclasses.replace(TINY.stages[0], kernel=architectures.Init("cauchy", 1.0)), *TINY.stages[1:])
    with pytest.raises(ValueError, match="distribution is not known: 'cauchy'"):
        alexnet.build_model(dataclasses.replace(TINY, stages=stages))


def test_build_model_has_the_classes_it_is_asked_for():
    assert alexnet.build_model(architectures.with_num_classes(TINY, 7)).output_shape == (None, 7)


def test_torchvision_row_equals_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is optional: pip install torch")
    nn = torch.nn
    peer = torchvision_alexnet(nn, units=4096, classes=1000).eval()
    model = alexnet.build_model(architectures.TORCHVISION, seed=1)
    layers_of_peer = [layer for layer in peer.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    for name, layer in zip(architectures.TORCHVISION.layer_names, layers_of_peer, strict=True):
        kernel, bias = (weight.numpy() for weight in model.get_layer(name).weights)
        if name == "fc6":  # Ours flattens rows, columns, channels; PyTorch channels, rows, columns.
            kernel = kernel.reshape(6, 6, 256, 4096).transpose(2, 0, 1, 3).reshape(9216, 4096)
        kernel = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(kernel.copy()))
            layer.bias.copy_(torch.tensor(bias))
    images = np.random.default_rng(0).uniform(0, 255, (2, 224, 224, 3)).astype("float32")
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # Their transform, on [0, 1].
    normalized = torch.tensor(((images / 255 - mean) / std).astype("float32").transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        expected = peer(normalized).numpy()
    np.testing.assert_allclose(model(images).numpy(), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_build_model_without_initialisation_has_zero_kernels_and_the_same_configuration():
    drawn, empty = (alexnet.build_model(TINY, initialize=initialize) for initialize in (True, False))
    for variable in empty.variables:
        if variable.path.endswith("kernel"):
            assert not np.any(variable.numpy())
    assert [layer.get_config() for layer in empty.layers] == [layer.get_config() for layer in drawn.layers]
