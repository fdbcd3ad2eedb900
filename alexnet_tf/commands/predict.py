"""Classifies images: the most probable classes with their probabilities.

    python -m alexnet_tf predict --pretrained=torchvision IMAGE...     public ImageNet weights, downloaded once
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
import dataclasses
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from alexnet_tf.commands import cli
from alexnet_tf.commands.options import ImageOptions, RunOptions
from alexnet_tf.evaluation.options import PredictOptions
from alexnet_tf.support import errors, shell
from alexnet_tf.support.settings import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(RunOptions, PredictOptions, ImageOptions):
    """What to classify, and what to print."""

    arguments: tuple[str, ...] = ()
    server: str | None = setting(None, "A TF Serving server to ask instead: HOST:PORT, or http://HOST:PORT.")
    model_name: str = setting("alexnet", "Name of the model on --server.")
    json: bool = setting(False, "Print one line of JSON for each image.")
    csv: bool = setting(False, "Print CSV, a line for each image.")
    output: str | None = setting(None, "Write the CSV to this file instead, whole or not at all.")


def main(options: Options) -> int:
    """Prints the classes of each image, and returns 1 if one cannot be read."""
    line = shell.command_line("predict", "IMAGE...", workdir=options.workdir or "RUN")
    cli.check_some(options.arguments, "image file", line)
    if bool(options.workdir) + bool(options.pretrained) + bool(options.server) != 1:
        raise errors.UserError(
            "Give one of --workdir=RUN, --pretrained=torchvision, or --server=HOST:PORT of a TF Serving server."
        )
    if options.json + options.csv + bool(options.output) > 1:
        raise errors.UserError("Give one of --json, --csv and --output.")
    if options.server and (options.ten_crop, options.checkpoint, options.precision) != (False, "last", "auto"):
        raise errors.UserError(
            "--ten_crop, --checkpoint and --precision need a run: a server has one network and one crop."
        )
    run = options.run() if not options.server else None
    cli.import_tensorflow()
    from alexnet_tf.data import png_depth
    from alexnet_tf.evaluation import predictions

    paths, started, watch = predictions.expand(options.arguments, sys.stdin), time.monotonic(), png_depth.Watch()
    if options.server:
        from alexnet_tf.exporting import serving_client

        results = serving_client.classify_files(
            options.server, paths, model=options.model_name, top=options.top, on_read=watch.look
        )
    else:
        results = predictions.predict(run or options.run(), paths, options, watch.look)
    counts: collections.Counter = collections.Counter()
    results = _counted(results, counts)
    if options.output:
        predictions.write_csv_file(options.output, results, options.top)
        seconds = time.monotonic() - started
        cli.show(
            f"Wrote {options.output}: {counts['read']:,} images ({counts['read'] / seconds:.1f} a second), "
            f"{counts['unreadable']:,} not read"
        )
    elif options.csv:
        predictions.write_csv(sys.stdout, results, options.top)
    else:
        for result in results:
            print(result.as_json() if options.json else result.as_text())
    watch.report()
    return int(counts["unreadable"] > 0 or not counts["read"])


def _counted(results: Iterable[Any], counts: collections.Counter) -> Iterator[Any]:
    for result in results:
        counts["unreadable" if result.error else "read"] += 1
        yield result
