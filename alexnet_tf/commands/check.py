"""Checks this machine: what TensorFlow finds, whether it computes right, how fast, and what to change.

    python -m alexnet_tf check
    python -m alexnet_tf check --network

Takes about a minute. Paste the output into an issue. Next: python -m alexnet_tf train
"""

import dataclasses

import alexnet_tf
from alexnet_tf.benchmarks import machine_check
from alexnet_tf.commands import cli
from alexnet_tf.support.settings import setting


@dataclasses.dataclass(frozen=True)
class Options(machine_check.Options):
    """What to check."""

    network: bool = setting(False, "Ask the servers of the public weights whether they have them, and nothing else.")


def main(options: Options) -> int:
    """Prints each result as soon as it is known; returns 1 if --network finds weights that no server has."""
    if options.network:
        from alexnet_tf.weights import pretrained

        return int(not pretrained.look(cli.show))
    cli.show(
        f"alexnet_tf  {alexnet_tf.__version__}, {options.architecture}, batches of {options.batch_size}", flush=True
    )
    for line in machine_check.check(options):
        cli.show(line, flush=True)
    return 0
