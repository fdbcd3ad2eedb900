"""Runs an experiment of the paper and puts its number beside ours: figure1, lrn, ablations, figure3, figure4 or table.

    python -m alexnet_tf reproduce figure1 --data_dir=CIFAR10
    python -m alexnet_tf reproduce lrn --data_dir=CIFAR10 --budget=full
    python -m alexnet_tf reproduce figure3 --workdir=RUN --conv1=FILE.npy
    python -m alexnet_tf reproduce table --workdir=RUN1,RUN2,RUN3 --data_dir=DIR

Writes a report (.md) and pictures (.png) into --output. A stopped experiment is resumed.
Next: python -m alexnet_tf train --data_dir=DIR
"""

import dataclasses

from alexnet_tf.commands import cli
from alexnet_tf.commands.options import ImageOptions, check_path
from alexnet_tf.experiments import catalogue
from alexnet_tf.support import errors, shell


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(ImageOptions, catalogue.Options):
    """What an experiment works on."""

    arguments: tuple[str, ...] = ()


def main(options: Options) -> None:
    """Runs the experiment and prints its findings."""
    if len(options.arguments) != 1:
        got = " ".join(options.arguments) or "none"
        raise errors.UserError(f"Give one experiment: {', '.join(catalogue.EXPERIMENTS)}. Got {got}.")
    [name] = options.arguments
    check_path("data_dir", options.data_dir, "directory")
    cli.import_tensorflow()
    given = {
        field.name: ",".join(value) if isinstance(value := getattr(options, field.name), tuple) else value
        for field in dataclasses.fields(options)
        if field.name != "arguments" and getattr(options, field.name) != field.default
    }
    result, path = catalogue.reproduce(name, options, shell.command_line("reproduce", name, **given))
    for finding in result.findings:
        cli.show(
            f"{finding.claim}\n  paper: {finding.paper}\n  here:  {finding.ours}"
            + (f"\n  {finding.verdict}" if finding.verdict else "")
        )
    cli.show(f"Report: {path}")
