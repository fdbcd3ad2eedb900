"""Writes a layer's activations for each image of a data set, for `similar` or for your own program.

    python -m alexnet_tf features --workdir=RUN --layer=fc7 --output=FILE.npz
    python -m alexnet_tf features --workdir=RUN --layer=fc7 --output=FILE.npz --data_dir=DIR --split=train
    python -m alexnet_tf features --workdir=RUN --layer=fc7 --output=FILE.npz IMAGE...

A stage's name, such as conv1 or fc7, means both its towers, after ReLU and before dropout; conv5_pool means both pools,
conv2_b_lrn a single layer. IMAGE is a file, a folder, a glob, or - for a list of paths on standard input.
numpy.load(FILE.npz) reads the file: features, names, labels, classes.
Next: python -m alexnet_tf similar --features=FILE.npz IMAGE...
"""

import dataclasses
import sys

from alexnet_tf.commands import cli
from alexnet_tf.commands.options import BadImageOptions, CheckpointOptions, DataOptions, precision_setting
from alexnet_tf.support.settings import REQUIRED, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(CheckpointOptions, DataOptions, BadImageOptions):
    """Which features to write."""

    arguments: tuple[str, ...] = ()
    output: str = setting(REQUIRED, "The .npz file.")
    layer: str = setting("fc7", "The layer; an unknown name lists the known ones.")
    split: str | None = setting(None, "Which split; by default train, or the only one.")
    precision: str = precision_setting("float32")
    batch_size: int = setting(128, "Images per step.", lower=1)


def main(options: Options) -> None:
    """Writes the features of the images given, or of a split."""
    options.run()
    cli.import_tensorflow()
    from alexnet_tf.evaluation import features, image_arguments
    from alexnet_tf.support import devices

    features.write_features(
        options.workdir,
        options.output,
        features.FeatureOptions(
            layer=options.layer,
            images=tuple(image_arguments.expand(options.arguments, sys.stdin)),
            data_dir=options.data_dir,
            dataset=options.dataset,
            split=options.split,
            checkpoint=options.checkpoint,
            on_bad_image=options.on_bad_image,
            batch_size=options.batch_size,
            precision=devices.chosen_precision(options.precision),
        ),
    )
