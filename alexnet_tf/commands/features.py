"""Writes what a layer makes of each image of a set, for `similar` or for your own program.

    python -m alexnet_tf features --workdir=RUN --layer=fc7 [--data_dir=DIR] [--split=train] --output=FILE.npz
    python -m alexnet_tf features --workdir=RUN --layer=fc7 --output=FILE.npz IMAGE...

A stage's name, such as conv1 or fc7, means both its towers, after ReLU and before dropout; conv5_pool or conv2_b_lrn
are single steps. numpy.load(FILE.npz) reads the file: features, names, labels, classes.
"""

from absl import flags

from alexnet_tf import cli

cli.import_tensorflow()

from alexnet_tf.evaluation import features  # noqa: E402

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The .npz file.", required=True)
_LAYER = flags.DEFINE_string("layer", "fc7", "The layer; an unknown one lists those that are known.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Images; by default those of the run. Their classes may be others.")
_DATASET = flags.DEFINE_string("dataset", None, "Name of the TFDS data set in --data_dir.")
_SPLIT = flags.DEFINE_string("split", None, "Which split; by default train, or the only one.")
_CHECKPOINT = flags.DEFINE_enum("checkpoint", "last", ["last", "best"], "Which checkpoint.")
_ON_BAD_IMAGE = flags.DEFINE_enum(
    "on_bad_image", "fail", ["fail", "skip"], "What to do at an image that cannot be read; it is named either way.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Images per step.", lower_bound=1)


def main(argv):
    features.write_features(_WORKDIR.value, _OUTPUT.value, features.FeatureOptions(
        layer=_LAYER.value, images=tuple(argv[1:]), data_dir=_DATA_DIR.value, dataset=_DATASET.value, split=_SPLIT.value,
        checkpoint=_CHECKPOINT.value, on_bad_image=_ON_BAD_IMAGE.value, batch_size=_BATCH_SIZE.value))


def run():
    cli.run(main)
