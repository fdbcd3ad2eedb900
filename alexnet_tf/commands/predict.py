"""Names what is on images: classes with probabilities.

    python -m alexnet_tf predict --workdir=RUN IMAGE... [--top=5] [--ten_crop] [--json]
    python -m alexnet_tf predict --server=HOST:PORT IMAGE...           a TF Serving server, over gRPC
    python -m alexnet_tf predict --server=http://HOST:PORT IMAGE...    the same over REST
"""

import json
import pathlib

from absl import flags

from alexnet_tf import cli, errors, runs

cli.import_tensorflow()

import tensorflow as tf  # noqa: E402

from alexnet_tf.data import input_pipeline, preprocessing  # noqa: E402
from alexnet_tf.evaluation import metrics  # noqa: E402
from alexnet_tf.exporting import serving_client  # noqa: E402

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory.")
_SERVER = flags.DEFINE_string("server", None, "A TF Serving server to ask instead: HOST:PORT, or http://HOST:PORT.")
_MODEL_NAME = flags.DEFINE_string("model_name", "alexnet", "The name that --server knows the network by.")
_TOP = flags.DEFINE_integer("top", 5, "How many classes to name.", lower_bound=1)
_CHECKPOINT = flags.DEFINE_enum("checkpoint", "last", ["last", "best"], "Which checkpoint.")
_TEN_CROP = flags.DEFINE_bool("ten_crop", False, "Average over ten crops, as the paper does (Section 4.1).")
_JSON = flags.DEFINE_bool("json", False, "Print one line of JSON for each image.")


def main(argv):
    paths = argv[1:]
    if not paths:
        raise errors.UserError("Give at least one image file: python -m alexnet_tf predict --workdir=RUN IMAGE...")
    if bool(_WORKDIR.value) == bool(_SERVER.value):
        raise errors.UserError("Give either --workdir=RUN, or --server=HOST:PORT of a TF Serving server.")
    rank, unreadable = _ask_server() if _SERVER.value else _load_run(), 0
    for path in paths:
        image_bytes, reason = _read(path)
        try:
            ranked = [] if reason else rank(image_bytes)[:_TOP.value]
        except serving_client.ImageRefused as error:
            reason = str(error)
        if reason:
            unreadable += 1
            print(json.dumps({"file": path, "error": reason}) if _JSON.value else f"{path}: not read: {reason}")
        elif _JSON.value:
            print(json.dumps({"file": path, "classes": [{"name": n, "probability": p} for n, p in ranked]}))
        else:
            print("\n".join([f"{path}:", *(f"  {probability:7.4f}  {name}" for name, probability in ranked)]))
    return 1 if unreadable == len(paths) else 0


def _ask_server():
    """Returns the function from an encoded image to [(class name, probability)], best first, that asks the server."""
    if _TEN_CROP.value or flags.FLAGS["checkpoint"].present:
        raise errors.UserError("--ten_crop and --checkpoint need --workdir: a server has one network and one crop.")
    return lambda image_bytes: serving_client.classify(_SERVER.value, image_bytes, model=_MODEL_NAME.value)


def _load_run():
    """Returns the same function for the network of --workdir."""
    run = runs.RunDirectory(_WORKDIR.value)
    model, run_config, _ = runs.load_model(run, _CHECKPOINT.value)
    class_names, predict = run.class_names(), metrics.make_predictor(model)

    def rank(image_bytes):
        crops = input_pipeline.evaluation_crops(
            tf.constant(image_bytes), run_config.image_size, run_config.train.recipe.resize, _TEN_CROP.value)
        probabilities = tf.exp(predict(crops[None])[0]).numpy()
        return [(class_names[index], float(probabilities[index])) for index in probabilities.argsort()[::-1]]

    return rank


def _read(path):
    """Returns (the file's bytes, None), or (None, why it is no image)."""
    try:
        image_bytes = pathlib.Path(path).read_bytes()
    except OSError as error:
        return None, error.strerror
    reason = preprocessing.why_unreadable(image_bytes)
    return (None, reason) if reason else (image_bytes, None)


def run():
    cli.run(main)
