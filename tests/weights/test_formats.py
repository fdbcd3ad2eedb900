"""Tests of `formats`: checkpoints as training programs leave them, and files with only some of the layers."""

import io
import os

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from alexnet_tf.network import architectures
from alexnet_tf.runs.directory import RunDirectory, load_model
from alexnet_tf.weights import containers, conversion, formats, layouts
from tests.helpers.networks import narrow_dense


@pytest.fixture(autouse=True)
def _narrow(monkeypatch):
    for name in ("torchvision", "caffe"):
        monkeypatch.setitem(architectures.ARCHITECTURES, name, narrow_dense(architectures.ARCHITECTURES[name], 16))


def state_dict(count=None):
    """Arrays of torchvision's names and shapes; of the first `count` only."""
    shapes = layouts.file_shapes(architectures.ARCHITECTURES["torchvision"], formats.FORMATS["torch"].layout)
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype("float32") for name, shape in list(shapes.items())[:count]}


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "old"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights, optimizer: {
            "state_dict": weights,
            "optimizer": optimizer,
            "epoch": 90,
            "arch": "alexnet",
            "best": None,
        },
        lambda weights, optimizer: {"epoch": 3, "model": weights, "optimizer": optimizer},
        lambda weights, optimizer: {f"module.{name}": each for name, each in weights.items()},
        lambda weights, optimizer: {
            name.replace("features.", "features.module."): each for name, each in weights.items()
        },
        lambda weights, optimizer: {f"model._orig_mod.{name}": each for name, each in weights.items()},
    ],
    ids=["imagenet example", "model", "DataParallel", "features in parallel", "compiled"],
)
def test_checkpoints_of_training_programs_are_read(wrap, is_zip):
    torch = pytest.importorskip("torch")
    expected = state_dict()
    parameters = {name: torch.nn.Parameter(torch.tensor(array)) for name, array in expected.items()}
    optimizer = torch.optim.SGD(parameters.values(), 0.1, momentum=0.9)
    sum(each.sum() for each in parameters.values()).backward()
    optimizer.step()
    expected = {name: each.detach().numpy() for name, each in parameters.items()}
    file = io.BytesIO()
    torch.save(wrap(parameters, optimizer.state_dict()), file, _use_new_zipfile_serialization=is_zip)
    assert formats.format_of("model_best.pth.tar") == "torch"
    read = formats.FORMATS["torch"].read(file.getvalue()).entries
    assert read.keys() == expected.keys()
    assert all(np.array_equal(read[name], array) for name, array in expected.items())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_read_from_torch_and_safetensors(dtype):
    torch = pytest.importorskip("torch")
    values = np.linspace(-3, 3, 24, dtype="float32").reshape(4, 6)
    rounded = values.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    file = io.BytesIO()
    torch.save({"a": torch.tensor(values).to(getattr(torch, dtype))}, file)
    files = {"torch": file.getvalue(), "safetensors": safetensors.numpy.save({"a": rounded})}
    for name, content in files.items():
        read = formats.FORMATS[name].read(content).entries["a"]
        np.testing.assert_array_equal(np.asarray(read, "float32"), rounded.astype("float32"))


@pytest.mark.parametrize("classes", [None, 3])
def test_partial_import_keeps_the_files_layers_and_initialises_the_others(classes, tmp_path):
    weights = state_dict(10)  # conv1 to conv5.
    np.savez(tmp_path / "features.npz", **weights)
    with pytest.raises(containers.WeightFileError, match=r"missing: classifier.1.weight.*(\n.*)*--partial"):
        conversion.import_run(tmp_path / "features.npz", tmp_path / "run")
    if classes:
        (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    lines = conversion.import_run(
        tmp_path / "features.npz", tmp_path / "run", partial=True, classes=classes and tmp_path / "classes.txt"
    )
    assert "initialised at random: fc6/kernel, fc6/bias" in lines[-1] and "conv" not in lines[-1]
    model, run_config, _ = load_model(RunDirectory(tmp_path / "run"))
    assert run_config.train.architecture == "torchvision" and model.output_shape == (None, classes or 1000)
    arrays = {each.path: each.numpy() for each in model.variables}
    np.testing.assert_array_equal(arrays["conv5/kernel"], weights["features.10.weight"].transpose(2, 3, 1, 0))
    assert arrays["fc6/kernel"].std() > 0


def test_partial_import_of_one_layers_kernel_and_bias(tmp_path):
    kernel, bias = np.random.default_rng(0).normal(size=(11, 11, 3, 96)).astype("float32"), np.ones(96, "float32")
    pair = np.empty(2, dtype=object)
    pair[:] = [kernel, bias]
    np.save(tmp_path / "conv1.npy", pair)
    conversion.import_run(tmp_path / "conv1.npy", tmp_path / "run", partial=True, architecture="caffe")
    arrays, _ = RunDirectory(tmp_path / "run").read_checkpoint()
    np.testing.assert_array_equal(arrays["conv1/kernel"], kernel[:, :, ::-1])


def test_names_of_another_program_get_advice(tmp_path):
    np.savez(tmp_path / "a.npz", **{f"layer{index}": array for index, array in enumerate(state_dict(4).values())})
    with pytest.raises(containers.WeightFileError, match="names are not known; rename .* features.0.weight"):
        conversion.import_run(tmp_path / "a.npz", tmp_path / "run", architecture="torchvision")


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "a.caffemodel")
    (tmp_path / "zero.npy").symlink_to("/dev/zero")
    for name in ("a.caffemodel", "zero.npy"):
        with pytest.raises(containers.WeightFileError, match="not a regular file"):
            conversion.import_run(tmp_path / name, tmp_path / "run")


def test_a_safetensors_header_of_megabytes_is_refused():
    header = b'{"a":[' + b"[]," * (1 << 20) + b"[]]}"
    with pytest.raises(containers.WeightFileError, match="header"):
        formats.FORMATS["safetensors"].read(len(header).to_bytes(8, "little") + header)


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, allow_pickle=True, **arrays)
    return file.getvalue()


def pair(*shape):
    arrays = np.empty(2, object)
    arrays[:] = [np.zeros(shape, "float32"), np.zeros(shape[-1], "float32")]
    return arrays


@pytest.mark.parametrize(
    ("file_format", "content", "message"),
    [
        ("npy", npy(np.zeros((2, 2), "float32")), "one array and no dictionary of layers"),
        ("npy", npy(pair(9, 9, 3, 5)), "without their layer's name. Save a dictionary"),
        ("npz", npz(conv1=np.array({"a": np.zeros(2)}, object)), "conv1.npy holds objects, not an array"),
        *(
            (
                "safetensors",
                safetensors.numpy.save({"a": np.zeros(2)}, {"mean": mean}),
                "'mean' in its metadata is not three",
            )
            for mean in ("1 2", "red green blue", "1 2 nan")
        ),
    ],
)
def test_files_that_hold_something_else_say_what(file_format, content, message):
    with pytest.raises(containers.WeightFileError, match=message):
        formats.FORMATS[file_format].read(content)
