"""Tests of `serving_client` against servers that answer as TF Serving does, with a published SavedModel behind them."""

import base64
import concurrent.futures
import http.server
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from alexnet_tf.exporting import saved_model, serving_client
from tests.helpers import commands
from tests.helpers.networks import SMALL
from tests.helpers.saved_models import ENCODED, expected_scores, make_model, publish


class Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict as TF Serving answers it, with its own messages."""

    def __init__(self, version):
        self.classify = tf.saved_model.load(str(version)).signatures["serving_default"]

    def run(self, model, image_bytes):
        """Returns (None, {name: array}), or (a code of gRPC's, a message)."""
        if model != "alexnet":
            return grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({model})"
        try:
            return None, {
                key: each.numpy() for key, each in self.classify(image_bytes=tf.constant(image_bytes)).items()
            }
        except tf.errors.InvalidArgumentError as error:  # The server sends the text without Python's preface.
            return grpc.StatusCode.INVALID_ARGUMENT, error.message[error.message.index("assertion failed") :]

    def Predict(self, request, context):  # noqa: N802
        code, outputs = self.run(request.model_spec.name, tf.make_ndarray(request.inputs["image_bytes"]))
        if code:
            context.abort(code, outputs)
        return predict_pb2.PredictResponse(outputs={k: tf.make_tensor_proto(v) for k, v in outputs.items()})


class Handler(http.server.BaseHTTPRequestHandler):
    """The row format of TF Serving's REST interface."""

    def do_POST(self):  # noqa: N802
        [instance] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["instances"]
        model = urllib.parse.unquote(self.path.removeprefix("/v1/models/").removesuffix(":predict"))
        image_bytes = base64.b64decode(instance["image_bytes"]["b64"], validate=True)
        code, outputs = self.server.servicer.run(model, [image_bytes])
        if code:
            status, content = {"NOT_FOUND": 404, "INVALID_ARGUMENT": 400}[code.name], {"error": outputs}
        else:
            rows = {key: value[0].tolist() for key, value in outputs.items()}
            row = {key: [v.decode() if isinstance(v, bytes) else v for v in values] for key, values in rows.items()}
            status, content = 200, {"predictions": [row]}
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """(the Keras model, {"grpc": address, "rest": address})."""
    model = make_model(SMALL)
    classes = ("red", "yellow", "green", "gr\u00fcn \u00fc", "with, comma")
    servicer = Servicer(publish(model, SMALL, tmp_path_factory.mktemp("served"), classes))
    grpc_server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, grpc_server)
    port = grpc_server.add_insecure_port("localhost:0")
    grpc_server.start()
    with http.server.ThreadingHTTPServer(("localhost", 0), Handler) as rest_server:
        rest_server.servicer = servicer
        threading.Thread(target=rest_server.serve_forever, daemon=True).start()
        yield model, classes, {"grpc": f"localhost:{port}", "rest": f"http://localhost:{rest_server.server_port}"}
        rest_server.shutdown()
    grpc_server.stop(None).wait()


@pytest.mark.parametrize("kind", ["grpc", "rest"])
def test_classify_gives_the_keras_models_answer(servers, kind):
    model, classes, addresses = servers
    for image_bytes in ENCODED:
        [expected] = expected_scores(model, [image_bytes])
        ranked = serving_client.classify(addresses[kind], image_bytes)
        assert [name for name, _ in ranked] == [classes[index] for index in np.argsort(-expected)]
        np.testing.assert_allclose([score for _, score in ranked], np.sort(expected)[::-1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["grpc", "rest"])
def test_classify_says_what_is_wrong(servers, kind):
    address = servers[2][kind]
    with pytest.raises(serving_client.ImageRefused, match="neither a JPEG nor a PNG"):
        serving_client.classify(address, b"not an image")
    with pytest.raises(serving_client.ServingError, match=r"serves no such model: .*my model.*--model_name=NAME"):
        serving_client.classify(address, ENCODED[0], model="my model")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        nobody = f"localhost:{free.getsockname()[1]}"
        prefix = "http://" if kind == "rest" else ""
        with pytest.raises(serving_client.ServingError, match="does not answer .*Is the server up"):
            serving_client.classify(prefix + nobody, ENCODED[0], timeout=5)


@pytest.mark.parametrize("outputs", [{"probabilities": np.zeros([1, 5])}, {}], ids=["others", "none"])
def test_classify_refuses_an_answer_of_another_kind(servers, monkeypatch, outputs):
    monkeypatch.setattr(Servicer, "run", lambda *_: (None, outputs))
    for address in servers[2].values():
        with pytest.raises(serving_client.ServingError, match="answers without classes and scores"):
            serving_client.classify(address, ENCODED[0])


@pytest.mark.parametrize("server", ["http://[::1", "http://", "host:port", "", "http://a b:8501", "[::1"])
def test_an_address_that_is_none_is_refused(server):
    with pytest.raises(serving_client.ServingError, match="is not an address. gRPC is --server=HOST:8500"):
        serving_client.classify(server, ENCODED[0])


def test_rest_to_the_grpc_port_is_named(servers):
    address = servers[2]["grpc"]
    with pytest.raises(serving_client.ServingError, match=f"leave http:// out: --server={address}"):
        serving_client.classify(f"http://{address}", ENCODED[0], timeout=10)


@pytest.fixture
def proxy(monkeypatch):
    """A proxy in the environment that does not answer, as behind a company's; its address."""
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "grpc_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://user:secret@127.0.0.1:9")
    return "127.0.0.1:9"


@pytest.mark.parametrize("kind", ["grpc", "rest"])
def test_a_server_on_this_machine_is_not_asked_through_a_proxy(servers, proxy, kind):
    for address in (servers[2][kind], servers[2][kind].replace("localhost", "127.0.0.1")):
        assert len(serving_client.classify(address, ENCODED[0], timeout=10)) == 5


@pytest.mark.parametrize("server", ["model.invalid:8500", "http://model.invalid:8501"])
def test_a_proxy_on_the_way_to_a_server_is_named_and_no_proxy_is_respected(proxy, server, monkeypatch):
    expected = f"through the proxy {proxy}, .*export no_proxy=model.invalid asks"
    with pytest.raises(serving_client.ServingError, match=expected) as caught:
        serving_client.classify(server, ENCODED[0], timeout=5)
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("no_proxy", "model.invalid")
    with pytest.raises(serving_client.ServingError, match=r"REST is --server=http://HOST:8501.$"):
        serving_client.classify(server, ENCODED[0], timeout=5)


def test_predict_asks_the_server(servers, tmp_path):
    image, text = tmp_path / "a.jpg", tmp_path / "b.jpg"
    image.write_bytes(ENCODED[0])
    text.write_bytes(b"not an image")
    answers = {}
    for kind, address in servers[2].items():
        command = ["-m", "alexnet_tf", "predict", f"--server={address}", "--top=2", "--json", str(image), str(text)]
        status, out, err = commands.call(*command)
        assert status == 1, err  # One of the two cannot be read.
        good, bad = map(json.loads, out.splitlines())
        assert len(good["classes"]) == 2 and "not an image of a known format" in bad["error"]
        answers[kind] = [each["name"] for each in good["classes"]]
        assert err == ""
    assert answers["grpc"] == answers["rest"]


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl here")
def test_the_documented_curl_line_works(servers, tmp_path):
    (tmp_path / "IMAGE.jpg").write_bytes(ENCODED[0])
    address = servers[2]["rest"]
    command = saved_model.CURL.replace("http://localhost:8501", address)
    assert command != saved_model.CURL
    result = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    [prediction] = json.loads(result.stdout)["predictions"]
    assert prediction["classes"] == [name for name, _ in serving_client.classify(address, ENCODED[0])]


def free_port():
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


@pytest.mark.skipif(not shutil.which("tensorflow_model_server"), reason="no tensorflow_model_server on PATH")
def test_the_real_server(tmp_path):
    model, ports = make_model(SMALL), (free_port(), free_port())
    publish(model, SMALL, tmp_path / "alexnet", ["a", "b", "c", "d", "e"])
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(
            [
                "tensorflow_model_server",
                f"--port={ports[0]}",
                f"--rest_api_port={ports[1]}",
                "--model_name=alexnet",
                f"--model_base_path={tmp_path / 'alexnet'}",
                "--enable_batching",
                f"--batching_parameters_file={tmp_path / 'alexnet' / 'batching_parameters.txt'}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        [expected] = expected_scores(model, ENCODED[:1])
        for address in (f"localhost:{ports[0]}", f"http://localhost:{ports[1]}"):
            deadline = time.monotonic() + 60
            while True:
                try:
                    ranked = serving_client.classify(address, ENCODED[0])
                    break
                except serving_client.ServingError:
                    assert time.monotonic() < deadline, (tmp_path / "log").read_text()[-2000:]
                    time.sleep(0.5)
            np.testing.assert_allclose([score for _, score in ranked], np.sort(expected)[::-1], rtol=0, atol=1e-5)
            with pytest.raises(serving_client.ImageRefused):
                serving_client.classify(address, b"not an image")
        encoded = base64.b64encode(ENCODED[0]).decode()
        body = {"examples": [{"image/encoded": {"b64": encoded}}], "signature_name": "classify"}
        url = f"http://localhost:{ports[1]}/v1/models/alexnet:classify"
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode())) as response:
            assert len(json.load(response)["results"][0]) == 5
    finally:
        server.terminate()
        server.wait()
