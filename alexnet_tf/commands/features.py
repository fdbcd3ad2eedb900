"""Writes a layer's activations for each image of a data set, for `similar` or for your own program.

    python -m alexnet_tf features --workdir=RUN --layer=fc7 --output=FILE.h5
    python -m alexnet_tf features --workdir=RUN --layer=fc7 --output=FILE.h5 --data_dir=DIR --split=train
    python -m alexnet_tf features --workdir=RUN --layer=fc7 --output=FILE.h5 IMAGE...

A stage's name, such as conv1 or fc7, means both its towers, after ReLU and before dropout; conv5_pool means both pools,
conv2_b_lrn a single layer. IMAGE is a file, a folder, a glob, or - for a list of paths on standard input.
h5py.File("FILE.h5")["features"][:] reads the features into NumPy; names, labels and classes are beside them.
Next: python -m alexnet_tf similar --features=FILE.h5 IMAGE...
"""

import sys

from absl import flags

from alexnet_tf.commands import cli
from alexnet_tf.evaluation.options import FeatureOptions
from alexnet_tf.runs.directory import RunDirectory

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The .h5 file.", required=True)
_LAYER = flags.DEFINE_string("layer", "fc7", "The layer; an unknown name lists the known ones.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Images; by default those of the run. Their classes may differ.")
_DATASET = flags.DEFINE_string("dataset", None, "Name of the TFDS data set in --data_dir.")
_SPLIT = flags.DEFINE_string("split", None, "Which split; by default train, or the only one.")
_CHECKPOINT = flags.DEFINE_enum("checkpoint", "last", ["last", "best"], "Which checkpoint.")
_ON_BAD_IMAGE = flags.DEFINE_enum(
    "on_bad_image", "fail", ["fail", "skip"], "What to do with an image that cannot be read; it is reported either way."
)
_PRECISION = cli.define_precision_option("float32")
cli.define_image_limit()
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Images per step.", lower_bound=1)


def main(arguments: list[str]) -> None:
    """Writes the features of the images given, or of a split."""
    cli.check_directory("data_dir", _DATA_DIR.value)
    RunDirectory(_WORKDIR.value).existing_config()
    cli.import_tensorflow()
    from alexnet_tf.evaluation import features, predictions

    features.write_features(
        _WORKDIR.value,
        _OUTPUT.value,
        FeatureOptions(
            layer=_LAYER.value,
            data_dir=_DATA_DIR.value,
            dataset=_DATASET.value,
            split=_SPLIT.value,
            checkpoint=_CHECKPOINT.value,
            on_bad_image=_ON_BAD_IMAGE.value,
            batch_size=_BATCH_SIZE.value,
            precision=_PRECISION.value,
        ),
        tuple(predictions.expand(arguments, sys.stdin)),
    )
