"""Tests of `conversion`: weights in, weights out, against other engines on the same pixels, at full size.

The files that are read, and the networks that OpenCV, PyTorch and NumPy compute, are written out here by hand: nothing
of the code under test is in them.
"""

import dataclasses
import io
import json

import cv2
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from alexnet_tf.data import discovery, synthetic
from alexnet_tf.network import alexnet, architectures
from alexnet_tf.runs.config import MEAN_IMAGE, RunConfig, RunData, TrainConfig
from alexnet_tf.runs.directory import RunDirectory, load_model
from alexnet_tf.support import errors
from alexnet_tf.weights import conversion, formats
from alexnet_tf.weights.conversion import ImportOptions
from tests.helpers import commands
from tests.helpers.caffe import (
    CAFFE_ORDER,
    CAFFE_SHAPES,
    CLASSES,
    REST,
    TORCHVISION_SHAPES,
    WIDTH,
    blob,
    caffemodel_bytes,
    deploy,
    narrow,
    random_weights,
    state_dict,
)
from tests.helpers.torchvision_network import torchvision_alexnet


def opencv_logits(prototxt, model, images, mean, output="fc8"):
    """Logits [batch, classes] of images [batch, size, size, 3] RGB, in OpenCV."""
    net = cv2.dnn.readNetFromCaffe(*(np.frombuffer(each, "uint8") for each in (prototxt.encode(), model)))
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    blobs = (images - np.asarray(mean, "float32"))[..., ::-1].transpose(0, 3, 1, 2)
    logits = []
    for each in blobs:
        net.setInput(np.ascontiguousarray(each[None], "float32"))
        logits.append(net.forward(output).reshape(-1))
    return np.stack(logits)


def make_images(size, count=2):
    return np.random.default_rng(7).integers(0, 256, (count, size, size, 3)).astype("uint8")


def difference(a, b):
    """Largest difference over the largest value."""
    return np.abs(a - b).max() / np.abs(b).max()


CAFFE_MEAN = (122.67891434, 116.66876762, 104.00698793)


def deploy_of(row, **widths):
    return deploy(CAFFE_ORDER[row] + REST, **widths)


def imported(tmp_path, file_name, content, **arguments):
    """The run that is made of a file's content, and what was said."""
    (tmp_path / file_name).write_bytes(content)
    run = RunDirectory(tmp_path / f"run of {file_name}")
    return run, conversion.import_run(tmp_path / file_name, run.path, ImportOptions(**arguments))


@pytest.mark.parametrize("is_old", [False, True], ids=["layer", "layers"])
@pytest.mark.parametrize("row", ["caffe", "caffenet"])
def test_imported_caffemodel_computes_what_opencv_computes(row, is_old, class_file, tmp_path):
    weights = random_weights(narrow(CAFFE_SHAPES), 0)
    content = caffemodel_bytes(CAFFE_ORDER[row] + REST, weights, is_old)
    run, lines = imported(tmp_path, "a.caffemodel", content, classes=class_file)
    model, run_config, _ = load_model(run)
    images = make_images(227)
    logits = model(images).numpy()
    assert run_config.train.architecture == row and lines[0].startswith(
        f"Network: {row} (by its shapes and the order of"
    )
    assert difference(logits, opencv_logits(deploy_of(row), content, images, CAFFE_MEAN)) < 1e-4
    # The order of pooling and LRN is the only difference of the two, and the comparison sees it.
    other = "caffe" if row == "caffenet" else "caffenet"
    assert difference(logits, opencv_logits(deploy_of(other), content, images, CAFFE_MEAN)) > 1e-2


def test_imported_caffemodel_of_full_size_computes_what_opencv_computes(tmp_path):
    content = caffemodel_bytes(CAFFE_ORDER["caffe"] + REST, random_weights(CAFFE_SHAPES, 2))
    run, lines = imported(tmp_path, "a.caffemodel", content)
    model, run_config, _ = load_model(run)
    images = make_images(227, 1)
    assert "60,965,224 parameters" in lines[0] and run_config.train.recipe.resize == "caffe"
    assert (
        difference(
            model(images).numpy(),
            opencv_logits(deploy_of("caffe", width=4096, classes=1000), content, images, CAFFE_MEAN),
        )
        < 1e-4
    )
    assert run.class_names()[281] == "n02123045 tabby" and run_config.data.classes[281] == "n02123045"


def test_imported_mean_image_is_subtracted_at_its_place(class_file, tmp_path):
    weights = random_weights(narrow(CAFFE_SHAPES), 3)
    order = CAFFE_ORDER["caffe"] + REST
    mean = np.random.default_rng(1).uniform(90, 130, (3, 256, 256)).astype("float32")  # BGR, as Caffe has it.
    (tmp_path / "mean.binaryproto").write_bytes(blob(mean, is_old=True))
    np.save(tmp_path / "mean.npy", mean.astype("float64"))
    images = make_images(227, 1)
    shown = mean[::-1, 14:241, 14:241].transpose(1, 2, 0)
    expected = opencv_logits(deploy(order), caffemodel_bytes(order, weights), images, shown)
    for number, name in enumerate(("mean.binaryproto", "mean.npy")):
        run, lines = imported(
            tmp_path,
            f"{number}.caffemodel",
            caffemodel_bytes(order, weights),
            classes=class_file,
            mean=str(tmp_path / name),
        )
        assert "minus a mean image" in lines[1]
        assert difference(load_model(run)[0](images).numpy(), expected) < 1e-4
    run, _ = imported(
        tmp_path, "2.caffemodel", caffemodel_bytes(order, weights), classes=class_file, mean="104,117,123"
    )
    expected = opencv_logits(deploy(order), caffemodel_bytes(order, weights), images, (123, 117, 104))
    assert difference(load_model(run)[0](images).numpy(), expected) < 1e-4


def npy(weights):
    """bvlc_alexnet.npy of Caffe's weights, as caffe-tensorflow transposes them; pickled as NumPy does."""

    def keras(name, kernel):
        if name == "fc6":
            return kernel.reshape(-1, 256, 6, 6).transpose(2, 3, 1, 0).reshape(9216, -1)
        return kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T

    file = io.BytesIO()
    np.save(file, {name: [np.ascontiguousarray(keras(name, kernel)), bias] for name, (kernel, bias) in weights.items()})
    return file.getvalue()


def test_imported_npy_computes_what_opencv_computes(class_file, tmp_path):
    weights = random_weights(narrow(CAFFE_SHAPES), 4)
    run, lines = imported(tmp_path, "a.npy", npy(weights), classes=class_file)
    images = make_images(227)
    content = caffemodel_bytes(CAFFE_ORDER["caffe"] + REST, weights)
    assert "Network: caffe (assumed; it could be caffenet too" in lines[0]
    expected = opencv_logits(deploy_of("caffe"), content, images, CAFFE_MEAN)
    assert difference(load_model(run)[0](images).numpy(), expected) < 1e-4
    run, lines = imported(tmp_path, "b.npy", npy(weights), classes=class_file, architecture="caffenet")
    expected = opencv_logits(deploy_of("caffenet"), content, images, CAFFE_MEAN)
    assert difference(load_model(run)[0](images).numpy(), expected) < 1e-4


def torchvision_logits(weights, images):
    """torchvision's network in NumPy: x / 255, minus the mean, by the deviation; zeros of 2; no LRN."""
    x = ((images / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)).transpose(0, 3, 1, 2)
    for name, stride, padding in (("0", 4, 2), ("3", 1, 2), ("6", 1, 1), ("8", 1, 1), ("10", 1, 1)):
        kernel, bias = weights[f"features.{name}"]
        x = np.pad(x, ((0, 0), (0, 0), (padding,) * 2, (padding,) * 2))
        windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
        batch, _, height, width = windows.shape[:4]
        patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(batch * height * width, -1)
        x = patches @ kernel.reshape(len(kernel), -1).T + bias
        x = np.maximum(x.reshape(batch, height, width, -1).transpose(0, 3, 1, 2), 0)
        if name in ("0", "3", "10"):
            x = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))[:, :, ::2, ::2].max((-2, -1))
    x = x.reshape(len(x), -1)
    for name in ("1", "4", "6"):
        kernel, bias = weights[f"classifier.{name}"]
        x = x @ kernel.T + bias
        x = x if name == "6" else np.maximum(x, 0)
    return x


def torchvision_module(torch):
    module = torchvision_alexnet(torch.nn, WIDTH, CLASSES)
    module.eval()

    def logits(images):
        x = (torch.tensor(images, dtype=torch.float32) / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor(
            [0.229, 0.224, 0.225]
        )
        with torch.no_grad():
            return module(x.permute(0, 3, 1, 2)).numpy()

    return module, logits


@pytest.mark.parametrize("is_zip", [True, False])
def test_torchvision_weights_go_to_pytorch_and_back(is_zip, class_file, tmp_path):
    torch = pytest.importorskip("torch")
    module, logits = torchvision_module(torch)
    weights = random_weights(narrow(TORCHVISION_SHAPES), 6)
    module.load_state_dict({name: torch.tensor(array) for name, array in state_dict(weights).items()})
    file = io.BytesIO()
    torch.save(module.state_dict(), file, _use_new_zipfile_serialization=is_zip)
    run, _ = imported(tmp_path, "a.pth", file.getvalue(), classes=class_file)
    images = make_images(224)
    computed = load_model(run)[0](images).numpy()
    assert difference(computed, logits(images)) < 1e-4
    output = tmp_path / "a.safetensors"
    conversion.export_run(run.path, output)
    module.load_state_dict({name: torch.zeros_like(value) for name, value in module.state_dict().items()})
    module.load_state_dict({name: torch.tensor(array) for name, array in safetensors.numpy.load_file(output).items()})
    assert difference(computed, logits(images)) < 1e-4


def make_run(path, row, **train):
    """A run as training leaves it, with random weights and biases."""
    classes = [f"kind {number}" for number in range(CLASSES)]
    run, train_config = (
        RunDirectory(path),
        TrainConfig(architecture=row, recipe=architectures.ARCHITECTURES[row].recipe, **train),
    )
    run_config = RunConfig(
        train=train_config,
        image_size=architectures.ARCHITECTURES[row].image_size,
        mean=architectures.ARCHITECTURES[row].mean,
        data=RunData(tuple(classes)),
    )
    rng, arrays = np.random.default_rng(0), {}
    model = alexnet.build_model(run_config.architecture)
    for variable in model.variables:
        shape = tuple(variable.shape)
        scale = 5 if len(shape) == 1 else (2 / np.prod(shape[:-1])) ** 0.5
        arrays[variable.path] = (rng.standard_normal(shape, "float32") * np.float32(scale)) if shape else np.int64(0)
        variable.assign(arrays[variable.path])
    run.write_checkpoint(3, arrays, {"epoch": 1})
    run.write_config(run_config, classes)
    return run, model, arrays


@pytest.mark.parametrize("row", architectures.ARCHITECTURES)
def test_export_then_import_is_the_identity_bit_for_bit(row, narrow_rows, tmp_path):
    run, _, arrays = make_run(tmp_path / "run", row, initialization="he")
    said = conversion.export_run(run.path, tmp_path / "a.safetensors")
    assert "times (" in said[1]
    lines = conversion.import_run(tmp_path / "a.safetensors", tmp_path / "again")
    assert lines[0].startswith(f"Network: {row} (as the file states)")
    again = RunDirectory(tmp_path / "again")
    read, _ = again.read_checkpoint()
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        assert np.asarray(read[name]).tobytes() == np.asarray(array).tobytes(), name
    before, after = run.read_config(), again.read_config()
    assert before.architecture.scale == after.architecture.scale and before.mean == after.mean
    assert before.train.recipe.resize == after.train.recipe.resize and run.class_names() == again.class_names()


def test_a_mean_image_is_said_and_not_written(narrow_rows, tmp_path):
    run, _, _ = make_run(tmp_path / "run", "caffe")
    run.write_mean_image(np.ones((227, 227, 3), "float32"))
    run.write_config(dataclasses.replace(run.read_config(), mean=MEAN_IMAGE), run.class_names())
    assert "minus the run's mean image; images" in conversion.export_run(run.path, tmp_path / "a.safetensors")[1]
    conversion.import_run(tmp_path / "a.safetensors", tmp_path / "again")
    assert RunDirectory(tmp_path / "again").read_config().mean == architectures.CAFFE.mean


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Of Keras, as it saves.
@pytest.mark.parametrize("ending", ["keras", "weights.h5"])
def test_imported_keras_file_is_the_model_that_wrote_it(ending, class_file, tmp_path):
    architecture = architectures.with_num_classes(
        architectures.with_initialization(architectures.ARCHITECTURES["paper"], "he"), CLASSES
    )
    model = alexnet.build_model(architecture, mean=(1, 2, 3), seed=4)
    path = tmp_path / f"a.{ending}"
    (model.save if ending == "keras" else model.save_weights)(path)
    if ending == "weights.h5":
        with pytest.raises(formats.WeightFileError, match="It fits paper, original2012, .* alike. Choose one"):
            conversion.import_run(path, tmp_path / "run", ImportOptions(classes=class_file))
    stated = {} if ending == "keras" else {"architecture": "paper", "mean": "3,2,1"}
    conversion.import_run(path, tmp_path / "run", ImportOptions(classes=class_file, **stated))
    again, run_config, _ = load_model(RunDirectory(tmp_path / "run"))
    for before, after in zip(model.trainable_variables, again.trainable_variables, strict=True):
        assert np.array_equal(before, after)
    assert run_config.mean == (1, 2, 3)
    if ending == "keras":  # Which also says that the input was scaled.
        images = make_images(227, 1)
        np.testing.assert_allclose(model(images), again(images), rtol=0, atol=5e-6)  # LRN in another form.


def test_commands_as_a_user_types_them(narrow_rows, tmp_path):
    """A file from elsewhere becomes a run that predicts, is evaluated, and goes back to the same bytes."""

    def call(*arguments):
        return commands.call("-m", "alexnet_tf", *arguments)

    shapes = narrow(TORCHVISION_SHAPES) | {"classifier.6": (3, WIDTH)}
    np.savez(tmp_path / "a.npz", **state_dict(random_weights(shapes, 8)))
    (tmp_path / "names.txt").write_text("dots\nrings\nstripes\n")
    for name in ("dots", "rings", "stripes"):
        (tmp_path / "images" / name).mkdir(parents=True)
        image = synthetic.draw(name, np.random.default_rng(0))
        (tmp_path / "images" / name / "0.jpg").write_bytes(tf.io.encode_jpeg(image).numpy())
    run = tmp_path / "run"
    status, out, err = call(
        "import_weights", f"--source={tmp_path / 'a.npz'}", f"--workdir={run}", f"--classes={tmp_path / 'names.txt'}"
    )
    assert status == 0, err
    assert "Network: torchvision (by its names and shapes), 2,914,611 parameters" in out
    assert "minus R, G, B = 123.675, 116.280, 103.530, then times 0.017125, 0.017507, 0.017429" in out
    status, out, err = call("predict", f"--workdir={run}", tmp_path / "images" / "dots" / "0.jpg")
    assert status == 0 and all(f"  {name}" in out for name in ("dots", "rings", "stripes")), err
    status, out, err = call("evaluate", f"--workdir={run}", f"--data_dir={tmp_path / 'images'}", "--json")
    assert status == 0 and json.loads(out)["examples"] == 3, err
    output = tmp_path / "b.safetensors"
    status, out, err = call("export_weights", f"--workdir={run}", f"--output={output}")
    assert status == 0, err
    before, after = np.load(tmp_path / "a.npz"), safetensors.numpy.load_file(output)
    assert before.keys() == after.keys() and all(np.array_equal(before[name], after[name]) for name in before)
    status, out, err = call("export_weights", f"--workdir={run}", f"--output={tmp_path / 'b.npy'}")
    assert status == 1 and "b.npy must end in .safetensors" in err


def test_evaluate_says_that_an_imported_run_has_no_images(class_file, tmp_path):
    content = caffemodel_bytes(CAFFE_ORDER["caffe"] + REST, random_weights(narrow(CAFFE_SHAPES), 0))
    run, _ = imported(tmp_path, "a.caffemodel", content, classes=class_file)
    with pytest.raises(errors.DataError, match="was imported and has no images. Give some: --data_dir"):
        discovery.load_run_dataset(run.read_config().data)


def test_nan_weights_are_refused_unless_allowed(class_file, tmp_path):
    weights = random_weights(narrow(CAFFE_SHAPES), 0)
    weights["conv3"][0][0, 0, 0, 0], weights["fc7"][1][3] = np.nan, np.inf
    content = caffemodel_bytes(CAFFE_ORDER["caffe"] + REST, weights)
    with pytest.raises(formats.WeightFileError, match=r"1 in conv3/kernel, 1 in fc7/bias\. .*--allow_nan"):
        imported(tmp_path, "a.caffemodel", content, classes=class_file)
    assert not (tmp_path / "run of a.caffemodel").exists()
    run, _ = imported(tmp_path, "a.caffemodel", content, classes=class_file, allow_nan=True)
    assert np.isnan(run.read_checkpoint()[0]["conv3/kernel"]).sum() == 1


def test_import_says_what_is_wrong_and_leaves_nothing(class_file, tmp_path):
    good = caffemodel_bytes(CAFFE_ORDER["caffe"] + REST, random_weights(narrow(CAFFE_SHAPES), 0))
    np.save(tmp_path / "small.npy", np.zeros((3, 200, 256)))
    torchvision = state_dict(random_weights(narrow(TORCHVISION_SHAPES), 0))
    scaled = safetensors.numpy.save(torchvision, {"scale": "1 2"})
    conv1_alone = caffemodel_bytes("conv1 relu1", {"conv1": (np.ones((96, 3, 11, 11)), np.ones(96))})
    for name, content, arguments, message in (
        ("a.npy", good, {}, "a.npy: It is damaged, or not a .npy or .npz file"),
        ("a.caffemodel", good, {"classes": str(tmp_path / "a.npy")}, "is not UTF-8 text"),
        ("a.caffemodel", good, {"classes": str(tmp_path / "none")}, "none cannot be read: No such file"),
        ("a.caffemodel", good, {"classes": __file__}, "lines; the network has 7 logits"),
        ("a.caffemodel", good, {"classes": None}, "It has 7 classes. Name them: --classes=FILE"),
        ("a.caffemodel", good, {"mean": "1,2"}, "--mean=1,2 is not a mean"),
        ("a.caffemodel", good, {"mean": "grey"}, "--mean=grey is neither"),
        ("a.caffemodel", good, {"mean": str(tmp_path / "none.npy")}, "none.npy cannot be read"),
        ("a.caffemodel", good, {"mean": str(tmp_path / "small.npy")}, "has 200 x 256 pixels; 227 to 256 are needed"),
        ("a.caffemodel", good, {"architecture": "torchvision"}, "(?s)does not fit torchvision.*shapes: conv1"),
        ("a.caffemodel", good, {"architecture": "vgg"}, "architecture must be one of paper, .*; got 'vgg'"),
        ("a.safetensors", scaled, {}, "The mean and the scale that it states are not three numbers each"),
        ("a.caffemodel", conv1_alone, {}, r"missing: conv2\[0\]"),
    ):
        with pytest.raises(errors.UserError, match=message):
            imported(tmp_path, name, content, **({"classes": class_file} | arguments))
        assert not (tmp_path / f"run of {name}").exists()
    run, _ = imported(tmp_path, "a.caffemodel", good, classes=class_file)
    with pytest.raises(errors.RunError, match="holds a run already"):
        conversion.import_run(tmp_path / "a.caffemodel", run.path)


def test_export_says_what_is_wrong(narrow_rows, tmp_path):
    output = tmp_path / "a.safetensors"
    with pytest.raises(errors.RunError, match="There is no run in "):
        conversion.export_run(tmp_path / "nothing", output)
    run, _, arrays = make_run(tmp_path / "run", "caffe")
    del arrays["conv3/bias"]
    run.write_checkpoint(4, arrays, {"epoch": 2})
    with pytest.raises(errors.RunError, match="does not fit caffe: missing: conv3/bias"):
        conversion.export_run(run.path, output)
    assert not output.exists()


@pytest.mark.parametrize("classes", [None, 3])
def test_partial_import_keeps_the_files_layers_and_initialises_the_others(classes, narrow_rows, tmp_path):
    weights = state_dict(random_weights(narrow(TORCHVISION_SHAPES), 0))
    weights = {name: array for name, array in weights.items() if name.startswith("features")}
    np.savez(tmp_path / "a.npz", **weights)
    with pytest.raises(formats.WeightFileError, match=r"missing: classifier.1.weight.*(\n.*)*--partial"):
        conversion.import_run(tmp_path / "a.npz", tmp_path / "run")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    options = ImportOptions(partial=True, classes=classes and str(tmp_path / "classes.txt"))
    lines = conversion.import_run(tmp_path / "a.npz", tmp_path / "run", options)
    assert "initialised at random: fc6/kernel, fc6/bias" in lines[-1] and "conv" not in lines[-1]
    model, run_config, _ = load_model(RunDirectory(tmp_path / "run"))
    assert run_config.train.architecture == "torchvision" and model.output_shape == (None, classes or 1000)
    arrays = {each.path: each.numpy() for each in model.variables}
    np.testing.assert_array_equal(arrays["conv5/kernel"], weights["features.10.weight"].transpose(2, 3, 1, 0))
    assert arrays["fc6/kernel"].std() > 0


def test_partial_import_of_one_layers_kernel_and_bias(narrow_rows, tmp_path):
    kernel, bias = np.random.default_rng(0).normal(size=(11, 11, 3, 96)).astype("float32"), np.ones(96, "float32")
    pair = np.empty(2, dtype=object)
    pair[:] = [kernel, bias]
    np.save(tmp_path / "conv1.npy", pair)
    options = ImportOptions(partial=True, architecture="caffe")
    conversion.import_run(tmp_path / "conv1.npy", tmp_path / "run", options)
    arrays, _ = RunDirectory(tmp_path / "run").read_checkpoint()
    np.testing.assert_array_equal(arrays["conv1/kernel"], kernel[:, :, ::-1])


def test_imagenet_classes_are_a_thousand_in_the_order_of_their_ids():
    ids, names = conversion.imagenet_classes()
    assert len(ids) == len(set(names)) == 1000 and ids == sorted(ids)
    assert all(name.startswith(f"{each} ") for each, name in zip(ids, names, strict=True))
    assert names[0] == "n01440764 tench" and names[999] == "n15075141 toilet tissue"
    assert names[207] == "n02099601 golden retriever"
