"""Tests of `conversion`: weights in, weights out, against other engines on the same pixels, at full size.

The files that are read, and the networks that OpenCV, PyTorch and NumPy compute, are written out here by hand: nothing
of the code under test is in them. What is written is read by those engines and by the importer.
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
from alexnet_tf.weights import containers, conversion, pickled_arrays
from tests.helpers import commands
from tests.helpers.caffe import CAFFE_ORDER, CAFFE_SHAPES, REST, TORCHVISION_SHAPES, blob, caffemodel_bytes, kind
from tests.helpers.torchvision_network import torchvision_alexnet

WIDTH, CLASSES = 48, 7


def narrow(shapes):
    """The shapes with dense layers of WIDTH units and CLASSES classes."""
    *convolutions, fc6, fc7, fc8 = shapes
    return {name: shapes[name] for name in convolutions} | {
        fc6: (WIDTH, 9216),
        fc7: (WIDTH, WIDTH),
        fc8: (CLASSES, WIDTH),
    }


@pytest.fixture
def narrow_rows(monkeypatch):
    """Every row with dense layers of WIDTH units: all of the convolutions, in a twentieth of the time."""
    rows = {
        name: dataclasses.replace(
            row,
            stages=tuple(
                dataclasses.replace(stage, filters=WIDTH) if stage.name in ("fc6", "fc7") else stage
                for stage in row.stages
            ),
        )
        for name, row in architectures.ARCHITECTURES.items()
    }
    monkeypatch.setattr(architectures, "ARCHITECTURES", rows)
    return rows


@pytest.fixture
def class_file(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("".join(f"kind {number}\n" for number in range(CLASSES)))
    return path


CONV = {
    "conv1": (96, 11, 4, 0, 1),
    "conv2": (256, 5, 1, 2, 2),
    "conv3": (384, 3, 1, 1, 1),
    "conv4": (384, 3, 1, 1, 2),
    "conv5": (256, 3, 1, 1, 2),
}


def random_weights(shapes, seed):
    """Kernels that keep the signal's size, so that LRN changes it much, and biases of its size."""
    numbers = np.random.default_rng(seed).standard_normal(1_000_003, "float32")  # Repeated: millions take seconds.
    return {
        name: (
            np.resize(np.roll(numbers, 997 * index), shape) * np.float32((2 / np.prod(shape[1:])) ** 0.5),
            numbers[1000 * index :][: shape[0]] * 5,
        )
        for index, (name, shape) in enumerate(shapes.items())
    }


def deploy(order, width=WIDTH, classes=CLASSES):
    """Caffe's deploy.prototxt, from its own files."""
    units = {"fc6": width, "fc7": width, "fc8": classes}
    text = (
        'name: "x"\nlayer { name: "data" type: "Input" top: "data" input_param { shape { '
        "dim: 1 dim: 3 dim: 227 dim: 227 } } }\n"
    )
    last = "data"
    for name in order.split():
        top = last if kind(name) in ("ReLU", "Dropout") else name
        parameters = {
            "Convolution": lambda name=name: "convolution_param {{ {} }}".format(
                "num_output: {} kernel_size: {} stride: {} pad: {} group: {}".format(*CONV[name])
            ),
            "InnerProduct": lambda name=name: f"inner_product_param {{ num_output: {units[name]} }}",
            "LRN": lambda: "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }",
            "Pooling": lambda: "pooling_param { pool: MAX kernel_size: 3 stride: 2 }",
        }.get(kind(name), str)()
        text += f'layer {{ name: "{name}" type: "{kind(name)}" bottom: "{last}" top: "{top}" {parameters} }}\n'
        last = top
    return text


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
    return run, conversion.import_run(tmp_path / file_name, run.path, **arguments)


@pytest.mark.parametrize("is_old", [False, True], ids=["layer", "layers"])
@pytest.mark.parametrize("row", ["caffe", "caffenet"])
def test_imported_caffemodel_computes_what_opencv_computes(row, is_old, narrow_rows, class_file, tmp_path):
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


def wrong_fc6(weights):
    """Rows of fc6 in Keras' order."""
    kernel, bias = weights["fc6"]
    return weights | {"fc6": (kernel.reshape(-1, 256, 6, 6).transpose(0, 2, 3, 1).reshape(len(kernel), -1), bias)}


def wrong_colours(weights):
    kernel, bias = weights["conv1"]
    return weights | {"conv1": (kernel[:, ::-1], bias)}


def wrong_groups(weights):
    """The second group's filters first."""
    kernel, bias = weights["conv4"]
    return weights | {"conv4": (np.roll(kernel, 192, axis=0), bias)}


def test_the_comparison_sees_single_faults(narrow_rows, class_file, tmp_path):
    """In the weights, and in LRN's constants."""
    weights, order, images = random_weights(narrow(CAFFE_SHAPES), 0), CAFFE_ORDER["caffe"] + REST, make_images(227, 1)
    content = caffemodel_bytes(order, weights)
    run, _ = imported(tmp_path, "a.caffemodel", content, classes=class_file)
    logits = load_model(run)[0](images).numpy()
    for fault in (wrong_fc6, wrong_colours, wrong_groups):
        faulty = opencv_logits(deploy(order), caffemodel_bytes(order, fault(weights)), images, CAFFE_MEAN)
        assert difference(logits, faulty) > 1e-2, fault
    for constants in (
        "local_size: 5 alpha: 0.0005 beta: 0.75",
        "local_size: 3 alpha: 0.0001 beta: 0.75",
        "local_size: 5 alpha: 0.0001 beta: 0.5",
    ):
        other = deploy(order).replace("local_size: 5 alpha: 0.0001 beta: 0.75", constants)
        assert other != deploy(order)
        assert difference(logits, opencv_logits(other, content, images, CAFFE_MEAN)) > 1e-2, constants


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


def test_imported_mean_image_is_subtracted_at_its_place(narrow_rows, class_file, tmp_path):
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


def test_imported_npy_computes_what_opencv_computes(narrow_rows, class_file, tmp_path):
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


def state_dict(weights):
    return {
        f"{name}.{each}": array for name, arrays in weights.items() for each, array in zip(("weight", "bias"), arrays)
    }


@pytest.mark.parametrize("file_name", ["a.pth", "a.safetensors"])
def test_imported_torchvision_weights_compute_what_numpy_computes(file_name, narrow_rows, class_file, tmp_path):
    weights = random_weights(narrow(TORCHVISION_SHAPES), 5)
    file = io.BytesIO()
    if file_name == "a.pth":
        pickled_arrays.write_torch(file, state_dict(weights))
    else:
        file.write(safetensors.numpy.save(state_dict(weights)))
    run, lines = imported(tmp_path, file_name, file.getvalue(), classes=class_file)
    images = make_images(224, 1)
    assert "Network: torchvision (by its names and shapes)" in lines[0]
    assert difference(load_model(run)[0](images).numpy(), torchvision_logits(weights, images)) < 1e-4


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
def test_torchvision_weights_go_to_pytorch_and_back(is_zip, narrow_rows, class_file, tmp_path):
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
    for file_format, load in (
        ("torch", torch.load),
        (
            "safetensors",
            lambda path, **_: {name: torch.tensor(array) for name, array in safetensors.numpy.load_file(path).items()},
        ),
    ):
        output = tmp_path / file_format
        conversion.export_run(run.path, file_format, output)
        module.load_state_dict({name: torch.zeros_like(value) for name, value in module.state_dict().items()})
        module.load_state_dict(load(output, weights_only=True))
        assert difference(computed, logits(images)) < 1e-4


def make_run(path, row, *, seed=0, initialization="source"):
    """A run as training leaves it, with random weights and biases."""
    classes = [f"kind {number}" for number in range(CLASSES)]
    run, train_config = (
        RunDirectory(path),
        TrainConfig(architecture=row, recipe=architectures.ARCHITECTURES[row].recipe, initialization=initialization),
    )
    run_config = RunConfig(
        train=train_config,
        image_size=architectures.ARCHITECTURES[row].image_size,
        mean=architectures.ARCHITECTURES[row].mean,
        data=RunData(tuple(classes)),
    )
    rng, arrays = np.random.default_rng(seed), {}
    model = alexnet.build_model(run_config.architecture)
    for variable in model.variables:
        shape = tuple(variable.shape)
        scale = 5 if len(shape) == 1 else (2 / np.prod(shape[:-1])) ** 0.5
        arrays[variable.path] = (rng.standard_normal(shape, "float32") * np.float32(scale)) if shape else np.int64(0)
        variable.assign(arrays[variable.path])
    run.write_checkpoint(3, arrays, {"epoch": 1})
    run.write_config(run_config, classes)
    return run, model, arrays


FITS = {
    "paper": ["caffemodel"],
    "caffe": ["caffemodel", "npy"],
    "caffenet": ["caffemodel", "npy"],
    "ungrouped": ["caffemodel"],
    "tf1_class": ["caffemodel"],
    "conv_fc": ["caffemodel"],
    "torchvision": ["caffemodel", "torch", "safetensors"],
}
ENDING = {"caffemodel": "caffemodel", "npy": "npy", "torch": "pth", "safetensors": "safetensors"}


@pytest.mark.parametrize(("row", "file_format"), [(row, each) for row, formats in FITS.items() for each in formats])
def test_export_then_import_is_the_identity_bit_for_bit(row, file_format, narrow_rows, class_file, tmp_path):
    run, _, arrays = make_run(tmp_path / "run", row)
    output = tmp_path / f"a.{ENDING[file_format]}"
    said = conversion.export_run(run.path, file_format, output)
    again = RunDirectory(tmp_path / "again")
    chosen = "caffenet" if (row, file_format) == ("caffenet", "npy") else None  # .npy says only `caffe` or `caffenet`.
    conversion.import_run(output, again.path, classes=class_file, architecture=chosen)
    read, _ = again.read_checkpoint()
    assert (chosen is not None) == ("take it for caffe by default" in said[-1])
    assert read.keys() == arrays.keys() and again.read_config().train.architecture == row
    for name, array in arrays.items():
        assert np.asarray(read[name]).tobytes() == np.asarray(array).tobytes(), name
    before, after = run.read_config(), again.read_config()
    assert before.architecture.scale == pytest.approx(after.architecture.scale, rel=1e-7)
    assert before.mean == after.mean and before.train.recipe.resize == after.train.recipe.resize


@pytest.mark.parametrize(
    ("row", "initialization"),
    [
        ("caffe", "source"),
        ("caffenet", "source"),
        ("paper", "source"),
        ("paper", "he"),
        ("ungrouped", "source"),
        ("tf1_class", "source"),
        ("conv_fc", "source"),
        ("torchvision", "source"),
    ],
)
def test_exported_caffemodel_computes_the_same_in_opencv(row, initialization, narrow_rows, tmp_path):
    run, model, _ = make_run(tmp_path / "run", row, initialization=initialization)
    conversion.export_run(run.path, "caffemodel", tmp_path / "a.caffemodel")
    images = make_images(architectures.ARCHITECTURES[row].image_size)
    logits = opencv_logits(
        (tmp_path / "a.prototxt").read_text(),
        (tmp_path / "a.caffemodel").read_bytes(),
        images,
        architectures.ARCHITECTURES[row].mean,
    )
    assert difference(logits, model(images).numpy()) < 1e-4


def test_export_of_a_run_with_a_mean_image_writes_it(narrow_rows, tmp_path):
    run, _, _ = make_run(tmp_path / "run", "caffe")
    mean = np.random.default_rng(0).uniform(90, 130, (227, 227, 3)).astype("float32")
    run.write_mean_image(mean)
    run.write_config(dataclasses.replace(run.read_config(), mean=MEAN_IMAGE), run.class_names())
    conversion.export_run(run.path, "caffemodel", tmp_path / "a.caffemodel")
    again = tmp_path / "again"
    classes = str(tmp_path / "a.classes.txt")
    conversion.import_run(tmp_path / "a.caffemodel", again, classes=classes, mean=str(tmp_path / "a.binaryproto"))
    again = RunDirectory(again)
    assert again.class_names() == run.class_names()
    assert np.array_equal(again.read_mean(again.read_config()), mean)


def test_export_to_npy_multiplies_the_inputs_scale_into_conv1_and_says_so(narrow_rows, class_file, tmp_path):
    run, model, _ = make_run(tmp_path / "run", "caffe", initialization="he")
    lines = conversion.export_run(run.path, "npy", tmp_path / "a.npy")
    assert "conv1 was multiplied by it" in lines[-1]
    conversion.import_run(tmp_path / "a.npy", tmp_path / "again", classes=class_file)
    again, _, _ = load_model(RunDirectory(tmp_path / "again"))
    images = make_images(227, 1)
    assert difference(again(images).numpy(), model(images).numpy()) < 1e-5


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Of Keras, as it saves.
@pytest.mark.parametrize("ending", ["keras", "weights.h5"])
def test_imported_keras_file_is_the_model_that_wrote_it(ending, narrow_rows, class_file, tmp_path):
    architecture = architectures.with_num_classes(
        architectures.with_initialization(architectures.ARCHITECTURES["paper"], "he"), CLASSES
    )
    model = alexnet.build_model(architecture, mean=(1, 2, 3), seed=4)
    path = tmp_path / f"a.{ending}"
    (model.save if ending == "keras" else model.save_weights)(path)
    if ending == "weights.h5":
        with pytest.raises(containers.WeightFileError, match="It fits paper, original2012, .* alike. Choose one"):
            conversion.import_run(path, tmp_path / "run", classes=class_file)
    conversion.import_run(
        path,
        tmp_path / "run",
        classes=class_file,
        architecture=None if ending == "keras" else "paper",
        mean=None if ending == "keras" else "3,2,1",
    )
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
    with open(tmp_path / "a.pth", "wb") as file:
        pickled_arrays.write_torch(file, state_dict(random_weights(shapes, 8)))
    (tmp_path / "names.txt").write_text("dots\nrings\nstripes\n")
    for name in ("dots", "rings", "stripes"):
        (tmp_path / "images" / name).mkdir(parents=True)
        image = synthetic.draw(name, np.random.default_rng(0))
        (tmp_path / "images" / name / "0.jpg").write_bytes(tf.io.encode_jpeg(image).numpy())
    run = tmp_path / "run"
    status, out, err = call("import_weights", f"--source={tmp_path / 'a.pth'}", f"--workdir={run}")
    assert status == 1 and "It has 3 classes. Name them: --classes=FILE" in err and "Traceback" not in err
    status, out, err = call(
        "import_weights", f"--source={tmp_path / 'a.pth'}", f"--workdir={run}", f"--classes={tmp_path / 'names.txt'}"
    )
    assert status == 0, err
    assert "Network: torchvision (by its names and shapes), 2,914,611 parameters" in out
    assert "minus R, G, B = 123.675, 116.280, 103.530, then times 0.017125, 0.017507, 0.017429" in out
    status, out, err = call("predict", f"--workdir={run}", tmp_path / "images" / "dots" / "0.jpg")
    assert status == 0 and all(f"  {name}" in out for name in ("dots", "rings", "stripes")), err
    status, out, err = call("evaluate", f"--workdir={run}", f"--data_dir={tmp_path / 'images'}", "--json")
    assert status == 0 and json.loads(out)["examples"] == 3, err
    status, out, err = call("export_weights", f"--workdir={run}", "--format=torch", f"--output={tmp_path / 'b.pth'}")
    assert status == 0 and (tmp_path / "b.pth").stat().st_size == (tmp_path / "a.pth").stat().st_size, err
    before, after = (pickled_arrays.read_torch((tmp_path / name).read_bytes()) for name in ("a.pth", "b.pth"))
    assert before.keys() == after.keys() and all(np.array_equal(before[name], after[name]) for name in before)
    status, out, err = call("export_weights", f"--workdir={run}", "--format=npy", f"--output={tmp_path / 'b.npy'}")
    assert status == 1 and "torchvision cannot be written as npy" in err
    assert all(name in err for name in FITS["torchvision"])


def test_evaluate_says_that_an_imported_run_has_no_images(narrow_rows, class_file, tmp_path):
    content = caffemodel_bytes(CAFFE_ORDER["caffe"] + REST, random_weights(narrow(CAFFE_SHAPES), 0))
    run, _ = imported(tmp_path, "a.caffemodel", content, classes=class_file)
    with pytest.raises(errors.DataError, match="was imported and has no images. Give some: --data_dir"):
        discovery.load_run_dataset(run.read_config().data)


def test_nan_weights_are_refused_unless_allowed(narrow_rows, class_file, tmp_path):
    weights = random_weights(narrow(CAFFE_SHAPES), 0)
    weights["conv3"][0][0, 0, 0, 0], weights["fc7"][1][3] = np.nan, np.inf
    content = caffemodel_bytes(CAFFE_ORDER["caffe"] + REST, weights)
    with pytest.raises(containers.WeightFileError, match=r"1 in conv3/kernel, 1 in fc7/bias\. .*--allow_nan"):
        imported(tmp_path, "a.caffemodel", content, classes=class_file)
    assert not (tmp_path / "run of a.caffemodel").exists()
    run, _ = imported(tmp_path, "a.caffemodel", content, classes=class_file, allow_nan=True)
    assert np.isnan(run.read_checkpoint()[0]["conv3/kernel"]).sum() == 1


def test_import_says_what_is_wrong_and_leaves_nothing(narrow_rows, class_file, tmp_path):
    good = caffemodel_bytes(CAFFE_ORDER["caffe"] + REST, random_weights(narrow(CAFFE_SHAPES), 0))
    conv1_alone = caffemodel_bytes("conv1 relu1", {"conv1": (np.ones((96, 3, 11, 11)), np.ones(96))})
    for name, content, arguments, message in (
        ("a.caffemodel", good[:-1000], {}, "a.caffemodel: It is not a .caffemodel: truncated"),
        ("a.txt", good, {}, "Its name ends in none of .caffemodel, .npy"),
        ("a.onnx", good, {}, "It is not a .onnx file"),
        ("a.npy", good, {}, "It is not a .npy file"),
        ("a.pth", good, {}, "It is not a file of torch.save"),
        ("a.keras", good, {}, "It is not a Keras weight file"),
        ("a.safetensors", good, {}, "not a readable .safetensors"),
        ("a.caffemodel", good, {"classes": tmp_path / "a.npy"}, "is not UTF-8 text|has .* lines"),
        ("a.caffemodel", good, {"classes": None}, "It has 7 classes"),
        ("a.caffemodel", good, {"mean": "1,2"}, "--mean=1,2 is not a mean"),
        ("a.caffemodel", good, {"mean": "grey"}, "--mean=grey is neither"),
        ("a.caffemodel", good, {"mean": "nan,1,2"}, "is not a mean"),
        ("a.caffemodel", good, {"mean": str(tmp_path / "none.npy")}, "none.npy cannot be read"),
        ("a.caffemodel", good, {"architecture": "torchvision"}, "(?s)does not fit torchvision.*shapes: conv1"),
        ("a.caffemodel", conv1_alone, {}, r"missing: conv2\[0\]"),
    ):
        with pytest.raises(errors.UserError, match=message):
            imported(tmp_path, name, content, **({"classes": class_file} | arguments))
        assert not (tmp_path / f"run of {name}").exists()
    run, _ = imported(tmp_path, "a.caffemodel", good, classes=class_file)
    with pytest.raises(errors.RunError, match="holds a run already"):
        conversion.import_run(tmp_path / "a.caffemodel", run.path, classes=class_file)


def test_export_says_what_is_wrong(narrow_rows, tmp_path):
    with pytest.raises(errors.RunError, match="is no run"):
        conversion.export_run(tmp_path / "nothing", "npy", tmp_path / "a.npy")
    run, _, arrays = make_run(tmp_path / "run", "original2012")
    with pytest.raises(containers.WeightFileError, match="original2012 cannot be .* caffemodel.* that can: none"):
        conversion.export_run(run.path, "caffemodel", tmp_path / "a.caffemodel")
    run, _, arrays = make_run(tmp_path / "run2", "caffe")
    del arrays["conv3/bias"]
    run.write_checkpoint(4, arrays, {"epoch": 2})
    with pytest.raises(errors.RunError, match="does not fit caffe: missing: conv3/bias"):
        conversion.export_run(run.path, "npy", tmp_path / "a.npy")
    assert not (tmp_path / "a.npy").exists()


def test_imagenet_classes_are_a_thousand_in_the_order_of_their_ids():
    ids, names = conversion.imagenet_classes()
    assert len(ids) == len(set(names)) == 1000 and ids == sorted(ids)
    assert all(name.startswith(f"{each} ") for each, name in zip(ids, names, strict=True))
    assert names[0] == "n01440764 tench" and names[999] == "n15075141 toilet tissue"
    assert names[207] == "n02099601 golden retriever"
