"""Tests of the writers of .keras and .onnx files, by Keras in a fresh process and by other engines."""

import dataclasses
import json
import pathlib
import shlex
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.exporting import engines, onnx_file, saved_model
from alexnet_tf.exporting.export import ExportError
from alexnet_tf.network import architectures
from alexnet_tf.runs.directory import RunDirectory, load_model
from alexnet_tf.weights import conversion
from tests.helpers.networks import SMALL
from tests.helpers.saved_models import CLASSES, SPLIT, make_model, publish

ROOT = pathlib.Path(__file__).parents[2]
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 67, 67, 3)).astype("uint8")
LOAD = """
import sys
import alexnet_tf
assert "tensorflow" not in sys.modules and "keras" not in sys.modules
import keras
import numpy as np
model = keras.models.load_model(sys.argv[1])
np.save(sys.argv[2], model.predict(np.load(sys.argv[3]).astype("float32"), verbose=0))
"""


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own, when it saves.
def test_a_keras_file_loads_in_a_fresh_process(run, export_run, tmp_path):
    [_, artifact], _ = export_run(run, "keras")
    path = run.path / "export" / "keras" / "alexnet.keras"
    assert artifact.path == "keras/alexnet.keras" and artifact.difference < 1e-5
    np.save(tmp_path / "images.npy", IMAGES)
    arguments = [str(path), str(tmp_path / "logits.npy"), str(tmp_path / "images.npy")]
    subprocess.run([sys.executable, "-c", LOAD, *arguments], cwd=ROOT, check=True, capture_output=True)
    model, _, _ = load_model(run, precision="float32")
    np.testing.assert_allclose(np.load(arguments[1]), model(IMAGES.astype("float32")), rtol=0, atol=1e-4)
    assert sorted(path.name for path in path.parent.iterdir()) == ["alexnet.keras"]


ARCHITECTURES = [dataclasses.replace(architectures.with_initialization(SMALL, "he"), name="small"), SPLIT]


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda each: each.name)
def test_an_onnx_file_computes_the_same_everywhere(architecture, tmp_path, monkeypatch):
    pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    model, names = make_model(architecture), [*CLASSES[:3], *CLASSES[4:], "6"]
    path = tmp_path / "alexnet.onnx"
    path.write_bytes(onnx_file.convert(model, names))
    logits = model(IMAGES.astype("float32")).numpy()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(["logits"], {"images": IMAGES.astype("float32")})[0], logits, atol=1e-4)
    np.testing.assert_allclose(onnx_file.load(path, 1)(IMAGES), tf.nn.softmax(logits), rtol=0, atol=1e-5)
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == names
    # And back again: the same network as an imported run.
    monkeypatch.setitem(architectures.ARCHITECTURES, architecture.name, architecture)
    lines = conversion.import_run(path, tmp_path / "run")
    again, run_config, _ = load_model(RunDirectory(tmp_path / "run"))
    assert lines[0].startswith(f"Network: {architecture.name} (as the file states)")
    assert list(run_config.data.classes) == names
    assert run_config.scale == pytest.approx(architecture.scale)
    np.testing.assert_allclose(again(IMAGES.astype("float32")), logits, rtol=0, atol=1e-4)
    for before, after in zip(model.trainable_variables, again.trainable_variables, strict=True):
        assert np.array_equal(before, after)
    for engine in (opencv, openvino):
        np.testing.assert_allclose(engine(path), logits[:1], rtol=0, atol=1e-4)


def opencv(path):
    cv2 = pytest.importorskip("cv2")
    network = cv2.dnn.readNetFromONNX(str(path))
    network.setInput(IMAGES[:1].astype("float32"))
    return network.forward("logits")


def openvino(path):
    engine = pytest.importorskip("openvino")
    compiled = engine.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(IMAGES[:1].astype("float32"))["logits"]


def test_onnx_without_its_packages_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ExportError, match="pip install tf2onnx onnx onnxruntime"):
        onnx_file.convert(make_model(SMALL), CLASSES)


def test_an_onnx_export_is_compared_and_reported(run, export_run):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    [_, artifact], _ = export_run(run, "onnx")
    assert artifact.path == "onnx/alexnet.onnx" and artifact.difference < 1e-5
    assert artifact.details == "opset 17" and artifact.milliseconds


def by_tensorflow_lite(version):
    converter = tf.lite.TFLiteConverter.from_saved_model(str(version), signature_keys=["images"])
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    run = interpreter.get_signature_runner("images")
    return np.concatenate([run(images=image[None])["logits"] for image in IMAGES.astype("float32")])


def by_openvino(version):
    engine = pytest.importorskip("openvino")
    model = tf.saved_model.load(str(version))
    network = engine.convert_model(model.signatures["images"])
    compiled = engines.openvino_core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(IMAGES.astype("float32"))["logits"]


def by_tf2onnx(version):
    pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    command = [sys.executable, *shlex.split(saved_model.TF2ONNX)[1:]]
    subprocess.run(command, cwd=version.parent, check=True, capture_output=True)
    session = onnxruntime.InferenceSession(str(version.with_name("model.onnx")), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": IMAGES.astype("float32")})[0]


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")
@pytest.mark.parametrize("convert", [by_tensorflow_lite, by_openvino, by_tf2onnx], ids=lambda each: each.__name__)
def test_other_converters_take_the_signature_images(convert, tmp_path):
    model = make_model(SMALL)
    version = publish(model, SMALL, tmp_path / "saved_model")
    assert saved_model.TF2ONNX in version.with_name("SERVING.md").read_text()
    np.testing.assert_allclose(convert(version), model(IMAGES.astype("float32")), rtol=0, atol=1e-4)
