"""Runs exported files in every engine that is installed here, and compares each with Keras.

    python -m alexnet_tf export --workdir=RUN --formats=saved_model,tflite,keras,onnx
    python -m alexnet_tf verify --workdir=RUN [--images=50] [--data_dir=DIR]

The table is printed in Markdown and kept in RUN/export/verify.json. `pip install openvino onnxruntime mediapipe` adds
engines.
Next: python -m alexnet_tf predict --server=HOST:PORT IMAGE...
"""

from absl import flags

from alexnet_tf.commands import cli
from alexnet_tf.runs.directory import RunDirectory

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory.", required=True)
_IMAGES = flags.DEFINE_integer("images", 50, "How many images to compare on, at most.", lower_bound=1)
_CHECKPOINT = flags.DEFINE_enum("checkpoint", "last", ["last", "best"], "The checkpoint that was exported.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Images to compare on, of any classes; by default those of the run.")
_DATASET = flags.DEFINE_string("dataset", None, "Name of the TFDS data set in --data_dir.")
cli.define_image_limit()


def main(arguments: list[str]) -> None:
    """Verifies and prints the table."""
    cli.check_no_arguments(arguments)
    cli.check_directory("data_dir", _DATA_DIR.value)
    RunDirectory(_WORKDIR.value).existing_config()
    cli.import_tensorflow()
    from alexnet_tf.exporting import report, verification

    results = verification.verify(
        _WORKDIR.value,
        images=_IMAGES.value,
        checkpoint=_CHECKPOINT.value,
        data_dir=_DATA_DIR.value,
        dataset=_DATASET.value,
        log=cli.show,
    )
    cli.show(f"\n{report.markdown_table(verification.rows(results))}")
