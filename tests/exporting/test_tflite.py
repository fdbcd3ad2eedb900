"""Tests of `tflite`: by LiteRT's interpreter and compiled model, and by MediaPipe's image classifier."""

import dataclasses
import io
import os
import subprocess
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from alexnet_tf.data import discovery, input_pipeline
from alexnet_tf.exporting import engines, tflite, tflite_metadata
from alexnet_tf.exporting.formats import QUANTIZATIONS, TFLiteOptions
from alexnet_tf.network import alexnet, architectures
from alexnet_tf.runs.directory import load_model
from tests.helpers.networks import SMALL
from tests.helpers.saved_models import SPLIT, make_model

IMAGES = np.repeat(
    np.repeat(  # Squares of colour: noise looks like noise.
        np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3)), 17, axis=1
    ),
    17,
    axis=2,
)[:, :67, :67].astype("uint8")
OLD_PYTHON = os.environ.get("OLD_TFLITE_PYTHON")
CLASSES = ("red", "yellow", "green", "blue", "gr\u00fcn \u00fc")
PER_CHANNEL = TFLiteOptions(dense_quantization="per_channel")
OPERATORS = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}


def operators(model):
    """The names of a file's operators, in order."""
    content = schema.ModelT.InitFromPackedBuf(model, 0)
    [graph] = content.subgraphs
    return [OPERATORS[content.operatorCodes[each.opcodeIndex].builtinCode] for each in graph.operators]


def probabilities(model, images):
    return tf.nn.softmax(model(images.astype("float32"))).numpy()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """{(row, quantization, lrn): path} of networks with large weights, and the Keras models."""
    root, models, paths = tmp_path_factory.mktemp("tflite"), {}, {}
    for row in (SMALL, SPLIT):
        models[row.name] = make_model(row)
        for lrn in ("builtin", "convolution"):
            network = alexnet.for_export(models[row.name], lrn)
            for quantization in QUANTIZATIONS if row is SMALL else ("float32",):
                key = row.name, quantization, lrn
                paths[key] = root / ("_".join(key) + ".tflite")
                paths[key].write_bytes(tflite.convert(network, quantization, CLASSES, IMAGES))
    return models, paths


KEYS = [("small", q, lrn) for q in QUANTIZATIONS for lrn in ("builtin", "convolution")] + [
    ("split", "float32", "builtin"),
    ("split", "float32", "convolution"),
]


@pytest.mark.parametrize("key", KEYS, ids="-".join)
def test_convert_equals_the_keras_model(files, key):
    models, paths = files
    expected = probabilities(models[key[0]], IMAGES)
    tolerance = {"float32": 1e-5, "float16": 5e-3, "dynamic": 0.1, "int8": 0.25}[key[1]]
    assert expected.std(axis=0).max() > 0.05
    got = engines.load_tflite(paths[key], 1)(IMAGES)
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)
    assert np.abs(got - expected).max() > (0 if key[1] == "float32" else 1e-6)  # It is quantized indeed.


@pytest.mark.parametrize("key", KEYS, ids="-".join)
def test_convert_writes_plain_operators_and_static_shapes(files, key):
    found = operators(files[1][key].read_bytes())
    assert not {"SHAPE", "PACK", "STRIDED_SLICE"} & set(found)
    assert found.count("SPLIT") == (key[0] == "split")
    assert ("LOCAL_RESPONSE_NORMALIZATION" in found) == (key[2] == "builtin")


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_convert_takes_pixels_and_gives_probabilities(files, quantization):
    [graph] = schema.ModelT.InitFromPackedBuf(files[1]["small", quantization, "builtin"].read_bytes(), 0).subgraphs
    taken, given = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    assert list(taken.shape) == [1, 67, 67, 3] and list(given.shape) == [1, 5]
    assert taken.type == (schema.TensorType.UINT8 if quantization == "int8" else schema.TensorType.FLOAT32)
    assert given.type == schema.TensorType.FLOAT32
    types = {tensor.type for tensor in graph.tensors}
    assert (schema.TensorType.FLOAT16 in types) == (quantization == "float16")
    assert (schema.TensorType.INT8 in types) == (quantization in ("dynamic", "int8"))
    if quantization == "int8":  # A pixel's value is the integer itself.
        assert taken.quantization.scale[0] == pytest.approx(1, rel=1e-2) and taken.quantization.zeroPoint[0] == 0


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_compiled_model_gives_the_same_as_the_interpreter(files, quantization):
    path = files[1]["small", quantization, "convolution"]
    got = engines.ENGINES["LiteRT, compiled model"].load(str(path))(IMAGES[:2])
    np.testing.assert_allclose(got, engines.load_tflite(path, 1)(IMAGES[:2]), rtol=0, atol=1e-5)


def version(text):
    return tuple(map(int, text.split(".")))


def fully_connected_version(model):
    """The version of the FULLY_CONNECTED operator that a file asks for: per-channel scales need 12."""
    content = schema.ModelT.InitFromPackedBuf(model, 0)
    return max(each.version for each in content.operatorCodes if OPERATORS[each.builtinCode] == "FULLY_CONNECTED")


def test_old_runtimes_read_the_default_files_and_per_channel_is_a_choice(files):
    for quantization in QUANTIZATIONS:
        inspection = tflite.inspect(files[1]["small", quantization, "convolution"].read_bytes())
        assert version(inspection.min_runtime_version) <= (2, 4, 0), quantization
    network = alexnet.for_export(files[0]["small"], "convolution")
    fine = tflite.convert(network, "dynamic", CLASSES, options=PER_CHANNEL)
    assert version(tflite.inspect(fine).min_runtime_version) == (2, 17, 0)
    assert fully_connected_version(fine) == 12
    assert fully_connected_version(files[1]["small", "dynamic", "convolution"].read_bytes()) == 9


OLD_RUNTIME = """
import sys
import numpy as np
from tflite_runtime.interpreter import Interpreter
interpreter = Interpreter(sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
[taken], [given] = interpreter.get_input_details(), interpreter.get_output_details()
results = []
for image in np.load(sys.argv[2]):
    interpreter.set_tensor(taken["index"], image[None].astype(taken["dtype"]))
    interpreter.invoke()
    results.append(interpreter.get_tensor(given["index"])[0])
np.save(sys.argv[3], results)
"""


def run_old_runtime(path, folder):
    np.save(folder / "images.npy", IMAGES)
    command = [OLD_PYTHON, "-c", OLD_RUNTIME, str(path), str(folder / "images.npy"), str(folder / "results.npy")]
    result = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    return np.load(folder / "results.npy") if result.returncode == 0 else result.stderr


@pytest.mark.skipif(not OLD_PYTHON, reason="OLD_TFLITE_PYTHON names no Python with tflite-runtime and numpy < 2")
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_an_old_runtime_computes_the_same(files, tmp_path, quantization):
    path = files[1]["small", quantization, "convolution"]
    got = run_old_runtime(path, tmp_path)
    assert not isinstance(got, str), got
    tolerance = {"float32": 1e-5, "float16": 5e-3, "dynamic": 0.05, "int8": 0.05}[quantization]
    np.testing.assert_allclose(got, engines.load_tflite(path, 1)(IMAGES), rtol=0, atol=tolerance)


@pytest.mark.skipif(not OLD_PYTHON, reason="OLD_TFLITE_PYTHON names no Python with tflite-runtime and numpy < 2")
def test_an_old_runtime_refuses_per_channel_dense_layers(files, tmp_path):
    path = tmp_path / "fine.tflite"
    network = alexnet.for_export(files[0]["small"], "convolution")
    path.write_bytes(tflite.convert(network, "dynamic", CLASSES, options=PER_CHANNEL))
    assert "FULLY_CONNECTED" in run_old_runtime(path, tmp_path)


def test_inspection_says_what_is_computed_in_floats(files):
    builtin, int8 = (
        tflite.inspect(files[1]["small", quantization, "builtin"].read_bytes()) for quantization in ("float32", "int8")
    )
    assert int8.float_operators == ("LOCAL_RESPONSE_NORMALIZATION",) * 2 and len(builtin.float_operators) > 10
    assert int8.input_shape == (1, 67, 67, 3)
    assert "not all-integer: computes LOCAL_RESPONSE_NORMALIZATION in floats" in int8.describe()
    convolution = tflite.inspect(files[1]["small", "int8", "convolution"].read_bytes())
    assert {*convolution.float_operators} <= {"SQUARE", "RSQRT", "SQRT", "MUL"}


def test_int8_without_lrn_is_all_integer():
    row = dataclasses.replace(
        SMALL,
        name="plain",
        stages=tuple(
            dataclasses.replace(stage, ops=tuple(op for op in stage.ops if op != "lrn")) for stage in SMALL.stages
        ),
    )
    content = tflite.convert(alexnet.for_export(make_model(row), "builtin"), "int8", CLASSES, IMAGES)
    assert tflite.inspect(content).float_operators == ()
    assert "all-integer, but for the probabilities" in tflite.inspect(content).describe()


def test_int8_computes_same_map_lrn_in_floats(tmp_path):
    row = dataclasses.replace(
        SMALL,
        name="same_map",
        stages=tuple(
            dataclasses.replace(stage, ops=("relu", "lrn", "same_map_lrn", "pool")) if stage.name == "conv2" else stage
            for stage in SMALL.stages
        ),
    )
    model = make_model(row)
    path = tmp_path / "int8.tflite"
    path.write_bytes(tflite.convert(alexnet.for_export(model, "builtin"), "int8", CLASSES, IMAGES))
    inspection = tflite.inspect(path.read_bytes())
    assert version(inspection.min_runtime_version) <= (2, 4, 0)
    assert {"SQRT", "RSQRT", "AVERAGE_POOL_2D"} <= set(inspection.float_operators)
    assert "CONV_2D" not in inspection.float_operators and "FULLY_CONNECTED" not in inspection.float_operators
    assert fully_connected_version(path.read_bytes()) < 12
    np.testing.assert_allclose(engines.load_tflite(path, 1)(IMAGES), probabilities(model, IMAGES), rtol=0, atol=0.25)


def test_a_batch_is_fixed_in_the_file_and_filled_up(files, tmp_path):
    path = tmp_path / "batch.tflite"
    network = alexnet.for_export(files[0]["small"], "convolution")
    path.write_bytes(tflite.convert(network, "float32", CLASSES, options=TFLiteOptions(tflite_batch_size=3)))
    inspection = tflite.inspect(path.read_bytes())
    assert inspection.input_shape == (3, 67, 67, 3) and "so the batch is 3" in inspection.describe()
    np.testing.assert_allclose(
        engines.load_tflite(path, 1)(IMAGES), probabilities(files[0]["small"], IMAGES), rtol=0, atol=1e-5
    )


def test_labels_that_are_no_line_of_utf8_are_mended():
    file = tflite_metadata.add_metadata(tflite.convert_maps(make_model(SMALL)), ("a", "b\nc", "\udcff", "gr\u00fcn"))
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        assert archive.read("labels.txt").decode().split("\n") == ["a", "b c", "\ufffd", "gr\u00fcn", ""]


def test_labels_are_read_back_from_the_file(files):
    for path in files[1].values():
        with zipfile.ZipFile(path) as archive:
            [info] = archive.infolist()
            assert info.filename == "labels.txt" and info.compress_type == zipfile.ZIP_STORED
            assert archive.read(info).decode().splitlines() == list(CLASSES)


def test_metadata_as_the_schemas_own_reader_sees_it(files):
    pytest.importorskip("mediapipe")
    from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata_schema

    model = schema.ModelT.InitFromPackedBuf(files[1]["small", "int8", "builtin"].read_bytes(), 0)
    [entry] = [each for each in model.metadata if each.name == b"TFLITE_METADATA"]
    data = model.buffers[entry.buffer].data.tobytes()
    assert metadata_schema.ModelMetadata.ModelMetadataBufferHasIdentifier(data, 0)
    metadata = metadata_schema.ModelMetadataT.InitFromPackedBuf(data, 0)
    assert metadata.name == b"AlexNet" and metadata.minParserVersion == b"1.0.0"
    [graph] = metadata.subgraphMetadata
    [image], [probability] = graph.inputTensorMetadata, graph.outputTensorMetadata
    assert image.content.contentPropertiesType == metadata_schema.ContentProperties.ImageProperties
    assert image.content.contentProperties.colorSpace == metadata_schema.ColorSpaceType.RGB
    [unit] = image.processUnits
    assert unit.optionsType == metadata_schema.ProcessUnitOptions.NormalizationOptions
    assert list(unit.options.mean) == [0] and list(unit.options.std) == [1]
    assert list(image.stats.max) == [255] and list(probability.stats.max) == [1]
    [labels] = probability.associatedFiles
    assert labels.name == b"labels.txt" and labels.type == metadata_schema.AssociatedFileType.TENSOR_AXIS_LABELS


def media_pipes_accuracy(model, data):
    """How many validation pictures MediaPipe's classifier, told nothing but the file, calls by their folder's name."""
    import mediapipe

    options = mediapipe.tasks.vision.ImageClassifierOptions(
        base_options=mediapipe.tasks.BaseOptions(model_asset_buffer=model), max_results=1
    )
    split = data.splits["val"]
    right = 0
    with mediapipe.tasks.vision.ImageClassifier.create_from_options(options) as classifier:
        for path, label in zip(split.paths, split.labels):
            picture = mediapipe.Image.create_from_file(path)
            [result] = classifier.classify(picture).classifications
            right += result.categories[0].category_name == data.class_names[label]
    return right / len(split)


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_media_pipe_names_what_a_trained_run_learned(small_run, colours, monkeypatch, quantization):
    pytest.importorskip("mediapipe")
    monkeypatch.setitem(architectures.ARCHITECTURES, "small", SMALL)
    data = discovery.find_dataset(str(colours))
    model = load_model(small_run)[0]
    split = data.splits["train"]
    images = np.concatenate(
        [
            input_pipeline.evaluation_crops(tf.constant(split.image_bytes(index)), 67, "paper").numpy()
            for index in range(0, len(split), 5)
        ]
    )
    network = alexnet.for_export(model, "convolution")
    file = tflite.convert(network, quantization, small_run.class_names(), images)
    assert media_pipes_accuracy(file, data) > 0.7
