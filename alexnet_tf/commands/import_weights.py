"""Turns a weight file of Caffe, NumPy, PyTorch, ONNX or Keras into a run, which evaluate, predict and export accept.

    python -m alexnet_tf import_weights --source=bvlc_alexnet.caffemodel --workdir=RUN
    python -m alexnet_tf import_weights --source=FILE.pth --workdir=RUN --architecture=caffe --mean=104,117,123

Next: python -m alexnet_tf predict --workdir=RUN IMAGE...
"""

import dataclasses

from alexnet_tf.commands import cli
from alexnet_tf.support import shell
from alexnet_tf.support.settings import REQUIRED, setting
from alexnet_tf.weights import conversion, formats, pretrained


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(conversion.ImportOptions):
    """What to import, and what it is."""

    source: str = setting(REQUIRED, f"The file: {', '.join(formats.ENDINGS)}.", path="file")
    workdir: str = setting(REQUIRED, "Directory of the new run.")


def main(options: Options) -> None:
    """Imports the file and prints the next commands."""
    if options.partial:  # What is missing is initialised by TensorFlow.
        cli.import_tensorflow()
    lines = conversion.import_run(options.source, options.workdir, options)
    lines += [f"File: {known}"] if (known := pretrained.describe(options.source)) else []
    run = options.workdir
    following = [
        f"Imported: {run}. Next:",
        shell.command_line("predict", "IMAGE...", workdir=run),
        shell.command_line("evaluate", workdir=run, data_dir="DIR"),
        shell.command_line("export", workdir=run),
        shell.command_line("train", init_from=run, data_dir="DIR") + "   (your own classes)",
    ]
    cli.show("\n".join(lines) + "\n" + "\n  ".join(following))
