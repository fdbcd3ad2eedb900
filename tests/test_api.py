"""The Python interface, as a notebook uses it."""

import json
import multiprocessing
import os
import pathlib
import subprocess
import sys
import weakref

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from ai_edge_litert import interpreter

import alexnet_tf
from alexnet_tf.network import alexnet, architectures
from tests.helpers import keras_training
from tests.helpers.keras_training import IMAGES, plain
from tests.helpers.networks import SMALL, TINY

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def tiny(monkeypatch):
    """A small network under the name that `build_model` takes by default."""
    monkeypatch.setitem(architectures.ARCHITECTURES, "paper", TINY)


@pytest.fixture(scope="module")
def run(small_run):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(architectures.ARCHITECTURES, "small", SMALL)
        yield alexnet_tf.load_run(small_run)


def fresh(code):
    """Runs code in a process of its own, and returns the last line that it prints."""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.splitlines()[-1]


def tinted(count):
    """Images of five colours, and their labels."""
    labels = np.arange(count) % 5
    colours = np.array([[220, 30, 30], [220, 220, 30], [30, 160, 30], [30, 30, 220], [240, 240, 240]])
    images = np.random.default_rng(0).normal(colours[labels][:, None, None], 40, (count, 227, 227, 3))
    return np.clip(images, 0, 255).astype("uint8"), labels


def test_the_example_of_the_readme_learns():
    images, labels = tinted(80)
    model = alexnet_tf.build_model("paper", num_classes=5)
    model.compile(
        optimizer=keras.optimizers.Adam(1e-4),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(images[:60], labels[:60], batch_size=20, epochs=3, verbose=0)
    assert model.evaluate(images[60:], labels[60:], verbose=0, return_dict=True)["accuracy"] > 0.8


@pytest.mark.usefixtures("tiny")
def test_build_model_takes_what_people_type():
    assert alexnet_tf.build_model().output_shape == (None, 5)
    assert alexnet_tf.build_model("Paper", num_classes=3).output_shape == (None, 3)
    assert alexnet_tf.build_model("paper", image_size=(67, 67)).input_shape == (None, 67, 67, 3)
    assert alexnet_tf.build_model("paper", image_size=(67, 67, 3)).input_shape == (None, 67, 67, 3)
    assert alexnet_tf.build_model(TINY, num_classes=2).output_shape == (None, 2)
    with pytest.raises(alexnet_tf.UserError, match="architecture must be one of paper, .*; got 'alexnet'"):
        alexnet_tf.build_model("alexnet")


@pytest.mark.filterwarnings("ignore:Palette images with Transparency:UserWarning")
@pytest.mark.parametrize(
    "suffix, mode, options",
    [
        (".png", "RGB", {}),
        (".png", "P", {}),
        (".png", "1", {}),
        (".png", "LA", {}),
        (".png", "RGBA", {}),
        (".png", "I;16", {}),
        (".gif", "P", {}),
        (".jpg", "L", {}),
        (".jpg", "CMYK", {}),
        (".jpg", "RGB", {"exif": 6}),
        (".tif", "CMYK", {}),
        (".webp", "RGB", {}),
    ],
)
def test_a_pil_image_is_what_its_file_is(run, colours, tmp_path, suffix, mode, options):
    picture = PIL.Image.open(next((colours / "val" / "red").glob("*.png"))).convert("RGB").resize((150, 90))
    picture.paste((0, 90, 250), (0, 0, 70, 45))
    if "exif" in options:
        exif = PIL.Image.Exif()
        exif[0x0112] = options["exif"]
        options = {"exif": exif}
    if mode == "I;16":
        picture = PIL.Image.fromarray(np.asarray(picture.convert("L")).astype("uint16") * 257)
    path = tmp_path / f"image{suffix}"
    (picture if mode == "I;16" else picture.convert(mode)).save(path, **options)
    with PIL.Image.open(path) as opened:
        assert opened.mode == mode
        np.testing.assert_allclose(run.predict(opened), run.predict(path), atol=2e-3)


@pytest.mark.usefixtures("tiny")
def test_build_model_starts_so_that_it_learns_and_as_the_source_when_asked():
    def kernel(*arguments, **options):
        return alexnet_tf.build_model(*arguments, **options).get_layer("conv1_a").kernel.numpy()

    # 11 x 11 x 3 inputs, gain sqrt(2).
    assert kernel().std() == pytest.approx((2 / 363) ** 0.5, rel=0.1)
    assert kernel(initialization="source").std() == pytest.approx(0.01, rel=0.1)
    assert np.array_equal(kernel(TINY), alexnet.build_model(TINY).get_layer("conv1_a").kernel.numpy())


def test_summary_counts_no_dropout_counters():
    lines = []
    alexnet_tf.build_model("paper").summary(print_fn=lines.append)
    assert "Total params: 60,965,224" in "\n".join(lines)


@pytest.mark.usefixtures("tiny")
def test_include_top_false_gives_one_output_for_both_towers_at_any_size():
    model = alexnet_tf.build_model("paper", include_top=False, image_size=(90, 131))
    whole = alexnet_tf.build_model("paper")
    assert model.output_shape == (None, 4, 7, 8)
    assert [v.path for v in model.trainable_variables] == [v.path for v in whole.trainable_variables[:8]]
    same = alexnet_tf.build_model("paper", include_top=False)
    images = np.random.default_rng(0).uniform(0, 255, (2, 67, 67, 3)).astype("float32")
    towers = keras.Model(whole.input, [whole.get_layer(f"conv2_{tower}_pool").output for tower in "ab"])
    np.testing.assert_allclose(same(images).numpy(), np.concatenate(towers(images), axis=-1), atol=1e-5)
    with pytest.raises(ValueError, match="needs images of at least 35 pixels; got image_size=34"):
        alexnet_tf.build_model("paper", include_top=False, image_size=34)
    with pytest.raises(ValueError, match="include_top=False takes other sizes"):
        alexnet_tf.build_model("paper", image_size=90)


@pytest.mark.usefixtures("tiny")
def test_a_stage_is_the_layers_of_both_towers():
    model = alexnet_tf.build_model()
    images = np.random.default_rng(0).uniform(0, 255, (2, 67, 67, 3)).astype("float32")
    fc6 = model.stage("fc6_relu")
    joined = keras.Model(model.input, [fc6.output, model.stage("fc6_relu").output])(images)  # Twice the same.
    towers = keras.Model(model.input, [model.get_layer(f"fc6_{tower}_relu").output for tower in "ab"])(images)
    assert all(np.array_equal(each, np.concatenate(towers, axis=-1)) for each in joined)
    assert model.stage("fc6").output.shape == (None, 8) and model.get_layer("fc6_a").units == 4
    assert [array.shape for array in model.stage("fc6").get_weights()] == [(72, 4), (4,)] * 2
    assert model.stage("fc8").layers == (model.layers[-1],)
    with pytest.raises(ValueError, match=r"fc6 is two layers, fc6_a and fc6_b; model.stage\('fc6'\) has both"):
        model.get_layer("fc6")
    for find in (model.get_layer, model.stage):
        with pytest.raises(ValueError, match="No such layer: fc9"):
            find("fc9")


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("freeze", ["stage", "freeze_until"])
def test_what_is_frozen_does_not_move_and_all_else_does(freeze):
    model = alexnet_tf.build_model(num_classes=3)
    if freeze == "stage":
        for name in ("conv1", "conv2"):
            stage = model.stage(name)
            stage.trainable = False
            assert not stage.trainable
    else:
        model.freeze_until("conv2")
    before = {v.path: v.numpy() for v in model.trainable_variables + model.non_trainable_variables}
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.random.default_rng(0).uniform(0, 255, (4, 67, 67, 3)), np.array([0, 1, 2, 0]), verbose=0)
    kernels = [v for v in model.variables if v.path.endswith("kernel")]
    moved = {v.path.partition("/")[0] for v in kernels if not np.array_equal(v.numpy(), before[v.path])}
    assert moved == {"fc6_a", "fc6_b", "fc8"}


def test_load_run_predicts_files_and_arrays(run, colours):
    assert (
        isinstance(run.model, keras.Model) and run.class_names == sorted(run.class_names) and len(run.class_names) == 5
    )
    paths = sorted((colours / "val" / "red").iterdir())[:3]
    probabilities = run.predict(paths)
    assert probabilities.shape == (3, 5) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    everything = [(name, path) for name in run.class_names for path in (colours / "val" / name).iterdir()]
    predicted = run.predict([path for _, path in everything]).argmax(axis=1)
    assert np.mean([name == run.class_names[index] for (name, _), index in zip(everything, predicted)]) > 0.7
    arrays = [keras.utils.img_to_array(keras.utils.load_img(path)) for path in paths if path.suffix == ".png"]
    expected = [row for path, row in zip(paths, probabilities) if path.suffix == ".png"]
    np.testing.assert_allclose(run.predict(arrays), expected, atol=1e-4)
    np.testing.assert_allclose(run.predict(arrays[0]), expected[:1], atol=1e-4)
    np.testing.assert_allclose(run.predict(str(paths[0])), probabilities[:1], atol=1e-5)
    with pytest.raises(alexnet_tf.UserError, match="nowhere.jpg cannot be read: No such file"):
        run.predict(["nowhere.jpg"])


def test_predict_refuses_what_is_no_image_file_and_does_not_wait(run, tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "text.jpg").write_text("no image")
    with open(tmp_path / "huge.jpg", "wb") as file:
        file.truncate(3 * 2**30)
    for name, reason in {
        "pipe": "it is not a regular file",
        "zero": "it is not a regular file",
        "text": "it is not an image of a known format",
        "huge": "the file has 3,221,225,472 bytes",
    }.items():
        with pytest.raises(alexnet_tf.UserError, match=f"{name}.jpg cannot be read: {reason}"):
            run.predict([tmp_path / f"{name}.jpg"])


def test_build_model_takes_the_weights_of_a_run(run, small_run):
    images = np.random.default_rng(0).uniform(0, 255, (2, 67, 67, 3)).astype("float32")
    model = alexnet_tf.build_model("small", weights=small_run)
    np.testing.assert_allclose(model(images).numpy(), run.model(images).numpy(), atol=1e-4)
    other = alexnet_tf.build_model(weights=small_run, num_classes=3)
    assert other.output_shape == (None, 3)
    assert np.array_equal(other.get_layer("fc7_a").kernel, model.get_layer("fc7_a").kernel)
    features = alexnet_tf.build_model(weights=small_run, include_top=False, image_size=100)
    assert np.array_equal(features.get_layer("conv2_b").kernel, model.get_layer("conv2_b").kernel)
    with pytest.raises(alexnet_tf.UserError, match="has no best checkpoint"):
        alexnet_tf.build_model(weights=small_run, checkpoint="best")
    for architecture in ("caffe", "paper"):
        with pytest.raises(alexnet_tf.UserError, match=f"is a run of small; got architecture='{architecture}'"):
            alexnet_tf.build_model(architecture, weights=small_run)
    for load in (
        alexnet_tf.load_run,
        lambda path, checkpoint: alexnet_tf.build_model(weights=path, checkpoint=checkpoint),
    ):
        with pytest.raises(alexnet_tf.UserError, match='checkpoint must be "last" or "best"; got \'Best\''):
            load(small_run, "Best")


def test_a_runs_model_learns_in_float32_and_predicts_as_it_has_become(small_run, colours, run):
    tuned = alexnet_tf.load_run(small_run, precision="mixed_bfloat16")
    before, path = [v.numpy() for v in tuned.model.trainable_variables], next((colours / "val" / "red").iterdir())
    expected = run.predict(path)
    np.testing.assert_allclose(tuned.predict(path), expected, atol=0.05)
    tuned.model.compile(keras.optimizers.SGD(1e-5), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images = np.random.default_rng(0).uniform(0, 255, (10, 67, 67, 3)).astype("float32")
    tuned.model.fit(images, np.arange(10) % 5, verbose=0)
    for variable, old in zip(tuned.model.trainable_variables, before, strict=True):
        assert variable.dtype == "float32"
        if variable.path.startswith("fc8"):
            assert (variable.numpy() != old).mean() > 0.5  # In bfloat16, none would.
    tuned.model.get_layer("fc8").bias.assign([0, 0, 100, 0, 0])
    assert tuned.predict(path)[0, 2] == 1


def test_predict_iter_asks_for_images_as_they_are_needed(run, colours):
    paths, asked = sorted((colours / "val").rglob("*.png")), []
    results = run.predict_iter((asked.append(path) or path for path in paths), batch_size=2)
    first = next(results)
    assert len(asked) < 10 < len(paths)
    np.testing.assert_allclose([first, *results], run.predict(paths), atol=1e-5)


def test_a_forked_process_is_refused_and_does_not_wait(run):
    reader, writer = os.pipe()
    if not (child := os.fork()):
        try:
            run.predict(np.zeros((8, 8, 3), "uint8"))
        except alexnet_tf.UserError as error:
            os.write(writer, str(error).encode())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert b"forked after TensorFlow was used" in os.read(reader, 1000)


def test_a_run_is_freed_with_its_last_name(small_run, run):
    other = alexnet_tf.load_run(small_run)
    other.predict(np.zeros((8, 8, 3), "uint8"))
    kernel = weakref.ref(other.model.get_layer("fc8").kernel)
    del other
    assert kernel() is None


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own, when it saves.
@pytest.mark.usefixtures("tiny")
def test_a_keras_file_loads_in_a_fresh_process(tmp_path):
    model, images = alexnet_tf.build_model(), np.random.default_rng(0).uniform(0, 255, (1, 67, 67, 3))
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images.astype("float32"))
    for imports in (
        "import alexnet_tf, keras",
        "import keras, alexnet_tf",
        "import alexnet_tf\nfrom tensorflow import keras",
    ):
        line = fresh(
            f"{imports}\nimport json, numpy as np\nmodel = keras.models.load_model({str(tmp_path)!r} + "
            "'/model.keras')\n"
            f"print(json.dumps(model(np.load({str(tmp_path)!r} + '/images.npy')).numpy().tolist()))"
        )
        np.testing.assert_allclose(json.loads(line), model(images).numpy(), atol=1e-5)


def test_it_trains_under_a_strategy_of_keras_as_on_one_device():
    before, one, losses = keras_training.fit(False)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        _, mirrored, losses_of_mirrored = pool.apply(keras_training.fit, (True,))
    np.testing.assert_allclose(losses_of_mirrored, losses, rtol=1e-4)
    for start, got, expected in zip(before, mirrored, one, strict=True):
        change = np.abs(expected - start).max()
        assert change > 1e-5
        np.testing.assert_allclose(got, expected, rtol=0, atol=0.002 * change)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own, when it saves.
def test_keras_saves_loads_and_exports_it(tmp_path):
    model = plain()
    expected = model(IMAGES).numpy()
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "model.keras")(IMAGES), expected, atol=1e-5)
    model.export(tmp_path / "exported", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(loaded.serve(IMAGES), expected, atol=1e-5)
    np.testing.assert_allclose(loaded.serve(IMAGES[:1]), expected[:1], atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")  # TensorFlow's own.
def test_tensorflows_own_converter_takes_it():
    model = plain()
    content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    runner = interpreter.Interpreter(model_content=content, num_threads=1)
    [taken], [given] = runner.get_input_details(), runner.get_output_details()
    runner.resize_tensor_input(taken["index"], IMAGES.shape)
    runner.allocate_tensors()
    runner.set_tensor(taken["index"], IMAGES)
    runner.invoke()
    np.testing.assert_allclose(runner.get_tensor(given["index"]), model(IMAGES), atol=1e-4)


def test_import_is_light_until_keras_is_asked_for():
    assert fresh("import sys, alexnet_tf; print('tensorflow' in sys.modules, alexnet_tf.__version__)") == (
        f"False {alexnet_tf.__version__}"
    )


def test_another_backend_is_refused_with_what_to_set(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(
        alexnet_tf.UserError, match="Keras runs on jax. Set the environment variable KERAS_BACKEND=tensorflow"
    ):
        alexnet.build_model(TINY)


@pytest.mark.usefixtures("tiny")
def test_settings_of_keras_json_change_nothing(monkeypatch):
    images = np.random.default_rng(0).uniform(0, 255, (2, 67, 67, 3)).astype("float32")
    expected = alexnet_tf.build_model()(images)
    keras.config.set_image_data_format("channels_first")
    try:
        assert np.array_equal(alexnet_tf.build_model()(images), expected)
    finally:
        keras.config.set_image_data_format("channels_last")


def test_predict_takes_grey_images_and_leaves_transparency_out(run):
    grey = np.random.default_rng(0).integers(0, 256, (90, 80), "uint8")
    expected = run.predict(np.stack([grey] * 3, -1))
    for image in (grey, grey[..., None], grey.astype("float32"), np.stack([grey] * 4, -1)):
        np.testing.assert_allclose(run.predict(image), expected, atol=1e-6)
    for image in (np.zeros((8, 8, 3), "float32"), np.ones((8, 8, 3), "uint8"), np.full((8, 8, 3), 258.0)):
        assert run.predict([image]).shape == (1, 5)  # Black is no normalised image, and a filter may overshoot.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda image: image / 255, r"values from 0\.\d+ to [01]\S*: was it normalised\? Expected RGB in \[0, 255\]"),
        (lambda image: image / 127.5 - 1, "was it normalised"),
        (lambda image: image - np.array([123.0, 117.0, 104.0]), "was it normalised"),
        (lambda image: (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225], "was it normalised"),
        (lambda image: (image - image.mean()) / image.std(), "was it normalised"),
        (lambda image: image / 64, "was it normalised"),
        (lambda image: image / 4 - 39, "was it normalised"),
        (lambda image: image.transpose(2, 0, 1), r"Got an image of shape \[3, 90, 80\]\. Expected RGB"),
        (lambda image: np.full(image.shape, np.nan), "values that are not numbers"),
        (lambda image: image[None], r"Got an image of shape \[1, 90, 80, 3\]"),
    ],
    ids=[
        "to 1",
        "from -1",
        "mean",
        "torchvision",
        "standardised",
        "to 4",
        "small mean",
        "channels first",
        "nan",
        "batches",
    ],
)
def test_predict_refuses_arrays_that_are_no_pixels(run, change, message):
    image = np.random.default_rng(0).integers(1, 256, (90, 80, 3), "uint8")
    with pytest.raises(alexnet_tf.UserError, match=message):
        run.predict([image, change(image)])


@pytest.mark.parametrize(
    "name, advice",
    [
        ("classes", "write num_classes="),
        ("input_shape", "write image_size="),
        ("pooling", "GlobalAveragePooling2D"),
        ("num_class", r"Did you mean 'num_classes'\?$"),
        ("xyz", "has no argument 'xyz'$"),
    ],
)
def test_arguments_of_keras_applications_are_told_what_to_write(name, advice):
    with pytest.raises(TypeError, match=advice):
        alexnet_tf.build_model("paper", **{name: 3})


@pytest.mark.usefixtures("tiny")
def test_arguments_without_a_meaning_are_refused():
    with pytest.raises(alexnet_tf.UserError, match="num_classes=3 has no meaning with include_top=False"):
        alexnet_tf.build_model("paper", include_top=False, num_classes=3)
    with pytest.raises(ValueError, match="num_classes must be at least 1; got 0"):
        alexnet_tf.build_model("paper", num_classes=0)
    with pytest.raises(alexnet_tf.UserError, match="must be 'softmax' or None; got 'sigmoid'"):
        alexnet_tf.build_model("paper", classifier_activation="sigmoid")


BY_NAME = ["sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy", "kl_divergence"]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    "loss", [*BY_NAME, keras.losses.SparseCategoricalCrossentropy(), keras.losses.sparse_categorical_crossentropy]
)
def test_a_loss_that_expects_probabilities_is_warned_of(loss):
    model = alexnet_tf.build_model()
    with pytest.warns(UserWarning, match=r"returns logits, .* expects probabilities: .*\(from_logits=True\)"):
        model.compile("adam", loss)
    alexnet_tf.build_model(classifier_activation="softmax").compile("adam", loss)


@pytest.mark.usefixtures("tiny")
def test_losses_that_fit_are_not_warned_of():
    for loss in (keras.losses.SparseCategoricalCrossentropy(from_logits=True), "mse", ["mae"], None):
        alexnet_tf.build_model().compile(loss=loss)
    with pytest.warns(UserWarning, match=r"returns probabilities, .* expects logits"):
        alexnet_tf.build_model(classifier_activation="softmax").compile(
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )


@pytest.mark.usefixtures("tiny")
def test_softmax_gives_probabilities():
    images = np.random.default_rng(0).uniform(0, 255, (2, 67, 67, 3)).astype("float32")
    probabilities = alexnet_tf.build_model(classifier_activation="softmax")(images)
    np.testing.assert_allclose(probabilities, tf.nn.softmax(alexnet_tf.build_model()(images)), atol=1e-6)


@pytest.mark.usefixtures("tiny")
def test_grad_cam_is_of_both_towers():
    model, image = alexnet_tf.build_model(), np.random.default_rng(0).uniform(0, 255, (67, 67, 3)).astype("float32")
    towers = [model.get_layer(f"conv2_{tower}_relu").output for tower in "ab"]
    with tf.GradientTape() as tape:
        maps, logits = keras.Model(model.input, (towers, model.output))(image[None])
        score = logits[0, 2]
    expected = sum(
        tf.reduce_sum(each[0] * tf.reduce_mean(slope[0], axis=(0, 1)), axis=-1)
        for each, slope in zip(maps, tape.gradient(score, maps), strict=True)
    )
    found = alexnet_tf.grad_cam(model, image, 2, "conv2_relu")
    assert found.max() > 0
    np.testing.assert_allclose(found, np.maximum(expected, 0), rtol=1e-4, atol=1e-6 * found.max())


@pytest.mark.usefixtures("tiny")
def test_the_old_format_of_keras_is_refused(tmp_path):
    with pytest.raises(alexnet_tf.UserError, match="Save the model as .keras"):
        alexnet_tf.build_model().save(tmp_path / "model.h5")
    assert not list(tmp_path.iterdir())
