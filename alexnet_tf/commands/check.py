"""Checks this machine: what TensorFlow finds, whether it computes right, how fast, and what to change.

    python -m alexnet_tf check

Takes about a minute. Paste the output into an issue. Next: python -m alexnet_tf train
"""

import alexnet_tf
from alexnet_tf.benchmarks.machine_check import Options, check
from alexnet_tf.commands import cli


def main(options: Options) -> None:
    """Prints each result as soon as it is known."""
    cli.show(
        f"alexnet_tf  {alexnet_tf.__version__}, {options.architecture}, batches of {options.batch_size}", flush=True
    )
    for line in check(options):
        cli.show(line, flush=True)
