"""Writes a run's weights in another framework's format: Caffe's (OpenCV reads it too), torchvision's and others.

    python -m alexnet_tf export_weights --workdir=RUN --format=caffemodel --output=FILE.caffemodel
    python -m alexnet_tf export_weights --workdir=RUN --format=torch --output=FILE.pth --checkpoint=best

Next: load the file there, or import it again: python -m alexnet_tf import_weights --source=FILE --workdir=NEW_RUN
"""

import dataclasses

from alexnet_tf.commands import cli
from alexnet_tf.commands.options import CheckpointOptions
from alexnet_tf.support.settings import REQUIRED, setting
from alexnet_tf.weights import formats


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(CheckpointOptions):
    """What to write, and where."""

    format: str = setting(REQUIRED, "The format; not every network fits every format.", choices=formats.WRITTEN)
    output: str = setting(
        REQUIRED, "The file. A .caffemodel gets its .prototxt beside it, and a mean image as .binaryproto."
    )


def main(options: Options) -> None:
    """Writes the file."""
    options.run()
    cli.import_tensorflow()
    from alexnet_tf.support import devices
    from alexnet_tf.weights import conversion

    devices.share_memory()
    lines = conversion.export_run(options.workdir, options.format, options.output, which=options.checkpoint)
    cli.show("\n".join(lines))
