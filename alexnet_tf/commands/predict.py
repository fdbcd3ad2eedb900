"""Classifies images: the most probable classes with their probabilities.

    python -m alexnet_tf predict --workdir=RUN IMAGE...
    python -m alexnet_tf predict --workdir=RUN --top=5 --ten_crop --json IMAGE...
    python -m alexnet_tf predict --server=HOST:PORT IMAGE...           a TF Serving server, over gRPC
    python -m alexnet_tf predict --server=http://HOST:PORT IMAGE...    the same over REST

Next: python -m alexnet_tf export --workdir=RUN
"""

import json
from collections.abc import Callable

from absl import flags

from alexnet_tf import cli, errors, runs, shell

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory.")
_SERVER = flags.DEFINE_string("server", None, "A TF Serving server to ask instead: HOST:PORT, or http://HOST:PORT.")
_MODEL_NAME = flags.DEFINE_string("model_name", "alexnet", "Name of the model on --server.")
_TOP = flags.DEFINE_integer("top", 5, "How many classes to print.", lower_bound=1)
_CHECKPOINT = flags.DEFINE_enum("checkpoint", "last", ["last", "best"], "Which checkpoint.")
_TEN_CROP = flags.DEFINE_bool("ten_crop", False, "Average over ten crops, as the paper does (Section 4.1).")
_JSON = flags.DEFINE_bool("json", False, "Print one line of JSON for each image.")


def main(arguments: list[str]) -> int:
    """Prints the classes of each image, and returns 1 if none could be read."""
    paths = arguments
    if not paths:
        line = shell.command_line("predict", "IMAGE...", workdir=_WORKDIR.value or "RUN")
        raise errors.UserError(f"Give at least one image file: {line}")
    if bool(_WORKDIR.value) == bool(_SERVER.value):
        raise errors.UserError("Give either --workdir=RUN, or --server=HOST:PORT of a TF Serving server.")
    if _WORKDIR.value:
        runs.RunDirectory(_WORKDIR.value or "").existing_config()
    cli.import_tensorflow()
    from alexnet_tf.exporting import serving_client

    rank, unreadable = _ask_server() if _SERVER.value else _load_run(), 0
    for path in paths:
        image_bytes, reason = _read(path)
        try:
            ranked = rank(image_bytes)[:_TOP.value] if image_bytes else []
        except serving_client.ImageRefused as error:
            reason = str(error)
        if reason:
            unreadable += 1
            print(json.dumps({"file": path, "error": reason}) if _JSON.value
                else shell.printable(f"{path}: not read: {reason}"))
        elif _JSON.value:
            print(json.dumps({"file": path, "classes": [{"name": n, "probability": p} for n, p in ranked]}))
        else:
            cli.show("\n".join([f"{path}:", *(f"  {probability:7.4f}  {name}" for name, probability in ranked)]))
    return 1 if unreadable == len(paths) else 0


def _ask_server() -> Callable[[bytes], list[tuple[str, float]]]:
    """Returns the function from an encoded image to [(class name, probability)], best first, that asks the server."""
    from alexnet_tf.exporting import serving_client

    if _TEN_CROP.value or flags.FLAGS["checkpoint"].present:
        raise errors.UserError("--ten_crop and --checkpoint need --workdir: a server has one network and one crop.")
    server = _SERVER.value or ""
    return lambda image_bytes: serving_client.classify(server, image_bytes, model=_MODEL_NAME.value)


def _load_run() -> Callable[[bytes], list[tuple[str, float]]]:
    """Returns the same function for the network of --workdir."""
    import tensorflow as tf

    from alexnet_tf.data import input_pipeline
    from alexnet_tf.evaluation import metrics

    run = runs.RunDirectory(_WORKDIR.value or "")
    model, run_config, _ = runs.load_model(run, _CHECKPOINT.value)
    class_names, predict = run.class_names(), metrics.make_predictor(model)

    def rank(image_bytes):
        crops = input_pipeline.evaluation_crops(
            tf.constant(image_bytes), run_config.image_size, run_config.train.recipe.resize, _TEN_CROP.value)
        probabilities = tf.exp(predict(crops[None])[0]).numpy()
        return [(class_names[index], float(probabilities[index])) for index in probabilities.argsort()[::-1]]

    return rank


def _read(path: str) -> tuple[bytes | None, str | None]:
    """Returns (the file's bytes, None), or (None, why it is not an image)."""
    from alexnet_tf.data import other_formats, preprocessing, reading

    try:
        image_bytes = other_formats.as_readable(reading.read_file(path))
    except OSError as error:
        return None, error.strerror
    except other_formats.UnreadableImage as error:
        return None, str(error)
    reason = preprocessing.why_unreadable(image_bytes)
    return (None, reason) if reason else (image_bytes, None)
