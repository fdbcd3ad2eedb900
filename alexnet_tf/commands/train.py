"""Trains AlexNet. The same command again resumes a run that was stopped.

    python -m alexnet_tf train                         the demo: a small synthetic data set, no download
    python -m alexnet_tf train --data_dir=DIR          class folders (DIR/train/<class>/*.jpg and DIR/val/..., or just
                                                       DIR/<class>/*.jpg), or a TFDS directory (--dataset=NAME)
    python -m alexnet_tf train --data_dir=DIR --architecture=caffe --epochs=90
    python -m alexnet_tf train --data_dir=DIR --init_from=RUN --freeze_until=conv5
                                                       transfer learning from a trained run, or one of import_weights

The run is kept in runs/<architecture>-<data set> (runs/<RUN>-to-<data set> in transfer learning), or --workdir. What no
flag sets is the architecture's recipe. Next: python -m alexnet_tf evaluate --workdir=RUN
"""

import dataclasses

from absl import flags

from alexnet_tf.commands import cli
from alexnet_tf.network import recipes
from alexnet_tf.runs.config import TrainConfig
from alexnet_tf.runs.directory import RunDirectory, default_path
from alexnet_tf.support import errors, settings
from alexnet_tf.training import configure

_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Class folders or a TFDS directory. By default a small synthetic data set."
)
_DATASET = flags.DEFINE_string("dataset", None, "Name of the TFDS data set in --data_dir, such as imagenet2012.")
_DATA_OPTIONS = cli.define_data_options()
cli.define_image_limit()
_DOWNLOAD = flags.DEFINE_bool("download", False, "Let TFDS download and prepare --dataset into --data_dir.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory. Default: runs/<architecture>-<data set>.")


def _define(*classes):
    """Makes a flag of each field that `setting` made, without a default; returns the flags."""
    made = []
    for options in classes:
        for field in dataclasses.fields(options):
            name, limits, kind = field.name, field.metadata, settings.kind_of(options, field.name)
            if "help" not in limits:
                continue
            text, bounds = limits["help"], (limits["lower"], limits["upper"])
            if kind is str and limits["choices"]:
                made.append(flags.DEFINE_enum(name, None, [*limits["choices"]], text, case_sensitive=False))
            elif kind in (int, float):
                define = flags.DEFINE_integer if kind is int else flags.DEFINE_float
                made.append(define(name, None, text, *bounds))
            else:
                define = {bool: flags.DEFINE_bool, str: flags.DEFINE_string, tuple: flags.DEFINE_list}[kind]
                made.append(define(name, None, text))
    return made


def _values(holders):
    """Returns the values of the flags that were given, by name."""
    given = {holder.name: holder.value for holder in holders if holder.value is not None}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


# Of each field: its flag; what is not given is decided by `configure`, or is the field's default.
_GIVEN = _define(TrainConfig, recipes.Recipe, configure.TransferOptions)
_PLACEMENT = _define(configure.PlacementOptions)
_RUN = _define(configure.RunOptions)


def main(arguments: list[str]) -> int:
    """Trains, and returns 0, or 1 if a signal stopped the run early."""
    cli.check_no_arguments(arguments)
    if (_DATASET.value or _DOWNLOAD.value) and not _DATA_DIR.value:
        raise errors.UserError("--dataset and --download need --data_dir=DIR, the TFDS directory.")
    given = _values(_GIVEN)
    configure.check(given)
    if not _DOWNLOAD.value:
        cli.check_directory("data_dir", _DATA_DIR.value)
    cli.import_tensorflow()
    from alexnet_tf.data import discovery
    from alexnet_tf.training import distribution, trainer

    placement = distribution.make_placement(configure.PlacementOptions(**_values(_PLACEMENT)))
    is_demo = not _DATA_DIR.value
    data = (
        discovery.synthetic_dataset()
        if is_demo
        else discovery.find_dataset(
            _DATA_DIR.value or "",
            _DATASET.value,
            _DOWNLOAD.value,
            options={flag.name: flag.value for flag in _DATA_OPTIONS},
        )
    )
    path = _WORKDIR.value or default_path(given.get("architecture", "paper"), data.name, given.get("init_from"))
    data = discovery.as_in_run(data, RunDirectory(path).read_config())
    cli.show(data.summary())
    train_config = configure.decide(given, data, path, is_demo=is_demo)
    options = configure.RunOptions(**_values(_RUN))
    is_complete = trainer.train(train_config, data, path, placement=placement, options=options)
    return 0 if is_complete else 1
