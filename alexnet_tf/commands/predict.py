"""Classifies images: the most probable classes with their probabilities.

    python -m alexnet_tf predict --workdir=RUN IMAGE...
    python -m alexnet_tf predict --workdir=RUN --top=3 --ten_crop --json IMAGE...
    python -m alexnet_tf predict --workdir=RUN --output=FILE.csv FOLDER
    python -m alexnet_tf predict --server=HOST:PORT IMAGE...           a TF Serving server, over gRPC
    python -m alexnet_tf predict --server=http://HOST:PORT IMAGE...    the same over REST

IMAGE is a file, a folder (its images at any depth), a glob such as 'photos/*.jpg', or - for a list of paths on standard
input: find photos -name '*.jpg' | python -m alexnet_tf predict --workdir=RUN --csv -
Next: python -m alexnet_tf export --workdir=RUN
"""

import collections
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from absl import flags

from alexnet_tf.commands import cli
from alexnet_tf.evaluation.options import PredictOptions
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import errors, shell

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory.")
_SERVER = flags.DEFINE_string("server", None, "A TF Serving server to ask instead: HOST:PORT, or http://HOST:PORT.")
_MODEL_NAME = flags.DEFINE_string("model_name", "alexnet", "Name of the model on --server.")
_TOP = flags.DEFINE_integer("top", 5, "How many classes to print.", lower_bound=1)
_CHECKPOINT = flags.DEFINE_enum("checkpoint", "last", ["last", "best"], "Which checkpoint.")
_TEN_CROP = flags.DEFINE_bool("ten_crop", False, "Average over ten crops, as the paper does (Section 4.1).")
_PRECISION = cli.define_precision_option()
cli.define_image_limit()
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Crops per step.", lower_bound=1)
_JSON = flags.DEFINE_bool("json", False, "Print one line of JSON for each image.")
_CSV = flags.DEFINE_bool("csv", False, "Print CSV, a line for each image.")
_OUTPUT = flags.DEFINE_string("output", None, "Write the CSV to this file instead, whole or not at all.")


def main(arguments: list[str]) -> int:
    """Prints the classes of each image, and returns 1 if none could be read."""
    if not arguments:
        line = shell.command_line("predict", "IMAGE...", workdir=_WORKDIR.value or "RUN")
        raise errors.UserError(f"Give at least one image file: {line}")
    if bool(_WORKDIR.value) == bool(_SERVER.value):
        raise errors.UserError("Give either --workdir=RUN, or --server=HOST:PORT of a TF Serving server.")
    if _JSON.value + _CSV.value + bool(_OUTPUT.value) > 1:
        raise errors.UserError("Give one of --json, --csv and --output.")
    if _WORKDIR.value:
        RunDirectory(_WORKDIR.value).existing_config()
    cli.import_tensorflow()
    from alexnet_tf.data import png_depth
    from alexnet_tf.evaluation import predictions

    counts: collections.Counter = collections.Counter()
    paths, started, watch = predictions.expand(arguments, sys.stdin), time.monotonic(), png_depth.Watch()
    results = _counted((_ask_server if _SERVER.value else _classify)(paths, watch.look), counts)
    if _OUTPUT.value:
        predictions.write_csv_file(_OUTPUT.value, results, _TOP.value)
        seconds = time.monotonic() - started
        cli.show(
            f"Wrote {_OUTPUT.value}: {counts['read']:,} images ({counts['read'] / seconds:.1f} a second), "
            f"{counts['unreadable']:,} not read"
        )
    elif _CSV.value:
        predictions.write_csv(sys.stdout, results, _TOP.value)
    else:
        for result in results:
            print(result.as_json() if _JSON.value else result.as_text())
    watch.report()
    return int(not counts["read"])


def _counted(results: Iterable[Any], counts: collections.Counter) -> Iterator[Any]:
    for result in results:
        counts["unreadable" if result.error else "read"] += 1
        yield result


def _ask_server(paths: Iterable[str], on_read: Callable[[str, bytes], object]) -> Iterator[Any]:
    """Yields what the server at --server says about each image."""
    from alexnet_tf.exporting import serving_client

    if _TEN_CROP.value or flags.FLAGS["checkpoint"].present or flags.FLAGS["precision"].present:
        raise errors.UserError(
            "--ten_crop, --checkpoint and --precision need --workdir: a server has one network and one crop."
        )
    return serving_client.classify_files(
        _SERVER.value or "", paths, model=_MODEL_NAME.value, top=_TOP.value, on_read=on_read
    )


def _classify(paths: Iterable[str], on_read: Callable[[str, bytes], object]) -> Iterator[Any]:
    """Yields what the network of --workdir says about each image."""
    from alexnet_tf.evaluation import predictions

    options = PredictOptions(
        top=_TOP.value,
        checkpoint=_CHECKPOINT.value,
        ten_crop=_TEN_CROP.value,
        precision=_PRECISION.value,
        batch_size=_BATCH_SIZE.value,
    )
    return predictions.predict(RunDirectory(_WORKDIR.value or ""), paths, options, on_read)
