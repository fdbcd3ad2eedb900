"""Exports a run: a SavedModel for TF Serving, .tflite files for phones and browsers, and other formats.

    python -m alexnet_tf export --workdir=RUN
    python -m alexnet_tf export --workdir=RUN --formats=tflite --quantization=int8 --data_dir=DIR

Each artifact is compared with the Keras model on real images; the table is printed and kept in RUN/export/report.md.
Next: RUN/export/saved_model/SERVING.md says how to serve it; python -m alexnet_tf predict --server=HOST:PORT asks it.
"""

from absl import flags

from alexnet_tf.commands import cli
from alexnet_tf.exporting import formats, options
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import shell

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory.", required=True)
_FORMATS = flags.DEFINE_list(
    "formats",
    list(options.ExportOptions.formats),
    "What to write: " + "; ".join(f"{name}, for {each.purpose}" for name, each in formats.FORMATS.items()) + ".",
)
_QUANTIZATION = flags.DEFINE_list(
    "quantization", list(options.LRN_IMPLEMENTATIONS), "Which .tflite files; int8 needs images, of any kind."
)
_LRN = flags.DEFINE_enum(
    "lrn",
    "auto",
    ["auto", "builtin", "convolution"],
    "How the .tflite files compute LRN: TensorFlow Lite's own op, or a 1 x 1 convolution that GPU delegates accept "
    "too. 'auto' is the faster on a CPU for each quantization.",
)
_DENSE_QUANTIZATION = flags.DEFINE_enum(
    "dense_quantization",
    "per_tensor",
    list(options.DENSE_QUANTIZATIONS),
    "Scales of the dense layers' 8-bit weights in .tflite files: one for each layer, which runtimes from 2.4 on read, "
    "or one for each unit, a little more exact, which needs 2.17.",
)
_TFLITE_BATCH_SIZE = flags.DEFINE_integer(
    "tflite_batch_size", 1, "Images that a .tflite file takes at once; the number is fixed in the file.", lower_bound=1
)
_CHECKPOINT = flags.DEFINE_enum("checkpoint", "last", ["last", "best"], "Which checkpoint.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Images to compare and calibrate with, of any classes; by default those of the run."
)
_DATASET = flags.DEFINE_string("dataset", None, "Name of the TFDS data set in --data_dir.")
_MAX_MEGAPIXELS = flags.DEFINE_integer(
    "max_megapixels",
    options.MAX_MEGAPIXELS,
    "The SavedModel refuses images whose header declares more.",
    lower_bound=1,
    upper_bound=options.MAX_MEGAPIXELS,
)
_MAX_MEGABYTES = flags.DEFINE_integer(
    "max_megabytes",
    options.MAX_MEGABYTES,
    "The SavedModel refuses encoded images that are longer.",
    lower_bound=1,
    upper_bound=2000,
)
_LITERT_JS = flags.DEFINE_string(
    "litert_js",
    None,
    "Where --formats=web takes LiteRT.js from: a node_modules folder that has @litertjs/core, or an "
    "address such as https://cdn.jsdelivr.net/npm; by default npm fetches it once.",
)
cli.define_image_limit()


def main(arguments: list[str]) -> None:
    """Exports and prints the report."""
    cli.check_no_arguments(arguments)
    cli.check_directory("data_dir", _DATA_DIR.value)
    chosen = options.ExportOptions(
        formats=tuple(_FORMATS.value),
        quantizations=tuple(_QUANTIZATION.value),
        lrn=_LRN.value,
        dense_quantization=_DENSE_QUANTIZATION.value,
        tflite_batch_size=_TFLITE_BATCH_SIZE.value,
        checkpoint=_CHECKPOINT.value,
        data_dir=_DATA_DIR.value,
        dataset=_DATASET.value,
        max_megapixels=_MAX_MEGAPIXELS.value,
        max_megabytes=_MAX_MEGABYTES.value,
        litert_js=_LITERT_JS.value,
    )
    options.check_choices("formats", chosen.formats, formats.FORMATS)
    RunDirectory(_WORKDIR.value).existing_config()
    cli.import_tensorflow()
    from alexnet_tf.exporting import export, report

    artifacts = export.export(_WORKDIR.value, chosen, log=cli.show)
    directory = f"{_WORKDIR.value}/export"
    cli.show(f"\n{report.table(artifacts)}\n\nKept in {directory}/report.md and report.json")
    if "saved_model" in chosen.formats:
        cli.show(f"To serve it: {directory}/saved_model/SERVING.md")
    if "web" in chosen.formats:
        cli.show(f"To open the page: {shell.command_line('serve', workdir=_WORKDIR.value)}")
