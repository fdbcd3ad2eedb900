"""Measures a run's error on a split, every image once.

    python -m alexnet_tf evaluate --workdir=RUN
    python -m alexnet_tf evaluate --workdir=RUN --data_dir=DIR --split=val --checkpoint=best --ten_crop --json
    python -m alexnet_tf evaluate --workdir=RUN --predictions=FILE.csv

It prints the top-1 and top-5 error, their mean over the classes, the error of each class and the pairs of classes that
are confused most. --predictions writes a line for each image: its file, label, prediction and five best classes.

Next: python -m alexnet_tf predict --workdir=RUN IMAGE...
"""

import dataclasses
import json
from typing import Any

from alexnet_tf.commands import cli
from alexnet_tf.commands.options import CheckpointOptions, DataOptions
from alexnet_tf.data.options import ExampleOptions
from alexnet_tf.evaluation.options import BadImageOptions, precision_setting
from alexnet_tf.runs.directory import load_model
from alexnet_tf.support import errors, shell
from alexnet_tf.support.settings import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(CheckpointOptions, DataOptions, BadImageOptions):
    """What to evaluate, and how."""

    split: str | None = setting(None, "Which split; by default the validation split.")
    ten_crop: bool = setting(False, "Average over ten crops, as the paper does (Section 4.1).")
    batch_size: int = setting(128, "Crops per step.", lower=1)
    predictions: str | None = setting(None, "Also write the prediction of every image to this CSV file.")
    precision: str = precision_setting()
    json: bool = setting(False, "Print one line of JSON.")


def main(options: Options) -> None:
    """Prints the errors and the loss."""
    run = options.run()
    cli.import_tensorflow()
    from alexnet_tf.data import discovery, input_pipeline
    from alexnet_tf.evaluation import error_report, metrics, predictions
    from alexnet_tf.support import devices

    precision = devices.chosen_precision(options.precision)
    model, run_config, state = load_model(run, options.checkpoint, precision)
    data = discovery.load_run_dataset(run_config.data, options.data_dir, ExampleOptions(dataset=options.dataset))
    name = options.split or data.validation
    if name not in data.splits:
        raise errors.UserError(f"--split={name} is not in {data.directory}; there: {', '.join(data.splits)}.")
    split, crops = data.splits[name], 10 if options.ten_crop else 1
    skipped: dict[int, str] = {}
    batches = input_pipeline.evaluation_batches(
        split,
        batch_size=max(1, options.batch_size // crops),
        image_size=run_config.image_size,
        resize=run_config.train.recipe.resize,
        ten_crop=options.ten_crop,
        on_bad_image=options.on_bad_image,
        skipped=skipped,
    )
    class_names = run.class_names()
    ranked: list = []
    keep = lambda found, labels: ranked.append((labels, *predictions.most_probable(found)))  # noqa: E731
    predictor, is_kept = metrics.make_predictor(model), options.predictions is not None
    result = metrics.evaluate(predictor, batches, len(class_names), on_batch=keep if is_kept else None)
    if options.predictions:
        names = (split.describe(index) for index in range(len(split)) if index not in skipped)
        predictions.write_csv_file(options.predictions, predictions.of_split(ranked, names, class_names))
    facts = {
        "workdir": str(run),
        "checkpoint": options.checkpoint,
        "epoch": state["epoch"],
        "data": data.directory,
        "split": name,
        "examples": result.examples,
        "skipped": len(skipped),
        "crops": crops,
        "precision": precision,
    }
    if options.json:
        print(json.dumps(facts | error_report.as_dict(result, class_names)))
        return
    cli.show(f"{_headline(facts)}\n{error_report.as_text(result, class_names)}")
    if options.predictions:
        cli.show(f"Wrote {options.predictions}: {result.examples:,} predictions")


def _headline(facts: dict[str, Any]) -> str:
    left_out = f" ({facts['skipped']:,} skipped)" if facts["skipped"] else ""
    return (
        f"{facts['data']}, {facts['split']}: {facts['examples']:,} images{left_out}, "
        f"{shell.count(facts['crops'], 'crop')} each, {facts['checkpoint']} checkpoint of {facts['workdir']} (after "
        f"epoch {facts['epoch']}), {facts['precision']}"
    )
