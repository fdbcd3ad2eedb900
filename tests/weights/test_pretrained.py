"""Tests of `pretrained` and `download`: against a real server, with files of random weights in each published form."""

import concurrent.futures
import hashlib
import io
import re
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import PIL.Image
import pytest
import safetensors.numpy

import alexnet_tf
from alexnet_tf.evaluation import predictions
from alexnet_tf.network import architectures
from alexnet_tf.support import errors, home
from alexnet_tf.weights import download, pretrained
from tests.helpers import caffe, commands
from tests.helpers.caffe import TORCHVISION_SHAPES, WIDTH, random_weights, state_dict
from tests.helpers.file_server import serve
from tests.helpers.onnx import zoo_network
from tests.helpers.torchvision_network import torchvision_alexnet


def narrow(shapes):
    *_, fc6, fc7, fc8 = shapes
    return shapes | {fc6: (WIDTH, 9216), fc7: (WIDTH, WIDTH), fc8: (1000, WIDTH)}


WEIGHTS = random_weights(narrow(TORCHVISION_SHAPES))
CONTENT = safetensors.numpy.save(state_dict(WEIGHTS))


def entry(*addresses, content=CONTENT, name="weights.safetensors", size=0):
    file = pretrained.File(
        name, f"sha256:{hashlib.sha256(content).hexdigest()}", len(content) if size == 0 else size, addresses
    )
    return pretrained.Pretrained("the tests", "0.1 % top-1 accuracy (guessed)", "none", (file,))


@pytest.fixture
def cache(narrow_rows, tmp_path, monkeypatch):
    monkeypatch.setenv("ALEXNET_TF_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pretrained"


@pytest.fixture
def publish(cache, monkeypatch):
    """Makes an entry the table's."""
    return lambda *addresses, **facts: monkeypatch.setitem(
        pretrained.PRETRAINED, "torchvision", entry(*addresses, **facts)
    )


def refusal(name="torchvision"):
    with pytest.raises(errors.UserError) as caught:
        pretrained.load(name, [].append)
    return str(caught.value)


def test_the_table_states_what_the_publishers_do():
    assert set(pretrained.PRETRAINED) <= set(architectures.ARCHITECTURES)
    files = [file for each in pretrained.PRETRAINED.values() for file in each.files]
    assert [(file.name, file.size) for file in files if file.size] == [
        ("alexnet-owt-7be5be79.pth", 244408911),
        ("bvlcalexnet-12.onnx", 243863787),
        ("caffenet-12.onnx", 243863798),
    ]
    assert all(
        len(file.digest.split(":")[1]) == {"sha256": 64, "sha1": 40}[file.digest.split(":")[0]] for file in files
    )


def test_weights_are_downloaded_once_and_are_a_run(publish, cache, tmp_path):
    with serve(weights=("whole", CONTENT)) as server:
        publish(f"{server.address}/weights")
        lines = []
        run = pretrained.load("torchvision", lines.append)
        assert lines[-1] == (
            "torchvision: ImageNet weights of the tests, 0.1 % top-1 accuracy (guessed); licence: none; kept in "
            f"{cache / 'torchvision'}"
        )
        assert sorted(path.name for path in cache.iterdir()) == [".torchvision.lock", "torchvision"]
        arrays, _ = run.existing_checkpoint()
        kernel = WEIGHTS["features.0"][0]
        assert np.array_equal(arrays["conv1/kernel"], kernel.transpose(2, 3, 1, 0))
        assert pretrained.load("torchvision", lines.append).path == run.path
        assert [request[0] for request in server.requests] == ["GET"]
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 260, 3), "uint8")).save(tmp_path / "a.png")
    status, out, err = commands.call("-m", "alexnet_tf", "predict", "--pretrained=torchvision", tmp_path / "a.png")
    assert status == 0 and len(out.splitlines()) == 6 and "tests" in err
    python = alexnet_tf.load_pretrained("torchvision")
    assert python.class_names[0] == "n01440764 tench"
    line = out.splitlines()[1].split(maxsplit=1)
    assert line[1] == python.class_names[python.predict(tmp_path / "a.png")[0].argmax()]
    model = alexnet_tf.build_model("torchvision", weights="imagenet", num_classes=3)
    assert model.output_shape == (None, 3)
    assert np.array_equal(model.get_layer("fc7").kernel, python.model.get_layer("fc7").kernel)


@pytest.mark.parametrize(
    "behaviour, reason",
    [
        ("breaks", "the connection broke"),
        ("login page", "another file would come: it has 27 bytes, a web page, such as a proxy's login"),
        ("stalls", "the server sent nothing for 1 seconds"),
        ("missing", "the server answers 404 Not Found"),
        ("other", "another file came: its hash is sha256:.*, not sha256:.* It was removed"),
        ("gone", "no connection"),
    ],
)
def test_the_next_mirror_is_tried_and_each_failure_is_said(publish, cache, monkeypatch, behaviour, reason):
    monkeypatch.setattr(download, "SECONDS", 1)
    other = bytes(len(CONTENT)) if behaviour == "other" else CONTENT
    with serve(first=(behaviour, None if behaviour == "missing" else other), second=("whole", CONTENT)) as server:
        first = "http://127.0.0.1:9/first" if behaviour == "gone" else f"{server.address}/first"
        publish(first)
        message = refusal()
        assert re.search(f"{first}: {reason}", message)
        assert f"({len(CONTENT):,} bytes, sha256:" in message and str(cache / "weights.safetensors") in message
        assert not (cache / "torchvision").exists() and not (cache / "weights.safetensors").exists()
        publish(first, f"{server.address}/second")
        assert pretrained.load("torchvision", [].append).steps() == [0]


def test_a_file_put_there_by_hand_needs_no_network(publish, cache):
    publish("http://127.0.0.1:9/weights")
    cache.mkdir(parents=True)
    (cache / "weights.safetensors").write_bytes(CONTENT[:-1])
    assert "is another file: its hash is sha256:" in refusal() and (cache / "weights.safetensors").exists()
    (cache / "weights.safetensors").write_bytes(CONTENT)
    assert pretrained.load("torchvision", [].append).steps() == [0]


@pytest.mark.parametrize("behaviour", ["whole", "no ranges"])
def test_a_download_goes_on_where_it_stopped(publish, cache, behaviour):
    cache.mkdir(parents=True)
    (cache / "weights.safetensors.part").write_bytes(CONTENT[:1000])
    with serve(weights=(behaviour, CONTENT)) as server:
        publish(f"{server.address}/weights")
        assert pretrained.load("torchvision", [].append).steps() == [0]
        assert server.requests == [("GET", "weights", "bytes=1000-")]


def test_a_file_of_unknown_size_that_was_all_there_is_taken(publish, cache):
    cache.mkdir(parents=True)
    (cache / "weights.safetensors.part").write_bytes(CONTENT)
    with serve(weights=("whole", CONTENT)) as server:
        publish(f"{server.address}/weights", size=None)
        assert pretrained.load("torchvision", [].append).steps() == [0]


# What a process of its own runs: the table with one entry, and the narrow network.
LOAD = """
import sys
from alexnet_tf.evaluation import predictions
from alexnet_tf.network import architectures
from alexnet_tf.weights import pretrained
from tests.helpers.networks import narrow_dense
from tests.helpers.caffe import WIDTH
architectures.ARCHITECTURES["torchvision"] = narrow_dense(architectures.ARCHITECTURES["torchvision"], WIDTH)
file = pretrained.File("weights.safetensors", sys.argv[2], None, (sys.argv[1],))
pretrained.PRETRAINED["torchvision"] = pretrained.Pretrained("", "", "", (file,))
pretrained.load("torchvision")
"""


def start(address):
    return subprocess.Popen(
        [sys.executable, "-c", LOAD, address, entry().files[0].digest], stdout=subprocess.PIPE, text=True
    )


def test_a_killed_download_goes_on_with_the_same_command(publish, cache):
    with serve(weights=("slow", CONTENT)) as server:
        process = start(f"{server.address}/weights")
        part = cache / "weights.safetensors.part"
        while not part.exists() or part.stat().st_size < len(CONTENT) // 3:
            time.sleep(0.02)
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        there = part.stat().st_size
        assert 0 < there < len(CONTENT) and not (cache / "torchvision").exists()
        server.files["weights"] = ("whole", CONTENT)
        publish(f"{server.address}/weights")
        assert pretrained.load("torchvision", [].append).steps() == [0]
        assert server.requests[-1] == ("GET", "weights", f"bytes={there}-")


def test_of_many_processes_one_downloads_and_the_others_wait(publish, cache):
    with serve(weights=("whole", CONTENT)) as server:
        publish(f"{server.address}/weights")
        said = [[] for _ in range(20)]
        with concurrent.futures.ThreadPoolExecutor(20) as pool:  # Each opens the lock for itself, as processes do.
            runs = list(pool.map(lambda lines: pretrained.load("torchvision", lines.append), said))
        assert [run.steps() for run in runs] == [[0]] * 20
        assert len(server.requests) == 1
        assert sum("waiting for it" in lines[0] for lines in said) >= 1


def test_a_place_that_cannot_be_written_or_has_no_space_is_named(publish, cache, monkeypatch):
    with serve(weights=("whole", CONTENT)) as server:
        publish(f"{server.address}/weights")
        monkeypatch.setattr(download.shutil, "disk_usage", lambda path: type("Usage", (), {"free": len(CONTENT)}))
        message = refusal()
        assert "No space left" in message and "Set ALEXNET_TF_HOME" in message and str(cache) in message
    monkeypatch.setenv("ALEXNET_TF_HOME", "/proc/nowhere")
    assert "/proc/nowhere" in refusal() and "Set ALEXNET_TF_HOME" in refusal()
    monkeypatch.delenv("ALEXNET_TF_HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(home.pathlib.Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert all(name in refusal() for name in ("ALEXNET_TF_HOME", "HOME", "XDG_CACHE_HOME"))


def test_the_proxy_of_the_environment_is_asked(publish, monkeypatch):
    with serve(**{"http://weights.example/file": ("whole", CONTENT)}) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.address)
        monkeypatch.setenv("http_proxy", proxy.address)
        publish("http://weights.example/file")
        assert pretrained.load("torchvision", [].append).steps() == [0]


def test_other_names_are_told_which_there_are(cache):
    there_are = "There are of torchvision, caffe, caffenet."
    assert refusal("paper") == f"There are no public ImageNet weights of 'paper'. {there_are}"
    for arguments in ({}, {"architecture": "owt"}):
        with pytest.raises(alexnet_tf.UserError, match=there_are):
            alexnet_tf.build_model(**arguments, weights="imagenet")


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "--workdir=x", "a.jpg"),
        ("evaluate", "--workdir=x"),
        ("train", "--init_from=x", "--data_dir=/"),
        ("export", "--workdir=x"),
        ("similar", "--workdir=/", f"--features={__file__}", "a.jpg"),
    ],
)
def test_a_run_and_pretrained_weights_exclude_each_other(cache, arguments):
    command, *rest = arguments
    status, _, err = commands.call("-m", "alexnet_tf", command, "--pretrained=torchvision", *rest)
    assert status == 1 and "Give" in err and "--pretrained" in err


def test_check_asks_each_server(publish, monkeypatch):
    with serve(weights=("whole", CONTENT)) as server:
        for name in [*pretrained.PRETRAINED]:
            monkeypatch.setitem(pretrained.PRETRAINED, name, entry(f"{server.address}/no", f"{server.address}/weights"))
        status, out, _ = commands.call("-m", "alexnet_tf", "check", "--network")
        assert status == 0 and out.count("404 Not Found") == 3 and out.count(f"{len(CONTENT):,} bytes") == 3
        assert {request[0] for request in server.requests} == {"HEAD"}
        publish(f"{server.address}/no")
        assert commands.call("-m", "alexnet_tf", "check", "--network")[0] == 1


def test_a_file_downloaded_by_hand_is_recognised(publish, tmp_path):
    (tmp_path / "any.safetensors").write_bytes(CONTENT)
    publish("http://127.0.0.1:9/weights")
    flags = f"--source={tmp_path / 'any.safetensors'}", f"--workdir={tmp_path / 'run'}"
    status, out, _ = commands.call("-m", "alexnet_tf", "import_weights", *flags)
    assert status == 0 and "File: weights.safetensors: torchvision's ImageNet weights of the tests" in out


def torchvision_file():
    torch = pytest.importorskip("torch")
    network = torchvision_alexnet(torch.nn, WIDTH, 1000).eval()
    weights = state_dict(random_weights(narrow(TORCHVISION_SHAPES)))
    network.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    torch.save(network.state_dict(), content := io.BytesIO())

    def compute(image):  # torchvision's ImageClassification, without the resizing.
        pixels = torch.tensor(image[16:240, 16:240].transpose(2, 0, 1)) / 255
        mean, std = (torch.tensor(each)[:, None, None] for each in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        with torch.no_grad():
            return network(((pixels - mean) / std)[None])[0].numpy()

    return "alexnet.pth", content.getvalue(), compute


# caffe/python/caffe/imagenet/ilsvrc_2012_mean.npy, averaged over the pixels.
BGR_MEAN = np.array([104.00698793, 116.66876762, 122.67891434], "float32")


def bgr_crop(image):
    """What Caffe computes from: the central 227 pixels of 256, [1, blue green red, 227, 227], minus the mean."""
    return np.ascontiguousarray((image[14:241, 14:241, ::-1] - BGR_MEAN).transpose(2, 0, 1)[None], "float32")


def zoo_file(name):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    order, weights = caffe.CAFFE_ORDER[name] + caffe.REST, random_weights(narrow(caffe.CAFFE_SHAPES))
    session = runtime.InferenceSession(zoo_network(order, weights), providers=["CPUExecutionProvider"])
    content = zoo_network(order, weights, size=224)
    return f"{name}-12.onnx", content, lambda image: session.run(["fc8_1"], {"data_0": bgr_crop(image)})[0][0]


def caffe_file(name):
    order = caffe.CAFFE_ORDER[name] + caffe.REST
    content = caffe.caffemodel_bytes(order, random_weights(narrow(caffe.CAFFE_SHAPES)))
    prototxt = caffe.deploy(order, WIDTH, 1000).encode()
    network = cv2.dnn.readNetFromCaffe(*(np.frombuffer(each, "uint8") for each in (prototxt, content)))

    def compute(image):
        network.setInput(bgr_crop(image))
        return network.forward("fc8").reshape(-1)

    return f"{name}.caffemodel", content, compute


@pytest.mark.parametrize(
    "name, make_file",
    [
        ("torchvision", torchvision_file),
        ("caffe", lambda: zoo_file("caffe")),
        ("caffenet", lambda: zoo_file("caffenet")),
        ("caffe", lambda: caffe_file("caffe")),
        ("caffenet", lambda: caffe_file("caffenet")),
    ],
    ids=["torchvision", "caffe zoo", "caffenet zoo", "caffe", "caffenet"],
)
def test_from_a_picture_to_the_logits_it_computes_what_the_files_own_engine_does(
    name, make_file, cache, monkeypatch, tmp_path
):
    file_name, content, compute = make_file()
    monkeypatch.setitem(pretrained.PRETRAINED, name, entry("http://127.0.0.1:9/x", content=content, name=file_name))
    cache.mkdir(parents=True)
    (cache / file_name).write_bytes(content)
    run = alexnet_tf.load_pretrained(name)
    paths, expected = [], []
    for seed in range(5):  # Pictures of 256 pixels, which no resizing changes.
        small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), "uint8")
        image = PIL.Image.fromarray(small).resize((256, 256), PIL.Image.Resampling.BICUBIC)
        image.save(path := tmp_path / f"{seed}.png")
        paths.append(path)
        expected.append(compute(np.asarray(image, "float32")))
    crops = predictions.crops_of(paths, run.config.image_size, run.config.train.recipe.resize)
    logits = run.model(np.concatenate([crop for _, crop in crops])).numpy()
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()
    assert (run.predict(paths).argmax(axis=1) == np.argmax(expected, axis=1)).all()
