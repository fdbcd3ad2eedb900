"""Writes a run's weights for Caffe, OpenCV, torchvision or whoever reads these files.

    python -m alexnet_tf export_weights --workdir=RUN --format=caffemodel --output=FILE [--checkpoint=best]
"""

from absl import flags

from alexnet_tf import cli
from alexnet_tf.weights import conversion, layouts

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory.", required=True)
_FORMAT = flags.DEFINE_enum(
    "format", None, list(layouts.LAYOUTS), "For whom; not every network fits every format.", required=True)
_OUTPUT = flags.DEFINE_string(
    "output", None, "The file. Beside a .caffemodel appear its .prototxt, and a mean image as .binaryproto.",
    required=True)
_CHECKPOINT = flags.DEFINE_enum("checkpoint", "last", ["last", "best"], "Which checkpoint.")


def main(argv):
    cli.check_no_arguments(argv)
    print("\n".join(conversion.export_run(_WORKDIR.value, _FORMAT.value, _OUTPUT.value, which=_CHECKPOINT.value)))


def run():
    cli.run(main)
