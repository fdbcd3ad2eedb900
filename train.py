"""Trains AlexNet: the same as `python -m alexnet_tf train`. See python train.py --help."""

import sys

from alexnet_tf.commands import cli

if __name__ == "__main__":
    sys.exit(cli.run_command("train", sys.argv[1:]))
