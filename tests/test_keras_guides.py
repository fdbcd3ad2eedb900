"""Keras' own guides (keras.io/guides, keras.io/examples/vision/grad_cam), line by line as people copy them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import alexnet_tf
from alexnet_tf.network import architectures
from tests.helpers.networks import TINY, narrow

# Keras' own: when it saves, when it is given a data set, when it exports to ONNX.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning"),
    pytest.mark.filterwarnings("ignore:In the future `np.object`:FutureWarning"),
]

IMAGES = np.random.default_rng(0).uniform(0, 255, (16, 67, 67, 3)).astype("float32")
LABELS = np.arange(16) % 3
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture(autouse=True)
def narrow_networks(monkeypatch):
    monkeypatch.setitem(architectures.ARCHITECTURES, "paper", TINY)
    monkeypatch.setitem(architectures.ARCHITECTURES, "torchvision", narrow(architectures.ARCHITECTURES["torchvision"]))


def compiled(**options):
    model = alexnet_tf.build_model("paper", num_classes=3)
    model.compile(keras.optimizers.Adam(), LOSS, metrics=["accuracy"], **options)
    return model


def moved(before, variables):
    return [bool((value != variable.numpy()).any()) for value, variable in zip(before, variables, strict=True)]


def test_transfer_learning_and_fine_tuning(tmp_path):
    base = alexnet_tf.build_model("paper", include_top=False)
    base.trainable = False
    inputs = keras.Input(shape=(67, 67, 3))
    x = keras.layers.RandomFlip("horizontal")(inputs)
    x = base(x, training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.2)(x)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    model.compile(keras.optimizers.Adam(), LOSS, metrics=[keras.metrics.SparseCategoricalAccuracy()])
    before = [variable.numpy() for variable in base.weights]
    model.fit(IMAGES, LABELS, verbose=0)
    assert moved(before, base.weights) == [False] * len(before)
    base.trainable = True
    model.compile(keras.optimizers.Adam(1e-5), LOSS)
    model.fit(IMAGES, LABELS, verbose=0)
    assert moved(before, base.weights) == [True] * len(before)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0), atol=1e-5)


def test_feature_extraction():
    model = alexnet_tf.build_model("paper")
    every = keras.Model(inputs=model.inputs, outputs=[layer.output for layer in model.layers])
    by_name = {layer.name: value for layer, value in zip(model.layers, every([IMAGES]), strict=True)}
    one = keras.Model(inputs=model.inputs, outputs=model.stage("conv2_relu").output)([IMAGES])
    towers = [by_name[f"conv2_{tower}_relu"] for tower in "ab"]
    np.testing.assert_allclose(one, np.concatenate(towers, axis=-1), atol=1e-5)
    np.testing.assert_allclose(by_name["fc8"], model(IMAGES), atol=1e-5)


def test_grad_cam():
    image = np.random.default_rng(0).uniform(0, 255, (1, 224, 224, 3)).astype("float32")
    model = alexnet_tf.build_model("torchvision")
    model.layers[-1].activation = None
    last_conv_layer_name = "conv5"
    grad_model = keras.models.Model(model.inputs, [model.get_layer(last_conv_layer_name).output, model.output])
    with tf.GradientTape() as tape:
        last_conv_layer_output, preds = grad_model([image])
        pred_index = tf.argmax(preds[0])
        class_channel = preds[:, pred_index]
    grads = tape.gradient(class_channel, last_conv_layer_output)
    pooled_grads = tf.reduce_mean(grads, axis=(0, 1, 2))
    heatmap = tf.squeeze(last_conv_layer_output[0] @ pooled_grads[..., tf.newaxis])
    ours = alexnet_tf.grad_cam(model, image[0], layer="conv5")
    assert ours.max() > 0
    np.testing.assert_allclose(ours, tf.maximum(heatmap, 0), atol=1e-5 * ours.max())
    with pytest.raises(ValueError, match=r"conv2 is two layers, conv2_a and conv2_b; model.stage\('conv2'\) has both"):
        alexnet_tf.build_model("paper").get_layer("conv2")


def test_writing_a_training_loop_from_scratch():
    model = alexnet_tf.build_model("paper", num_classes=3)
    optimizer = keras.optimizers.SGD(learning_rate=1e-3)
    before = [variable.numpy() for variable in model.trainable_weights]

    @tf.function
    def train_step(x, y):
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss_value = LOSS(y, logits)
        grads = tape.gradient(loss_value, model.trainable_weights)
        optimizer.apply(grads, model.trainable_weights)
        return loss_value

    for x, y in tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).shuffle(16).batch(4):
        assert np.isfinite(train_step(x, y))
    assert all(moved(before, model.trainable_weights))
    # The steps of dropout move on, so that no two are alike.
    assert (model(IMAGES, training=True).numpy() != model(IMAGES, training=True).numpy()).any()


def test_customizing_what_happens_in_fit():
    class CustomModel(keras.Model):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(y=y, y_pred=self(x, training=True))
            self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
            return {"loss": loss}

    network = alexnet_tf.build_model("paper", num_classes=3)
    before = [variable.numpy() for variable in network.trainable_variables]
    model = CustomModel(network.input, network.output)
    model.compile("adam", LOSS)
    model.fit(IMAGES, LABELS, verbose=0)
    assert all(moved(before, network.trainable_variables))


def test_serialization_and_callbacks(tmp_path):
    model = compiled()
    callbacks = [
        keras.callbacks.ModelCheckpoint(tmp_path / "model.keras", save_best_only=True),
        keras.callbacks.EarlyStopping(patience=3),
        keras.callbacks.ReduceLROnPlateau(),
        keras.callbacks.BackupAndRestore(tmp_path / "backup"),
        keras.callbacks.CSVLogger(str(tmp_path / "log.csv")),
    ]
    model.fit(IMAGES, LABELS, verbose=0, callbacks=callbacks, validation_split=0.25)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0), atol=1e-5)
    # It goes on from where it was: with its loss, and Adam's step and moments.
    assert loaded.optimizer.iterations.numpy() == model.optimizer.iterations.numpy() == 1
    for ours, theirs in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert np.isfinite(loaded.fit(IMAGES, LABELS, verbose=0).history["loss"]).all()
    model.save_weights(tmp_path / "model.weights.h5")
    for other in (
        alexnet_tf.build_model("paper", num_classes=3, seed=1),
        keras.models.clone_model(model),
        model.__class__.from_config(model.get_config()),
        keras.models.model_from_json(model.to_json()),
    ):
        assert isinstance(other, type(model))
        other.load_weights(tmp_path / "model.weights.h5")
        np.testing.assert_array_equal(other.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = compiled()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    before = [variable.numpy() for variable in model.trainable_variables]
    model.fit(IMAGES, LABELS, verbose=0)
    assert model.output.dtype == "float32"
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    if policy == "mixed_bfloat16":  # float16's first loss scale is too large, so that Keras leaves steps out.
        assert all(moved(before, model.trainable_variables))


@pytest.mark.filterwarnings("ignore:.*does not have a `quantize` method:UserWarning")
def test_quantization(tmp_path):
    model = alexnet_tf.build_model("paper", num_classes=3)
    expected = model.predict(IMAGES, verbose=0)
    model.quantize("int8")
    assert "int8" in {variable.dtype for variable in model.get_layer("fc8").variables}
    quantized = model.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(quantized, expected, atol=0.03 * np.abs(expected).max())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(IMAGES, verbose=0), quantized, atol=1e-5)


@pytest.mark.parametrize("options", [{"jit_compile": True, "steps_per_execution": 2}, {"run_eagerly": True}])
def test_fit_with_tf_data(options):
    model = compiled(**options)
    before = [variable.numpy() for variable in model.trainable_variables]
    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).cache().shuffle(16).batch(4).prefetch(1)
    model.fit(dataset, validation_data=dataset, class_weight={0: 1.0, 1: 2.0, 2: 1.0}, verbose=0)
    assert all(moved(before, model.trainable_variables))
    np.testing.assert_allclose(model.predict(IMAGES, verbose=0), model(IMAGES), atol=1e-5)


def test_lora():
    model = alexnet_tf.build_model("paper", num_classes=3)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense):
            layer.enable_lora(2)
    kernels = [layer._kernel for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    before = [variable.numpy() for variable in kernels]
    model.compile("adam", LOSS)
    model.fit(IMAGES, LABELS, verbose=0)
    assert moved(before, kernels) == [False] * len(kernels)


def test_export(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    model = alexnet_tf.build_model("paper", num_classes=3)
    expected = model.predict(IMAGES, verbose=0)
    model.export(tmp_path / "saved_model", verbose=False)
    layer = keras.layers.TFSMLayer(tmp_path / "saved_model", call_endpoint="serve")
    np.testing.assert_allclose(layer(IMAGES), expected, atol=1e-5)
    model.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    [logits] = session.run(None, {session.get_inputs()[0].name: IMAGES})
    np.testing.assert_allclose(logits, expected, atol=1e-4)
