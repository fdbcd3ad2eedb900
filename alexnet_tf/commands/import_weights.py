"""Turns a weight file of Caffe, NumPy, PyTorch, ONNX or Keras into a run, which evaluate, predict and export accept.

    python -m alexnet_tf import_weights --source=bvlc_alexnet.caffemodel --workdir=RUN
    python -m alexnet_tf import_weights --source=FILE.pth --workdir=RUN --architecture=caffe --mean=104,117,123

Next: python -m alexnet_tf predict --workdir=RUN IMAGE...
"""

import pathlib

from absl import flags

from alexnet_tf.commands import cli
from alexnet_tf.network import architectures
from alexnet_tf.support import errors, shell
from alexnet_tf.weights import formats

_SOURCE = flags.DEFINE_string(
    "source",
    None,
    f"The file: {', '.join(formats.ENDINGS)}.",
    required=True,
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the new run.", required=True)
_ARCHITECTURE = flags.DEFINE_enum(
    "architecture",
    None,
    list(architectures.ARCHITECTURES),
    "Which network it is; by default detected from the names, shapes and order of the layers.",
    case_sensitive=False,
)
_CLASSES = flags.DEFINE_string(
    "classes",
    None,
    "Text with a class name on each line, in the order of the logits. By default the file's own, or ImageNet's 1000.",
)
_MEAN = flags.DEFINE_string(
    "mean",
    None,
    "What is subtracted from an image: B,G,R in [0, 255], or a .binaryproto or .npy file, [3, height, width], BGR. "
    "By default what the file states, or else what networks of its kind were trained with.",
)
_ALLOW_NAN = flags.DEFINE_bool("allow_nan", False, "Accept weights that are not finite.")
_PARTIAL = flags.DEFINE_bool(
    "partial",
    False,
    "Accept a file that lacks layers, such as one of convolutions only; the others are initialised at random.",
)


def main(arguments: list[str]) -> None:
    """Imports the file and prints the next commands."""
    cli.check_no_arguments(arguments)
    if not pathlib.Path(_SOURCE.value).expanduser().exists():
        raise errors.UserError(f"--source={_SOURCE.value} does not exist.")
    cli.import_tensorflow()
    from alexnet_tf.support import devices
    from alexnet_tf.weights import conversion

    devices.share_memory()
    options = conversion.ImportOptions(
        architecture=_ARCHITECTURE.value,
        classes=_CLASSES.value,
        mean=_MEAN.value,
        allow_nan=_ALLOW_NAN.value,
        partial=_PARTIAL.value,
    )
    cli.show("\n".join(conversion.import_run(_SOURCE.value, _WORKDIR.value, options)))
    run = _WORKDIR.value
    cli.show(
        "\n  ".join(
            [
                f"Imported: {run}. Next:",
                shell.command_line("predict", "IMAGE...", workdir=run),
                shell.command_line("evaluate", workdir=run, data_dir="DIR"),
                shell.command_line("export", workdir=run),
                shell.command_line("train", init_from=run, data_dir="DIR") + "   (your own classes)",
            ]
        )
    )
