"""Writes a run's weights as a .safetensors file, with torchvision's names where it is torchvision's network.

    python -m alexnet_tf export_weights --workdir=RUN --output=FILE.safetensors
    python -m alexnet_tf export_weights --workdir=RUN --output=FILE.safetensors --checkpoint=best

Next: load the file there, or import it again: python -m alexnet_tf import_weights --source=FILE --workdir=NEW_RUN
"""

import dataclasses

from alexnet_tf.commands import cli
from alexnet_tf.commands.options import CheckpointOptions
from alexnet_tf.support.settings import REQUIRED, setting
from alexnet_tf.weights import conversion


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(CheckpointOptions):
    """What to write, and where."""

    output: str = setting(REQUIRED, "The file: its name ends in .safetensors.")


def main(options: Options) -> None:
    """Writes the file."""
    cli.show("\n".join(conversion.export_run(options.run(), options.output, which=options.checkpoint)))
