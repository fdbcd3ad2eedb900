"""Checks this machine: what TensorFlow finds, whether it computes right, how fast, and what to change.

    python -m alexnet_tf check

Takes about a minute. Paste the output into an issue. Next: python -m alexnet_tf train
"""

import dataclasses

import alexnet_tf
from alexnet_tf.benchmarks import machine_check
from alexnet_tf.commands import cli
from alexnet_tf.network import architectures
from alexnet_tf.support.settings import setting


@dataclasses.dataclass(frozen=True)
class Options:
    """What to check with."""

    architecture: str = setting(
        "paper", "The network of the training steps.", choices=tuple(architectures.ARCHITECTURES)
    )
    batch_size: int = setting(64, "Images a step.", lower=1)
    seconds: float = setting(1.0, "Shortest time of each measurement, in seconds.", lower=0)


def main(options: Options) -> None:
    """Prints each result as soon as it is known."""
    cli.show(
        f"alexnet_tf  {alexnet_tf.__version__}, {options.architecture}, batches of {options.batch_size}", flush=True
    )
    architecture = architectures.ARCHITECTURES[options.architecture]
    for line in machine_check.check(architecture, options.batch_size, options.seconds):
        cli.show(line, flush=True)
