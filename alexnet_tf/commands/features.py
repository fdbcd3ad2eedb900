"""Writes a layer's activations for each image of a data set, for `similar` or for your own program.

    python -m alexnet_tf features --workdir=RUN --layer=fc7 --output=FILE.h5
    python -m alexnet_tf features --workdir=RUN --layer=fc7 --output=FILE.h5 --data_dir=DIR --split=train
    python -m alexnet_tf features --workdir=RUN --layer=fc7 --output=FILE.h5 IMAGE...

A stage's name, such as conv1 or fc7, means both its towers, after ReLU and before dropout; conv5_pool means both pools,
conv2_b_lrn a single layer. IMAGE is a file, a folder, a glob, or - for a list of paths on standard input.
h5py.File("FILE.h5")["features"][:] is a NumPy array; names, labels and classes lie beside it.
Next: python -m alexnet_tf similar --features=FILE.h5 IMAGE...
"""

import dataclasses
import sys

from alexnet_tf.commands import cli
from alexnet_tf.commands.options import ImageOptions, RunOptions
from alexnet_tf.evaluation.options import FeatureOptions
from alexnet_tf.support.settings import REQUIRED, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(RunOptions, FeatureOptions, ImageOptions):
    """Which features to write, and where."""

    arguments: tuple[str, ...] = ()
    output: str = setting(REQUIRED, "The .h5 file.")


def main(options: Options) -> None:
    """Writes the features of the images given, or of a split."""
    run = options.run()
    cli.import_tensorflow()
    from alexnet_tf.evaluation import features, predictions

    images = tuple(predictions.expand(options.arguments, sys.stdin))
    features.write_features(run, options.output, options, images)
