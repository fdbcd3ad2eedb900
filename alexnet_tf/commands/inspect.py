"""Prints a network's layers, shapes, parameters and multiply-adds; draws it.

    python -m alexnet_tf inspect --architecture=paper --diagram=paper.png
"""

from absl import flags

from alexnet_tf import config, startup

startup.import_tensorflow()

from alexnet_tf import inspection  # noqa: E402

_ARCHITECTURE = flags.DEFINE_enum("architecture", "paper", list(config.ARCHITECTURES), "Which published AlexNet.")
_DIAGRAM = flags.DEFINE_string("diagram", None, "Also draw the network into this .png or .svg file.")


def main(argv):
    startup.check_no_arguments(argv)
    architecture = config.ARCHITECTURES[_ARCHITECTURE.value]
    if _DIAGRAM.value:
        inspection.draw_diagram(architecture, _DIAGRAM.value)
        print(f"Drawn: {_DIAGRAM.value}\n")
    print(inspection.layer_table(architecture))


def run():
    startup.run(main)
