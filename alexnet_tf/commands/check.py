"""Checks this machine: what TensorFlow finds, whether it computes right, how fast, and what to change.

    python -m alexnet_tf check

Takes about a minute. Paste the output into an issue. Next: python -m alexnet_tf train
"""

from absl import flags

import alexnet_tf
from alexnet_tf.benchmarks import machine_check
from alexnet_tf.commands import cli
from alexnet_tf.network import architectures

_ARCHITECTURE = flags.DEFINE_enum(
    "architecture",
    "paper",
    list(architectures.ARCHITECTURES),
    "The network of the training steps.",
    case_sensitive=False,
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images a step.", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 1.0, "Shortest time of each measurement, in seconds.", lower_bound=0.0)


def main(arguments: list[str]) -> None:
    """Prints each result as soon as it is known."""
    cli.check_no_arguments(arguments)
    cli.show(f"alexnet_tf  {alexnet_tf.__version__}, {_ARCHITECTURE.value}, batches of {_BATCH_SIZE.value}", flush=True)
    architecture = architectures.ARCHITECTURES[_ARCHITECTURE.value]
    for line in machine_check.check(architecture, _BATCH_SIZE.value, _SECONDS.value):
        cli.show(line, flush=True)
