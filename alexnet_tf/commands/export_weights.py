"""Writes a run's weights in another framework's format: Caffe's (OpenCV reads it too), torchvision's and others.

    python -m alexnet_tf export_weights --workdir=RUN --format=caffemodel --output=FILE.caffemodel
    python -m alexnet_tf export_weights --workdir=RUN --format=torch --output=FILE.pth --checkpoint=best

Next: load the file there, or import it again: python -m alexnet_tf import_weights --source=FILE --workdir=NEW_RUN
"""

from absl import flags

from alexnet_tf.commands import cli
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.weights import formats

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory.", required=True)
_FORMAT = flags.DEFINE_enum(
    "format", None, list(formats.WRITTEN), "The format; not every network fits every format.", required=True
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "The file. A .caffemodel gets its .prototxt beside it, and a mean image as .binaryproto.",
    required=True,
)
_CHECKPOINT = flags.DEFINE_enum("checkpoint", "last", ["last", "best"], "Which checkpoint.")


def main(arguments: list[str]) -> None:
    """Writes the file."""
    cli.check_no_arguments(arguments)
    RunDirectory(_WORKDIR.value).existing_config()
    cli.import_tensorflow()
    from alexnet_tf.support import devices
    from alexnet_tf.weights import conversion

    devices.share_memory()
    cli.show("\n".join(conversion.export_run(_WORKDIR.value, _FORMAT.value, _OUTPUT.value, which=_CHECKPOINT.value)))
