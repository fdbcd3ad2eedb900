"""Prints a network's layers with their shapes, parameters and multiply-adds; draws it.

    python -m alexnet_tf inspect --architecture=paper --diagram=paper.svg
    python -m alexnet_tf inspect --workdir=RUN

Next: python -m alexnet_tf train --architecture=caffe --data_dir=DIR
"""

import dataclasses

from alexnet_tf.commands import cli
from alexnet_tf.network import architectures, model_summary
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import errors
from alexnet_tf.support.settings import setting


@dataclasses.dataclass(frozen=True)
class Options:
    """Which network."""

    architecture: str | None = setting(
        None, "Which published AlexNet; paper by default.", choices=tuple(architectures.ARCHITECTURES)
    )
    workdir: str | None = setting(None, "The network of this run instead.")
    num_classes: int | None = setting(None, "Number of logits; by default 1000, or the run's.", lower=1)
    diagram: str | None = setting(None, "Also draw the network into this .png or .svg file.")


def main(options: Options) -> None:
    """Prints the table of layers."""
    if options.workdir and options.architecture:
        raise errors.UserError("--workdir has an architecture of its own. Give either --workdir or --architecture.")
    if options.workdir:
        architecture = RunDirectory(options.workdir).existing_config().architecture
    else:
        architecture = architectures.ARCHITECTURES[options.architecture or "paper"]
    if options.num_classes:
        architecture = architectures.with_num_classes(architecture, options.num_classes)
    if options.diagram:
        from alexnet_tf.network import diagram

        diagram.draw_diagram(architecture, options.diagram)
        cli.show(f"Drawn: {options.diagram}\n")
    cli.show(model_summary.layer_table(architecture))
