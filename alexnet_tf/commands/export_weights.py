"""Writes a run's weights as a .safetensors file, with torchvision's names where it is torchvision's network.

    python -m alexnet_tf export_weights --workdir=RUN --output=FILE.safetensors
    python -m alexnet_tf export_weights --workdir=RUN --output=FILE.safetensors --checkpoint=best

Next: load the file there, or import it again: python -m alexnet_tf import_weights --source=FILE --workdir=NEW_RUN
"""

from absl import flags

from alexnet_tf.commands import cli
from alexnet_tf.runs.directory import RunDirectory

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The file: its name ends in .safetensors.", required=True)
_CHECKPOINT = flags.DEFINE_enum("checkpoint", "last", ["last", "best"], "Which checkpoint.")


def main(arguments: list[str]) -> None:
    """Writes the file."""
    cli.check_no_arguments(arguments)
    RunDirectory(_WORKDIR.value).existing_config()
    cli.import_tensorflow()
    from alexnet_tf.support import devices
    from alexnet_tf.weights import conversion

    devices.share_memory()
    options = conversion.ExportOptions(_CHECKPOINT.value)
    cli.show("\n".join(conversion.export_run(_WORKDIR.value, _OUTPUT.value, options)))
