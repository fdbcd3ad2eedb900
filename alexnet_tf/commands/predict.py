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
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator

from alexnet_tf.commands import cli
from alexnet_tf.commands.options import ImageOptions, precision_setting
from alexnet_tf.runs.directory import RunDirectory, load_model
from alexnet_tf.support import errors, shell
from alexnet_tf.support.settings import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(ImageOptions):
    """What to classify, and what to print."""

    arguments: tuple[str, ...] = ()
    workdir: str | None = setting(None, "The run's directory.")
    server: str | None = setting(None, "A TF Serving server to ask instead: HOST:PORT, or http://HOST:PORT.")
    model_name: str = setting("alexnet", "Name of the model on --server.")
    top: int = setting(5, "How many classes to print.", lower=1)
    checkpoint: str = setting("last", "Which checkpoint.", choices=("last", "best"))
    ten_crop: bool = setting(False, "Average over ten crops, as the paper does (Section 4.1).")
    precision: str = precision_setting()
    batch_size: int = setting(128, "Crops per step.", lower=1)
    json: bool = setting(False, "Print one line of JSON for each image.")
    csv: bool = setting(False, "Print CSV, a line for each image.")
    output: str | None = setting(None, "Write the CSV to this file instead, whole or not at all.")


# (file, why it could not be read or None, [(class name, probability)] with the best first)
_Result = tuple[str, str | None, list[tuple[str, float]]]

# Is called with each file and its bytes.
_OnRead = Callable[[str, bytes], object]


def main(options: Options) -> int:
    """Prints the classes of each image, and returns 1 if none could be read."""
    line = shell.command_line("predict", "IMAGE...", workdir=options.workdir or "RUN")
    cli.check_some(options.arguments, "image file", line)
    if bool(options.workdir) == bool(options.server):
        raise errors.UserError("Give either --workdir=RUN, or --server=HOST:PORT of a TF Serving server.")
    if options.json + options.csv + bool(options.output) > 1:
        raise errors.UserError("Give one of --json, --csv and --output.")
    if options.server and (options.ten_crop, options.checkpoint, options.precision) != (False, "last", "auto"):
        raise errors.UserError(
            "--ten_crop, --checkpoint and --precision need --workdir: a server has one network and one crop."
        )
    if options.workdir:
        RunDirectory(options.workdir).existing_config()
    cli.import_tensorflow()
    from alexnet_tf.data import png_depth
    from alexnet_tf.evaluation import image_arguments, predictions

    counts: collections.Counter = collections.Counter()
    paths, started, watch = image_arguments.expand(options.arguments, sys.stdin), time.monotonic(), png_depth.Watch()
    classify = _ask_server if options.server else _classify
    results = _counted(classify(options, paths, watch.look), counts)
    names = predictions.columns(options.top, ["image"], ["error"])
    lines = (_csv_line(result, options.top) for result in results)
    if options.output:
        predictions.write_file(options.output, names, lines)
        seconds = time.monotonic() - started
        cli.show(
            f"Wrote {options.output}: {counts['read']:,} images ({counts['read'] / seconds:.1f} a second), "
            f"{counts['unreadable']:,} not read"
        )
    elif options.csv:
        predictions.write_lines(sys.stdout, names, lines)
    else:
        for result in results:
            print(_json_line(result) if options.json else _text(result))
    watch.report()
    return int(not counts["read"])


def _counted(results: Iterable[_Result], counts: collections.Counter) -> Iterator[_Result]:
    for result in results:
        counts["unreadable" if result[1] else "read"] += 1
        yield result


def _text(result: _Result) -> str:
    file, error, ranked = result
    lines = [f"{file}: not read: {error}" if error else f"{file}:"]
    lines += [f"  {probability:7.4f}  {name}" for name, probability in ranked]
    return "\n".join(shell.printable(line, keep="") for line in lines)


def _json_line(result: _Result) -> str:
    file, error, ranked = result
    classes = {"classes": [{"name": name, "probability": probability} for name, probability in ranked]}
    return json.dumps({"file": file} | ({"error": error} if error else classes))


def _csv_line(result: _Result, top: int) -> list[str]:
    file, error, ranked = result
    cells = [cell for name, probability in ranked for cell in (name, f"{probability:.6f}")]
    return [file, *cells, *[""] * (2 * top - len(cells)), error or ""]


def _ask_server(options: Options, paths: Iterable[str], on_read: _OnRead) -> Iterator[_Result]:
    """Yields what the server at --server says about each image."""
    from alexnet_tf.exporting import serving_client

    answers = serving_client.classify_files(options.server or "", paths, model=options.model_name, on_read=on_read)
    for path, error, ranked in answers:
        yield path, error, ranked[: options.top]


def _classify(options: Options, paths: Iterable[str], on_read: _OnRead) -> Iterator[_Result]:
    """Yields what the network of --workdir says about each image."""
    from alexnet_tf.evaluation import classification, metrics, predictions
    from alexnet_tf.support import devices

    run = RunDirectory(options.workdir or "")
    model, run_config, _ = load_model(run, options.checkpoint, devices.chosen_precision(options.precision))
    class_names = run.class_names()
    for each in classification.classify(
        metrics.make_predictor(model),
        paths,
        image_size=run_config.image_size,
        resize=run_config.train.recipe.resize,
        ten_crop=options.ten_crop,
        batch_size=options.batch_size,
        on_read=on_read,
    ):
        ranked = []
        if each.log_probabilities is not None:
            classes, probabilities = predictions.most_probable(each.log_probabilities[None], options.top)
            ranked = [(class_names[index], float(p)) for index, p in zip(classes[0], probabilities[0])]
        yield each.file, each.error, ranked
