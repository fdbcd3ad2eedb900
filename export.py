"""Turns a run into what serves it: a SavedModel for TF Serving and .tflite files for phones and browsers.

    python export.py --workdir=RUN
    python export.py --workdir=RUN --formats=tflite --quantization=int8 --data_dir=DIR

All of it is compared with the Keras model on real images: the table is printed and kept in RUN/export/report.md.
"""

from absl import flags

from alexnet_tf import cli

cli.import_tensorflow()

from alexnet_tf.exporting import export, tflite  # noqa: E402

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory.", required=True)
_FORMATS = flags.DEFINE_list("formats", list(export.FORMATS), "What to write.")
_QUANTIZATION = flags.DEFINE_list(
    "quantization", list(tflite.LRN_IMPLEMENTATIONS), "Which .tflite files; int8 needs training images.")
_LRN = flags.DEFINE_enum(
    "lrn", "auto", ["auto", "builtin", "convolution"],
    "How the .tflite files compute LRN: TensorFlow Lite's own op, or a 1 x 1 convolution that GPU delegates take too. "
    "'auto' is the faster on a CPU for each quantization.")
_CHECKPOINT = flags.DEFINE_enum("checkpoint", "last", ["last", "best"], "Which checkpoint.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Images to compare and calibrate on; by default those of the run.")
_DATASET = flags.DEFINE_string("dataset", None, "Name of the TFDS data set in --data_dir.")


def main(argv):
    cli.check_no_arguments(argv)
    request = export.ExportOptions(
        formats=tuple(_FORMATS.value), quantizations=tuple(_QUANTIZATION.value), lrn=_LRN.value,
        checkpoint=_CHECKPOINT.value, data_dir=_DATA_DIR.value, dataset=_DATASET.value)
    artifacts = export.export(_WORKDIR.value, request)
    directory = f"{_WORKDIR.value}/export"
    print(f"\n{export.table(artifacts)}\n\nKept in {directory}/report.md and report.json")
    if "saved_model" in request.formats:
        print(f"To serve it: {directory}/saved_model/SERVING.md")


if __name__ == "__main__":
    cli.run(main)
