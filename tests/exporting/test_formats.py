"""Tests of `formats` and of the writers of .keras and .onnx files, by Keras in a fresh process and by other engines."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf import runs
from alexnet_tf.exporting import export, export_job, formats, onnx_file
from tests.helpers.networks import SMALL
from tests.helpers.saved_models import CLASSES, SPLIT, make_model

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


def test_every_format_says_what_it_is_for():
    assert all(each.purpose for each in formats.FORMATS.values())


def test_a_keras_file_loads_in_a_fresh_process(run, tmp_path):
    [_, artifact] = export.export(run, export.ExportOptions(formats=("keras",)), log=lambda _: None)
    assert artifact.path.endswith("export/keras/alexnet.keras") and artifact.difference < 1e-5
    np.save(tmp_path / "images.npy", IMAGES)
    arguments = [artifact.path, str(tmp_path / "logits.npy"), str(tmp_path / "images.npy")]
    subprocess.run([sys.executable, "-c", LOAD, *arguments], cwd=ROOT, check=True, capture_output=True)
    model, _, _ = runs.load_model(run, precision="float32")
    np.testing.assert_allclose(np.load(arguments[1]), model(IMAGES.astype("float32")), rtol=0, atol=1e-4)
    assert sorted(path.name for path in pathlib.Path(artifact.path).parent.iterdir()) == ["alexnet.keras"]


@pytest.mark.parametrize("architecture", [SMALL, SPLIT], ids=lambda each: each.name)
def test_an_onnx_file_computes_the_same_in_other_engines(architecture, tmp_path):
    pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    cv2 = pytest.importorskip("cv2")
    model = make_model(architecture)
    path = tmp_path / "alexnet.onnx"
    path.write_bytes(onnx_file.convert(model, CLASSES[:3] + CLASSES[4:]))
    expected = tf.nn.softmax(model(IMAGES.astype("float32"))).numpy()
    np.testing.assert_allclose(onnx_file.load(path)(IMAGES), expected, rtol=0, atol=1e-5)
    network = cv2.dnn.readNetFromONNX(str(path))
    network.setInput(IMAGES[:1].astype("float32"))
    np.testing.assert_allclose(network.forward("probabilities"), expected[:1], rtol=0, atol=1e-4)
    metadata = onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == list(CLASSES[:3] + CLASSES[4:])


def test_onnx_without_its_packages_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(export_job.ExportError, match="pip install tf2onnx onnx onnxruntime"):
        onnx_file.convert(make_model(SMALL), CLASSES)
