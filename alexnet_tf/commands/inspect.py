"""Prints a network's layers with their shapes, parameters and multiply-adds; draws it.

    python -m alexnet_tf inspect --architecture=paper --diagram=paper.svg
    python -m alexnet_tf inspect --workdir=RUN

Next: python -m alexnet_tf train --architecture=caffe --data_dir=DIR
"""

from absl import flags

from alexnet_tf.commands import cli
from alexnet_tf.network import architectures, model_summary
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import errors

_ARCHITECTURE = flags.DEFINE_enum(
    "architecture",
    None,
    list(architectures.ARCHITECTURES),
    "Which published AlexNet; paper by default.",
    case_sensitive=False,
)
_WORKDIR = flags.DEFINE_string("workdir", None, "The network of this run instead.")
_NUM_CLASSES = flags.DEFINE_integer(
    "num_classes", None, "Number of logits; by default 1000, or the run's.", lower_bound=1
)
_DIAGRAM = flags.DEFINE_string("diagram", None, "Also draw the network into this .png or .svg file.")


def main(arguments: list[str]) -> None:
    """Prints the table of layers."""
    cli.check_no_arguments(arguments)
    if _WORKDIR.value and _ARCHITECTURE.value:
        raise errors.UserError("--workdir has an architecture of its own. Give either --workdir or --architecture.")
    if _WORKDIR.value:
        architecture = RunDirectory(_WORKDIR.value).existing_config().architecture
    else:
        architecture = architectures.ARCHITECTURES[_ARCHITECTURE.value or "paper"]
    if _NUM_CLASSES.value:
        architecture = architectures.with_num_classes(architecture, _NUM_CLASSES.value)
    if _DIAGRAM.value:
        from alexnet_tf.network import diagram

        diagram.draw_diagram(architecture, _DIAGRAM.value)
        cli.show(f"Drawn: {_DIAGRAM.value}\n")
    cli.show(model_summary.layer_table(architecture))
