"""Runs exported files in every engine that is installed here, and compares each with Keras.

    python -m alexnet_tf export --workdir=RUN --formats=saved_model,tflite,keras,onnx
    python -m alexnet_tf verify --workdir=RUN [--images=50] [--data_dir=DIR]

The table is printed in Markdown and kept in RUN/export/verify.json. `pip install openvino onnxruntime mediapipe` adds
engines.
Next: python -m alexnet_tf predict --server=HOST:PORT IMAGE...
"""

import dataclasses

from alexnet_tf.commands import cli
from alexnet_tf.commands.options import CheckpointOptions, DataOptions
from alexnet_tf.support.settings import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(CheckpointOptions, DataOptions):
    """What to verify."""

    images: int = setting(50, "How many images to compare on, at most.", lower=1)


def main(options: Options) -> None:
    """Verifies and prints the table."""
    options.run()
    cli.import_tensorflow()
    from alexnet_tf.exporting import report, verification

    results = verification.verify(
        options.workdir,
        images=options.images,
        checkpoint=options.checkpoint,
        data_dir=options.data_dir,
        dataset=options.dataset,
        log=cli.show,
    )
    cli.show(f"\n{report.markdown_table(verification.rows(results))}")
