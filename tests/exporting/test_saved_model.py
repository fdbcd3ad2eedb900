"""Tests of `saved_model`: by the loader that TF Serving uses, in a process without Python TensorFlow."""

import io
import pathlib
import pickle
import resource
import subprocess
import sys
import time

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from alexnet_tf.evaluation import metrics
from alexnet_tf.exporting import formats, saved_model, signatures
from alexnet_tf.exporting.export import ExportError
from alexnet_tf.network import alexnet, architectures
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import errors
from tests.helpers import encoded_images
from tests.helpers.encoded_images import black_png, declare_jpeg, exif, segment, with_scans, with_segments
from tests.helpers.networks import SMALL, narrow_dense
from tests.helpers.saved_models import (
    CLASSES,
    ENCODED,
    SPLIT,
    expected_scores,
    make_model,
    meta_graph,
    picture,
    publish,
)

LOADER = pathlib.Path(__file__).parents[1] / "helpers" / "serving_loader.py"


def request(version, signature, value):
    """What to feed and to fetch for a signature, as the server looks it up in the file."""
    definition = meta_graph(version).signature_def[signature]
    [tensor] = definition.inputs.values()
    return {tensor.name: value}, [output.name for _, output in sorted(definition.outputs.items())]


def serve(jobs):
    result = subprocess.run([sys.executable, str(LOADER)], input=pickle.dumps(jobs), capture_output=True, timeout=300)
    assert result.returncode == 0, result.stderr.decode()[-2000:]
    return pickle.loads(result.stdout)


def photograph(orientation, byte_order):
    """A photograph as a telephone stores it: its pixels, and an EXIF orientation that says how it was held."""
    file = io.BytesIO()
    PIL.Image.open(io.BytesIO(picture(orientation))).save(file, "jpeg", quality=95)
    return with_segments(file.getvalue(), segment(0xE1, exif(orientation, byte_order)))


def upright(image_bytes):
    """The pixels of an image as Pillow turns them upright, without loss and without EXIF."""
    file = io.BytesIO()
    encoded_images.upright(image_bytes).save(file, "png", exif=b"")
    return file.getvalue()


def example(**features):
    return tf.train.Example(
        features=tf.train.Features(
            feature={
                name.replace("__", "/"): tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                for name, value in features.items()
            }
        )
    ).SerializeToString()


ORIENTATIONS = [(orientation, byte_order) for byte_order in ("II", "MM") for orientation in range(1, 9)]
ROTATED = [photograph(*each) for each in ORIENTATIONS]
IMAGES = np.random.default_rng(0).uniform(0, 255, (3, 67, 67, 3)).astype("float32")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Everything that is run in the server's loader, in one process: {name: (answer or error, peak memory)}."""
    root = tmp_path_factory.mktemp("served")
    models = {"small": make_model(SMALL), "split": make_model(SPLIT)}
    version = {name: publish(model, row, root / name) for (name, model), row in zip(models.items(), (SMALL, SPLIT))}
    version["limited"] = saved_model.publish(
        alexnet.for_export(models["small"], "builtin"),
        SMALL,
        class_names=CLASSES,
        resize="paper",
        directory=root / "limited",
        limits=formats.SavedModelOptions(max_megapixels=2, max_megabytes=1),
    )
    broken = ENCODED[0][:300] + bytes(200)
    named = {
        "bytes": ("serving_default", ENCODED),
        "one": ("serving_default", ENCODED[:1]),
        "images": ("images", IMAGES),
        "one image": ("images", IMAGES[:1]),
        "features": ("features", IMAGES),
        "classify": ("classify", [example(image__encoded=each, image__format=b"x") for each in ENCODED]),
        "not an image": ("serving_default", [ENCODED[0], b"not an image"]),
        "broken": ("serving_default", [broken]),
        "none": ("serving_default", [b""]),
        "no example": ("classify", [example(image=ENCODED[0])]),
        "huge": ("serving_default", [black_png(10_100, 10_000)]),
        "huge jpeg": ("serving_default", [declare_jpeg(picture(0), 10_100, 10_000)]),
        "many scans": ("serving_default", [with_scans(PIL.Image.open(io.BytesIO(picture(0))), 1000)]),
        "rotated": ("serving_default", ROTATED),
        "rotated examples": ("classify", [example(image__encoded=each) for each in ROTATED]),
        "upright": ("serving_default", [upright(each) for each in ROTATED]),
        "too high": ("images", np.zeros((2, 70, 67, 3), "float32")),
        "grey": ("images", IMAGES[..., :1]),
        "too small": ("features", np.zeros((1, 60, 60, 3), "float32")),
        "no batch": ("images", IMAGES[0]),
        "no images": ("images", IMAGES[:0]),
        "no bytes": ("serving_default", []),
        "no features": ("features", IMAGES[:0]),
        "after": ("serving_default", ENCODED),
    }
    limited = {
        "too many pixels": ("serving_default", [black_png(1_500, 1_400)]),
        "pixels": ("serving_default", [black_png(1_500, 1_300)]),
        "too long": ("serving_default", [ENCODED[0] + bytes(1_000_000)]),
        "one": ("serving_default", ENCODED[:1]),
    }
    some = {name: named[name] for name in ("bytes", "images", "features")}
    jobs = {"small": named, "split": some, "limited": limited}
    answers = serve(
        [
            *(
                (str(version[name]), [request(version[name], *each) for each in requests.values()])
                for name, requests in jobs.items()
            ),
            (str(version["small"]), [each for _, each in warm_up_requests(version["small"])]),
        ]
    )
    keys = [(name, each) for name, requests in jobs.items() for each in requests] + [
        ("warm-up", name) for name, _ in warm_up_requests(version["small"])
    ]
    return models, version, dict(zip(keys, answers, strict=True))


@pytest.mark.parametrize("name", ["small", "split"])
def test_serving_default_gives_what_evaluation_sees(served, name):
    models, _, answers = served
    classes, scores = answers[name, "bytes"][0]
    probabilities = expected_scores(models[name], ENCODED)
    order = np.argsort(-probabilities, axis=-1)
    assert probabilities.std(axis=0).max() > 0.05  # The images differ, and so do their answers.
    np.testing.assert_allclose(scores, np.take_along_axis(probabilities, order, -1), rtol=0, atol=1e-5)
    assert classes.tolist() == [[signatures.encoded(CLASSES)[index] for index in row] for row in order]


@pytest.mark.parametrize("name", ["small", "split"])
def test_images_and_features_equal_the_keras_model(served, name):
    models, _, answers = served
    logits, probabilities = answers[name, "images"][0]
    np.testing.assert_allclose(logits, models[name](IMAGES).numpy(), rtol=0, atol=1e-4)
    np.testing.assert_allclose(probabilities, tf.nn.softmax(logits).numpy(), rtol=0, atol=1e-6)
    towers = ("fc7_a", "fc7_b") if name == "small" else ("fc7",)
    columns = [keras.Model(models[name].input, models[name].get_layer(f"{each}_relu").output) for each in towers]
    [fc7] = answers[name, "features"][0]
    assert fc7.shape == (3, 16) and fc7.min() == 0 < fc7.max()
    expected = np.concatenate([np.reshape(each(IMAGES), (3, -1)) for each in columns], axis=-1)
    np.testing.assert_allclose(fc7, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["rotated", "rotated examples"])
def test_photographs_are_turned_upright_as_their_exif_orientation_says(served, name):
    (classes, scores), (expected_classes, expected) = (served[2]["small", each][0] for each in (name, "upright"))
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(classes, expected_classes)
    crops = [np.asarray(PIL.Image.open(io.BytesIO(each)).resize((256, 256)))[94:161, 94:161] for each in ROTATED]
    as_stored = np.exp(metrics.make_predictor(served[0]["small"])(np.array(crops)[:, None]).numpy())
    is_same = abs(-np.sort(-as_stored, axis=-1) - scores).max(axis=-1) < 1e-3
    assert not any(same for (orientation, _), same in zip(ORIENTATIONS, is_same) if orientation > 1)  # Turning matters.


def test_a_batch_of_one_and_tf_examples_give_the_same(served):
    answers = served[2]
    np.testing.assert_allclose(answers["small", "one"][0][1], answers["small", "bytes"][0][1][:1], rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        answers["small", "one image"][0][0], answers["small", "images"][0][0][:1], rtol=0, atol=1e-5
    )
    for ours, theirs in zip(answers["small", "classify"][0], answers["small", "bytes"][0]):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("not an image", "neither a JPEG nor a PNG image"),
        ("none", "neither a JPEG nor a PNG image"),
        ("broken", "jpeg"),
        ("no example", "image/encoded"),
        ("huge", "the header declares"),
        ("huge jpeg", "the header declares"),
        ("many scans", "the JPEG has] [1000] [scans; at most 32 are read"),
        ("too high", "must have the shape [n, 67, 67, 3], n at least 1; got] [2 70 67 3]"),
        ("grey", "must have the shape [n, 67, 67, 3], n at least 1; got] [3 67 67 1]"),
        ("too small", "must have the shape [n, 67, 67, 3], n at least 1; got] [1 60 60 3]"),
        ("no batch", "must have the shape [n, 67, 67, 3], n at least 1; got] [67 67 3]"),
        ("no images", "must have the shape [n, 67, 67, 3], n at least 1; got] [0 67 67 3]"),
        ("no features", "must have the shape [n, 67, 67, 3], n at least 1; got] [0 67 67 3]"),
        ("no bytes", "at least one image must be given"),
    ],
)
def test_a_bad_request_fails_with_a_reason_and_the_next_is_answered(served, name, message):
    answers = served[2]
    got = answers["small", name][0]
    assert isinstance(got, str) and got.startswith("INVALID_ARGUMENT") and message.lower() in got.lower()
    np.testing.assert_array_equal(answers["small", "after"][0][1], answers["small", "bytes"][0][1])


def test_limits_refuse_larger_images(served):
    answers = {name: answer for (model, name), (answer, _) in served[2].items() if model == "limited"}
    assert "at most 2 megapixels are read" in answers["too many pixels"]
    assert "at most 1 MB are read" in answers["too long"]
    assert all(answers[name].startswith("INVALID_ARGUMENT") for name in ("too many pixels", "too long"))
    assert not isinstance(answers["pixels"], str) and not isinstance(answers["one"], str)
    assert "2 megapixels" in (served[1]["limited"].parent / "SERVING.md").read_text()


def test_a_huge_declared_size_costs_no_memory(served):
    answers = served[2]
    assert answers["small", "huge jpeg"][1] - answers["small", "no example"][1] < 100e6


def problems(version):
    """What a server on any machine would stumble over in a SavedModel; the functions of TensorFlow's saver apart."""
    functions = [
        each
        for each in meta_graph(version).graph_def.library.function
        if not each.signature.name.startswith(("__inference__traced_save", "__inference__traced_restore"))
    ]
    nodes = [node for function in functions for node in function.node_def]
    found = {"XLA" for function in functions if "_XlaMustCompile" in function.attr}
    found |= {f"device {node.device}" for node in nodes if node.device}
    found |= {"Python" for node in nodes if "PyFunc" in node.op}
    return found | {"gradient" for node in nodes if "_gradient_op_type" in node.attr}


def test_the_file_is_the_contract(served):
    version = served[1]["small"]
    graph = meta_graph(version)
    assert list(graph.meta_info_def.tags) == ["serve"] and problems(version) == set()
    described = {
        name: [
            {key: (tensor.dtype, [dim.size for dim in tensor.tensor_shape.dim]) for key, tensor in side.items()}
            for side in (signature.inputs, signature.outputs)
        ]
        for name, signature in graph.signature_def.items()
        if name != "__saved_model_init_op"
    }
    named = {"classes": (tf.string, [-1, 5]), "scores": (tf.float32, [-1, 5])}
    images = {"images": (tf.float32, [-1, 67, 67, 3])}
    assert described == {
        "serving_default": [{"image_bytes": (tf.string, [-1])}, named],
        "classify": [{"inputs": (tf.string, [-1])}, named],
        "images": [images, {"logits": (tf.float32, [-1, 5]), "probabilities": (tf.float32, [-1, 5])}],
        "features": [images, {"fc7": (tf.float32, [-1, 16])}],
    }
    labels = (version / "assets" / "classes.txt").read_bytes()
    assert labels == b"".join(name + b"\n" for name in signatures.encoded(CLASSES))
    assert {path.name for path in version.parent.iterdir()} == {"1", ".lock", "SERVING.md", "batching_parameters.txt"}


def test_weights_are_stored_once(tmp_path):
    row = narrow_dense(architectures.with_num_classes(architectures.PAPER, 5), 1024)
    model = alexnet.build_model(row)
    version = publish(model, row, tmp_path / "large")
    weights = sum(4 * np.prod(v.shape) for v in model.trainable_variables)
    total = sum(path.stat().st_size for path in version.rglob("*") if path.is_file())
    assert weights > 50e6 and total <= 1.05 * weights


def warm_up_requests(version):
    """[(signature, (what to feed, what to fetch))] of the requests that the server runs first."""
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    logs = [prediction_log_pb2.PredictionLog.FromString(each.numpy()) for each in tf.data.TFRecordDataset(str(path))]
    requests = [log.predict_log.request for log in logs]
    assert {each.model_spec.name for each in requests} == {"alexnet"}
    feeds = []
    for each in requests:
        definition = meta_graph(version).signature_def[each.model_spec.signature_name]
        [(key, tensor)] = each.inputs.items()
        value = tf.make_ndarray(tensor)
        feeds.append(
            (
                each.model_spec.signature_name,
                (
                    {definition.inputs[key].name: value.tolist() if value.dtype == object else value},
                    [output.name for output in definition.outputs.values()],
                ),
            )
        )
    return feeds


def test_warm_up_requests_run_in_the_server(served):
    requests = dict(warm_up_requests(served[1]["small"]))
    assert sorted(requests) == ["classify", "features", "images", "serving_default"]
    for name, (_, fetches) in requests.items():
        answer = served[2]["warm-up", name][0]
        assert not isinstance(answer, str) and len(answer) == len(fetches)


@pytest.fixture
def slow_writer(served, monkeypatch):
    """Has `publish` copy a version that was written before, file by file: a writer as good as any to look at."""

    def write(network, architecture, class_names, resize, limits, path):
        for source in sorted(each for each in served[1]["small"].rglob("*") if each.is_file()):
            target = path / source.relative_to(served[1]["small"])
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            time.sleep(0.1)

    monkeypatch.setattr(saved_model, "_write", write)


@pytest.mark.usefixtures("slow_writer")
def test_versions_are_read_as_the_server_does(tmp_path):
    for name in ("1", "011", "tmp", ".9.tmp", "9"):
        (tmp_path / name).mkdir()
    assert publish(make_model(SMALL), SMALL, tmp_path).name == "12"
    assert not (tmp_path / ".9.tmp").exists()


@pytest.mark.usefixtures("slow_writer")
def test_a_polling_server_never_sees_half_a_version(tmp_path):
    base, stop = tmp_path / "models", tmp_path / "stop"
    base.mkdir()
    model = make_model(SMALL)
    poller = subprocess.Popen(
        [sys.executable, str(LOADER), str(base), str(stop)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    for number in range(6):
        publish(model, SMALL, base)
        deadline = time.monotonic() + 120
        while number == 0 and not stop.with_suffix(".started").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
    stop.touch()
    loaded, failed = pickle.loads(poller.communicate(timeout=300)[0])
    assert failed == [] and loaded == sorted(loaded) and loaded[-1] == 6 and len(set(loaded)) >= 3


def test_publish_on_a_full_disk_leaves_what_was_there(tmp_path):
    model = make_model(SMALL)
    publish(model, SMALL, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (100, 10_000, 150_000):  # Bytes a file may have: the write fails at labels, weights or warm-up.
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
        try:
            with pytest.raises(
                ExportError, match="could not be written: [^{}]*. Nothing half-written stays; .* served as before"
            ):
                publish(model, SMALL, tmp_path, ["a" * 101, *CLASSES[1:]])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_publish_refuses_beside_another_export(tmp_path):
    with RunDirectory(tmp_path).locked("export"):
        with pytest.raises(errors.RunError, match="in use by another export"):
            publish(make_model(SMALL), SMALL, tmp_path)


@pytest.mark.parametrize("architecture", architectures.ARCHITECTURES.values(), ids=lambda each: each.name)
def test_every_architecture_has_an_fc7_to_give(architecture):
    assert architecture.stages[-2].name == "fc7" and architecture.stages[-2].ops[0] == "relu"


@pytest.mark.parametrize("name", ["x=[1,2]", "lr?*", "back\\slash", "plain \u00e9"])
def test_a_version_is_loaded_from_a_path_that_reads_as_a_pattern(tmp_path, name):
    model = make_model(SMALL)
    version = publish(model, SMALL, tmp_path / name)
    images = np.random.default_rng(0).integers(0, 256, (2, 67, 67, 3), "uint8")
    expected = np.exp(metrics.make_predictor(model)(images[:, None]).numpy())
    np.testing.assert_allclose(saved_model.load(version)(images), expected, atol=1e-5)
