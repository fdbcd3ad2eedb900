"""Exports a run: a SavedModel for TF Serving, .tflite files for phones and browsers, and other formats.

    python -m alexnet_tf export --workdir=RUN
    python -m alexnet_tf export --workdir=RUN --formats=tflite --quantization=int8 --data_dir=DIR

Each artifact is compared with the Keras model on real images; the table is printed and kept in RUN/export/report.md.
Next: RUN/export/saved_model/SERVING.md says how to serve it; python -m alexnet_tf predict --server=HOST:PORT asks it.
"""

import dataclasses

from alexnet_tf.commands import cli
from alexnet_tf.commands.options import CheckpointOptions, DataOptions
from alexnet_tf.exporting import formats
from alexnet_tf.exporting import options as export_options
from alexnet_tf.support import shell
from alexnet_tf.support.settings import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(CheckpointOptions, DataOptions):
    """What to export."""

    formats: tuple[str, ...] = setting(
        export_options.ExportOptions.formats,
        "What to write: " + "; ".join(f"{name}, for {each.purpose}" for name, each in formats.FORMATS.items()) + ".",
        choices=tuple(formats.FORMATS),
    )
    quantization: tuple[str, ...] = setting(
        tuple(export_options.LRN_IMPLEMENTATIONS),
        "Which .tflite files; int8 needs images, of any kind.",
        choices=tuple(export_options.LRN_IMPLEMENTATIONS),
    )
    lrn: str = setting(
        "auto",
        "How the .tflite files compute LRN: TensorFlow Lite's own op, or a 1 x 1 convolution that GPU delegates "
        "accept too. 'auto' is the faster on a CPU for each quantization.",
        choices=("auto", "builtin", "convolution"),
    )
    dense_quantization: str = setting(
        "per_tensor",
        "Scales of the dense layers' 8-bit weights in .tflite files: one for each layer, which runtimes from 2.4 on "
        "read, or one for each unit, a little more exact, which needs 2.17.",
        choices=export_options.DENSE_QUANTIZATIONS,
    )
    tflite_batch_size: int = setting(
        1, "Images that a .tflite file takes at once; the number is fixed in the file.", lower=1
    )
    max_megapixels: int = setting(
        export_options.MAX_MEGAPIXELS,
        "The SavedModel refuses images whose header declares more.",
        lower=1,
        upper=export_options.MAX_MEGAPIXELS,
    )
    max_megabytes: int = setting(
        export_options.MAX_MEGABYTES, "The SavedModel refuses encoded images that are longer.", lower=1, upper=2000
    )
    litert_js: str | None = setting(
        None,
        "Where --formats=web takes LiteRT.js from: a node_modules folder that has @litertjs/core, or an address such "
        "as https://cdn.jsdelivr.net/npm; by default npm fetches it once.",
    )


def main(options: Options) -> None:
    """Exports and prints the report."""
    chosen = export_options.ExportOptions(
        formats=options.formats,
        quantizations=options.quantization,
        lrn=options.lrn,
        dense_quantization=options.dense_quantization,
        tflite_batch_size=options.tflite_batch_size,
        checkpoint=options.checkpoint,
        data_dir=options.data_dir,
        dataset=options.dataset,
        max_megapixels=options.max_megapixels,
        max_megabytes=options.max_megabytes,
        litert_js=options.litert_js,
    )
    export_options.check_choices("formats", chosen.formats, formats.FORMATS)
    options.run()
    cli.import_tensorflow()
    from alexnet_tf.exporting import export, report

    artifacts = export.export(options.workdir, chosen, log=cli.show)
    directory = f"{options.workdir}/export"
    cli.show(f"\n{report.table(artifacts)}\n\nKept in {directory}/report.md and report.json")
    if "saved_model" in chosen.formats:
        cli.show(f"To serve it: {directory}/saved_model/SERVING.md")
    if "web" in chosen.formats:
        cli.show(f"To open the page: {shell.command_line('serve', workdir=options.workdir)}")
