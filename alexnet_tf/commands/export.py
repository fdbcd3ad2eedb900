"""Exports a run: a SavedModel for TF Serving, .tflite files for phones and browsers, and other formats.

    python -m alexnet_tf export --workdir=RUN
    python -m alexnet_tf export --pretrained=torchvision --output=DIR
    python -m alexnet_tf export --workdir=RUN --formats=tflite --quantization=int8 --data_dir=DIR

Each artifact is compared with the Keras model on real images; the table is printed and kept in RUN/export/report.md.
Next: RUN/export/saved_model/SERVING.md says how to serve it; python -m alexnet_tf predict --server=HOST:PORT asks it.
"""

import dataclasses

from alexnet_tf.commands import cli
from alexnet_tf.commands.options import ImageOptions, RunOptions
from alexnet_tf.exporting.formats import ExportOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(RunOptions, ImageOptions, ExportOptions):
    """What to export."""


def main(options: Options) -> None:
    """Exports and prints the report."""
    run = options.run()
    cli.import_tensorflow()
    from alexnet_tf.exporting import export, report

    artifacts = export.export(run, options, log=cli.show)
    directory = options.output or run.path / "export"
    cli.show(f"\n{report.table(artifacts)}\n\nKept in {directory}/report.md and report.json")
    for each in artifacts:
        if each.next_step:
            cli.show(each.next_step)
