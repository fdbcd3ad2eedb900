"""Asks a TF Serving server to classify an image, over gRPC or REST: the other end of an exported SavedModel.

Works with any server whose default signature takes `image_bytes` and returns `classes` and `scores`.
"""

import base64
import contextlib
import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from alexnet_tf.data import plain_images, preprocessing
from alexnet_tf.evaluation import predictions
from alexnet_tf.support import errors


class ServingError(errors.UserError):
    """The server cannot be asked; the message says why and what to do."""


class ImageRefused(ServingError):
    """The server works, and answers that an image cannot be read."""


def classify(
    server: str, image_bytes: bytes, *, model: str = "alexnet", timeout: float = 60.0
) -> list[tuple[str, float]]:
    """Asks a server for an image's classes.

    Args:
        server: "HOST:PORT" for gRPC (8500 by default there), "http://HOST:PORT" or "https://..." for REST (8501).
        image_bytes: An encoded image, JPEG or PNG.
        model: The name that the server knows the network by.
        timeout: In seconds.

    Returns:
        [(class name, probability)], the most probable first.

    Raises:
        ImageRefused: If the server cannot read the image.
        ServingError: If there is no such server or model, or its answer has no classes and scores.
    """
    ask = _ask_rest if _parts(server).scheme else _ask_grpc
    return ask(server.rstrip("/"), image_bytes, model, timeout)


def classify_files(
    server: str, paths: Iterable[str], *, model: str = "alexnet", top: int = 5, on_read: Callable[[str, bytes], object]
) -> Iterator[predictions.Prediction]:
    """Asks a server for the classes of image files, one after the other; those that cannot be read are not sent.

    Args:
        server: As for `classify`.
        paths: Files of images.
        model: As for `classify`.
        top: How many classes of each image.
        on_read: Called with each file and what was read, as JPEG or PNG.

    Raises:
        ServingError: As `classify`, but for an image that the server cannot read.
    """
    for path in paths:
        ranked: list[tuple[str, float]] = []
        try:
            image_bytes = predictions.read(path)
            on_read(path, image_bytes)
            reason = preprocessing.why_unreadable(image_bytes)
            if not reason:
                ranked = classify(server, image_bytes, model=model)
        except (plain_images.UnreadableImage, ImageRefused) as error:
            reason = str(error)
        yield predictions.Prediction(path, ranked[:top], reason or "")


def _parts(server: str) -> urllib.parse.SplitResult:
    """Returns the parts of an address; that of a gRPC server has no scheme.

    Raises:
        ServingError: If it has no host, or a port that is not a number.
    """
    with contextlib.suppress(ValueError):
        parts = urllib.parse.urlsplit(server if server.startswith(("http://", "https://")) else f"//{server}")
        if parts.hostname and parts.port != 0 and " " not in server:
            return parts
    raise ServingError(
        f"--server={server} is not an address. gRPC is --server=HOST:8500, REST is --server=http://HOST:8501; an IPv6 "
        "address stands in brackets, http://[::1]:8501."
    )


def _proxy_of(server: str) -> str | None:
    """Returns the proxy that the environment names for a server; None for this machine, which no proxy reaches."""
    parts = _parts(server)
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127.") or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(parts.scheme or "http")


def _ask_grpc(server: str, image_bytes: bytes, model: str, timeout: float) -> list[tuple[str, float]]:
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    request = predict_pb2.PredictRequest(inputs={"image_bytes": tf.make_tensor_proto([image_bytes])})
    request.model_spec.name = model
    with grpc.insecure_channel(server, [("grpc.enable_http_proxy", int(bool(_proxy_of(server))))]) as channel:
        try:
            answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout)
        except grpc.RpcError as error:
            raise _explained(server, error.code().name, error.details()) from error
    outputs = {key: tf.make_ndarray(value)[0].tolist() for key, value in answer.outputs.items()}
    return [(name.decode("utf-8", "replace"), score) for name, score in _answer(server, outputs)]


# gRPC's codes as the REST interface sends them.
_HTTP_CODES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 503: "UNAVAILABLE"}


def _ask_rest(server: str, image_bytes: bytes, model: str, timeout: float) -> list[tuple[str, float]]:
    body = json.dumps({"instances": [{"image_bytes": {"b64": base64.b64encode(image_bytes).decode()}}]})
    request = urllib.request.Request(f"{server}/v1/models/{urllib.parse.quote(model, safe='')}:predict", body.encode())
    proxy = _proxy_of(server)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({_parts(server).scheme: proxy} if proxy else {}))
    try:
        with opener.open(request, timeout=timeout) as response:
            [outputs] = json.load(response)["predictions"]
    except urllib.error.HTTPError as error:
        message = error.read().decode("utf-8", "replace")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            message = json.loads(message)["error"]
        raise _explained(server, _HTTP_CODES.get(error.code, str(error.code)), message) from error
    except http.client.BadStatusLine as error:
        raise ServingError(
            f"{server} does not speak HTTP. If that is the gRPC port, leave http:// out: --server="
            f"{server.split('//')[1]}; REST has a port of its own, 8501 by default."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _explained(server, "UNAVAILABLE", str(getattr(error, "reason", error))) from error
    except (ValueError, KeyError, TypeError):
        outputs = {}
    return _answer(server, outputs)


def _explained(server: str, code: str, details: str | None) -> ServingError:
    """Returns what a person can do about an error code of gRPC's."""
    first_line = (details or "").strip().split("\n")[0]
    if code == "INVALID_ARGUMENT" and "signature" not in first_line.lower():
        return ImageRefused(first_line)
    if code == "NOT_FOUND":
        return ServingError(f"{server} serves no such model: {first_line}. Give its name: --model_name=NAME.")
    if code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
        return ServingError(f"{server}: {code}: {first_line}")
    hint = ""
    if proxy := _proxy_of(server):
        hint = (
            f" It was asked through the proxy {urllib.parse.urlsplit(proxy).netloc.rpartition('@')[2]}, which the "
            f"environment names; export no_proxy={_parts(server).hostname} asks it directly."
        )
    return ServingError(
        f"{server} does not answer ({first_line}). Is the server up? gRPC is --server=HOST:8500, REST is "
        f"--server=http://HOST:8501.{hint}"
    )


def _answer(server: str, outputs: Mapping[str, Any]) -> list[tuple[Any, float]]:
    """Returns an answer's classes with their probabilities.

    Raises:
        ServingError: If it has none.
    """
    try:
        return list(zip(outputs["classes"], outputs["scores"], strict=True))
    except (KeyError, TypeError) as error:
        raise ServingError(
            f"{server} answers without classes and scores: the model there is not an exported SavedModel of this "
            "project."
        ) from error
