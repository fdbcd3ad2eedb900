"""Measures a run's error on a split, every image once.

    python -m alexnet_tf evaluate --workdir=RUN
    python -m alexnet_tf evaluate --workdir=RUN --data_dir=DIR --split=val --checkpoint=best --ten_crop --json
    python -m alexnet_tf evaluate --workdir=RUN --predictions=FILE.csv

It prints the top-1 and top-5 error, their mean over the classes, the error of each class and the pairs of classes that
are confused most. --predictions writes a line for each image: its file, label, prediction and five best classes.

Next: python -m alexnet_tf predict --workdir=RUN IMAGE...
"""

import json
from typing import Any

from absl import flags

from alexnet_tf.commands import cli
from alexnet_tf.runs.directory import RunDirectory, load_model
from alexnet_tf.support import errors, shell

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Images to evaluate on; by default those of the run.")
_DATASET = flags.DEFINE_string("dataset", None, "Name of the TFDS data set in --data_dir.")
_SPLIT = flags.DEFINE_string("split", None, "Which split; by default the validation split.")
_CHECKPOINT = flags.DEFINE_enum("checkpoint", "last", ["last", "best"], "Which checkpoint.")
_TEN_CROP = flags.DEFINE_bool("ten_crop", False, "Average over ten crops, as the paper does (Section 4.1).")
_ON_BAD_IMAGE = flags.DEFINE_enum(
    "on_bad_image", "fail", ["fail", "skip"], "What to do with an image that cannot be read; it is reported either way."
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Crops per step.", lower_bound=1)
_PREDICTIONS = flags.DEFINE_string("predictions", None, "Also write the prediction of every image to this CSV file.")
_PRECISION = cli.define_precision_option()
cli.define_image_limit()
_JSON = flags.DEFINE_bool("json", False, "Print one line of JSON.")


def main(arguments: list[str]) -> None:
    """Prints the errors and the loss."""
    cli.check_no_arguments(arguments)
    cli.check_directory("data_dir", _DATA_DIR.value)
    run = RunDirectory(_WORKDIR.value)
    run.existing_config()
    cli.import_tensorflow()
    from alexnet_tf.data import discovery, input_pipeline
    from alexnet_tf.evaluation import error_report, metrics, predictions
    from alexnet_tf.support import devices

    precision = devices.chosen_precision(_PRECISION.value)
    model, run_config, state = load_model(run, _CHECKPOINT.value, precision)
    data = discovery.load_run_dataset(run_config.data, _DATA_DIR.value, _DATASET.value)
    name = _SPLIT.value or data.validation
    if name not in data.splits:
        raise errors.UserError(f"--split={name} is not in {data.directory}; there: {', '.join(data.splits)}.")
    split, crops = data.splits[name], 10 if _TEN_CROP.value else 1
    skipped: dict[int, str] = {}
    batches = input_pipeline.evaluation_batches(
        split,
        batch_size=max(1, _BATCH_SIZE.value // crops),
        image_size=run_config.image_size,
        resize=run_config.train.recipe.resize,
        ten_crop=_TEN_CROP.value,
        on_bad_image=_ON_BAD_IMAGE.value,
        skipped=skipped,
    )
    ranked: list = []

    def keep(log_probabilities: Any, labels: Any) -> None:
        ranked.append((labels, *predictions.most_probable(log_probabilities)))

    result = metrics.evaluate(
        metrics.make_predictor(model),
        batches,
        len(data.class_names),
        on_batch=keep if _PREDICTIONS.value else None,
    )
    if _PREDICTIONS.value:
        names = (split.describe(index) for index in range(len(split)) if index not in skipped)
        predictions.write_csv_file(_PREDICTIONS.value, predictions.of_split(ranked, names, data.class_names))
    if _JSON.value:
        print(
            json.dumps(
                {
                    "workdir": str(run),
                    "checkpoint": _CHECKPOINT.value,
                    "epoch": state["epoch"],
                    "data": data.directory,
                    "split": name,
                    "examples": result.examples,
                    "skipped": len(skipped),
                    "crops": crops,
                    "precision": precision,
                    **error_report.as_dict(result, data.class_names),
                }
            )
        )
        return
    left_out = f" ({len(skipped):,} skipped)" if skipped else ""
    cli.show(
        f"{data.directory}, {name}: {result.examples:,} images{left_out}, {shell.count(crops, 'crop')} each, "
        f"{_CHECKPOINT.value} checkpoint of {run} (after epoch {state['epoch']}), {precision}\n"
        + error_report.as_text(result, data.class_names)
    )
    if _PREDICTIONS.value:
        cli.show(f"Wrote {_PREDICTIONS.value}: {result.examples:,} predictions")
