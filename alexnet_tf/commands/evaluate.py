"""Measures a run's error on a split, every image once.

    python -m alexnet_tf evaluate --workdir=RUN
    python -m alexnet_tf evaluate --workdir=RUN --data_dir=DIR --split=val --checkpoint=best --ten_crop --json

Next: python -m alexnet_tf predict --workdir=RUN IMAGE...
"""

import json

from absl import flags

from alexnet_tf import cli, errors, runs

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Images to evaluate on; by default those of the run.")
_DATASET = flags.DEFINE_string("dataset", None, "Name of the TFDS data set in --data_dir.")
_SPLIT = flags.DEFINE_string("split", None, "Which split; by default the validation split.")
_CHECKPOINT = flags.DEFINE_enum("checkpoint", "last", ["last", "best"], "Which checkpoint.")
_TEN_CROP = flags.DEFINE_bool("ten_crop", False, "Average over ten crops, as the paper does (Section 4.1).")
_ON_BAD_IMAGE = flags.DEFINE_enum(
    "on_bad_image", "fail", ["fail", "skip"],
    "What to do with an image that cannot be read; it is reported either way.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Crops per step.", lower_bound=1)
_JSON = flags.DEFINE_bool("json", False, "Print one line of JSON.")


def main(arguments: list[str]) -> None:
    """Prints the errors and the loss."""
    cli.check_no_arguments(arguments)
    cli.check_directory("data_dir", _DATA_DIR.value)
    run = runs.RunDirectory(_WORKDIR.value)
    run.existing_config()
    cli.import_tensorflow()
    from alexnet_tf.data import discovery, input_pipeline
    from alexnet_tf.evaluation import metrics

    model, run_config, state = runs.load_model(run, _CHECKPOINT.value)
    data = discovery.load_run_dataset(run_config.data, _DATA_DIR.value, _DATASET.value)
    name = _SPLIT.value or data.validation
    if name not in data.splits:
        raise errors.UserError(f"--split={name} is not in {data.directory}; there: {', '.join(data.splits)}.")
    split = data.splits[name]
    skipped: dict[int, str] = {}
    batches = input_pipeline.evaluation_batches(
        split, batch_size=max(1, _BATCH_SIZE.value // (10 if _TEN_CROP.value else 1)),
        image_size=run_config.image_size, resize=run_config.train.recipe.resize, ten_crop=_TEN_CROP.value,
        on_bad_image=_ON_BAD_IMAGE.value, skipped=skipped)
    result = metrics.evaluate(metrics.make_predictor(model), batches, len(data.class_names))
    report = {
        "workdir": str(run), "checkpoint": _CHECKPOINT.value, "epoch": state["epoch"], "data": data.directory,
        "split": name, "examples": result.examples, "skipped": len(skipped), "crops": 10 if _TEN_CROP.value else 1,
        "loss": result.loss, "top1_error": result.top1_error, "top5_error": result.top5_error}
    if _JSON.value:
        print(json.dumps(report))
        return
    top5 = "" if result.top5_error is None else f"top-5 error  {result.top5_error:.4f}\n"
    left_out = f" ({len(skipped):,} skipped)" if skipped else ""
    cli.show(f"{data.directory}, {name}: {result.examples:,} images{left_out}, {report['crops']} crop(s) each, "
          f"{_CHECKPOINT.value} checkpoint of {run} (after epoch {state['epoch']})\n"
          f"top-1 error  {result.top1_error:.4f}\n{top5}loss         {result.loss:.4f}")
