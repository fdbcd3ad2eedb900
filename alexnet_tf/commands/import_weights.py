"""Turns a weight file of Caffe, NumPy, PyTorch, ONNX or Keras into a run, which evaluate, predict and export accept.

    python -m alexnet_tf import_weights --source=bvlc_alexnet.caffemodel --workdir=RUN
    python -m alexnet_tf import_weights --source=FILE.pth --workdir=RUN --architecture=caffe --mean=104,117,123

Next: python -m alexnet_tf predict --workdir=RUN IMAGE...
"""

import dataclasses

from alexnet_tf.commands import cli
from alexnet_tf.network import architectures
from alexnet_tf.support import shell
from alexnet_tf.support.settings import REQUIRED, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to import, and what it is."""

    source: str = setting(
        REQUIRED,
        "The file: .caffemodel, .npy, .npz, .pth, .pth.tar, .safetensors, .onnx, or this project's .weights.h5 or "
        ".keras.",
        path="file",
    )
    workdir: str = setting(REQUIRED, "Directory of the new run.")
    architecture: str | None = setting(
        None,
        "Which network it is; by default detected from the names, shapes and order of the layers.",
        choices=tuple(architectures.ARCHITECTURES),
    )
    classes: str | None = setting(
        None,
        "Text with a class name on each line, in the order of the logits. By default the file's own, or ImageNet's "
        "1000.",
    )
    mean: str | None = setting(
        None,
        "What is subtracted from an image: B,G,R in [0, 255], or a .binaryproto or .npy file, [3, height, width], "
        "BGR. By default what the file states, or else what networks of its kind were trained with.",
    )
    allow_nan: bool = setting(False, "Accept weights that are not finite.")
    partial: bool = setting(
        False,
        "Accept a file that lacks layers, such as one of convolutions only; the others are initialised at random.",
    )


def main(options: Options) -> None:
    """Imports the file and prints the next commands."""
    cli.import_tensorflow()
    from alexnet_tf.support import devices
    from alexnet_tf.weights import conversion

    devices.share_memory()
    lines = conversion.import_run(
        options.source,
        options.workdir,
        architecture=options.architecture,
        classes=options.classes,
        mean=options.mean,
        allow_nan=options.allow_nan,
        partial=options.partial,
    )
    run = options.workdir
    following = [
        f"Imported: {run}. Next:",
        shell.command_line("predict", "IMAGE...", workdir=run),
        shell.command_line("evaluate", workdir=run, data_dir="DIR"),
        shell.command_line("export", workdir=run),
        shell.command_line("train", init_from=run, data_dir="DIR") + "   (your own classes)",
    ]
    cli.show("\n".join(lines) + "\n" + "\n  ".join(following))
