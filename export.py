"""Exports a trained run: the same as `python -m alexnet_tf export`. See python export.py --help."""

import sys

from alexnet_tf.commands import cli

if __name__ == "__main__":
    sys.exit(cli.run_command("export", sys.argv[1:]))
