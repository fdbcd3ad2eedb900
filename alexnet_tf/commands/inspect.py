"""Prints a network's layers, shapes, parameters and multiply-adds; draws it.

    python -m alexnet_tf inspect --architecture=paper --diagram=paper.png
"""

from absl import flags

from alexnet_tf import architectures, cli

cli.import_tensorflow()

from alexnet_tf import model_summary  # noqa: E402

_ARCHITECTURE = flags.DEFINE_enum("architecture", "paper", list(architectures.ARCHITECTURES), "Which published AlexNet.")
_DIAGRAM = flags.DEFINE_string("diagram", None, "Also draw the network into this .png or .svg file.")


def main(argv):
    cli.check_no_arguments(argv)
    architecture = architectures.ARCHITECTURES[_ARCHITECTURE.value]
    if _DIAGRAM.value:
        model_summary.draw_diagram(architecture, _DIAGRAM.value)
        print(f"Drawn: {_DIAGRAM.value}\n")
    print(model_summary.layer_table(architecture))


def run():
    cli.run(main)
