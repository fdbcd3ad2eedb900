"""Runs exported files in every engine that is installed here, and compares each with Keras.

    python -m alexnet_tf export --workdir=RUN --formats=saved_model,tflite,keras,onnx
    python -m alexnet_tf verify --workdir=RUN [--images=50] [--data_dir=DIR]

The table is printed in Markdown and kept in RUN/export/verify.json. `pip install openvino onnxruntime mediapipe` adds
engines.
Next: python -m alexnet_tf predict --server=HOST:PORT IMAGE...
"""

import dataclasses

from alexnet_tf.commands import cli
from alexnet_tf.commands.options import ImageOptions, RunOptions
from alexnet_tf.exporting import engines


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(RunOptions, ImageOptions, engines.VerifyOptions):
    """What to verify."""


def main(options: Options) -> None:
    """Verifies and prints the table."""
    run = options.run()
    cli.import_tensorflow()
    cli.show(f"\n{engines.table(engines.verify(run, options, log=cli.show))}")
