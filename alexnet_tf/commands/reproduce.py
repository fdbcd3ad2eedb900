"""Runs an experiment of the paper and puts its number beside ours: figure1, lrn, ablations, figure3, figure4 or table.

    python -m alexnet_tf reproduce figure1 --quick
    python -m alexnet_tf reproduce figure1 --data_dir=CIFAR10
    python -m alexnet_tf reproduce lrn --data_dir=CIFAR10 --budget=full
    python -m alexnet_tf reproduce figure3 --workdir=RUN --conv1=FILE.npy
    python -m alexnet_tf reproduce table --workdir=RUN1,RUN2,RUN3 --data_dir=DIR

Writes a report (.md, .json) and pictures (.png, .svg) into --output. A stopped experiment is resumed.
Next: python -m alexnet_tf train --data_dir=DIR
"""

import dataclasses

from alexnet_tf.commands import cli
from alexnet_tf.commands.options import ImageOptions
from alexnet_tf.support import errors, shell
from alexnet_tf.support.settings import setting

_NAMES = ("figure1", "lrn", "ablations", "figure3", "figure4", "table")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(ImageOptions):
    """What an experiment works on."""

    arguments: tuple[str, ...] = ()
    data_dir: str | None = setting(
        None, "figure1, lrn, ablations: CIFAR-10. figure4, table: labelled images; by default those of the run."
    )
    output: str | None = setting(None, "Directory of the report; by default runs/reproduce-NAME.")
    quick: bool = setting(False, "Synthetic data and a few steps, to see that it works. The numbers mean nothing.")
    workdir: tuple[str, ...] = setting((), "figure3, figure4, table: runs, separated by commas.")
    conv1: tuple[str, ...] = setting((), "figure3: .npy files that hold conv1's kernels alone.")
    bgr: bool = setting(False, "figure3: these files have blue first, as Caffe's.")
    seeds: int | None = setting(None, "figure1, lrn, ablations: networks of each kind; by default 3.", lower=1)
    epochs: int | None = setting(
        None, "figure1: when a network is given up; lrn, ablations: length of training.", lower=1
    )
    budget: str = setting("short", "lrn: 'full' is the author's schedule of 520 epochs.", choices=("short", "full"))
    precision: str = setting(
        "auto",
        "Of training; 'auto' is what train uses here.",
        choices=("auto", "float32", "mixed_bfloat16", "mixed_float16"),
    )
    split: str | None = setting(None, "table: which split; by default the validation split.")


def main(options: Options) -> None:
    """Runs the experiment and prints its findings."""
    if len(options.arguments) != 1 or options.arguments[0] not in _NAMES:
        got = " ".join(options.arguments) or "none"
        raise errors.UserError(f"Give one experiment: {', '.join(_NAMES)}. Got {got}.")
    [name] = options.arguments
    if not options.quick:
        cli.check_directory("data_dir", options.data_dir)
    cli.import_tensorflow()
    from alexnet_tf.experiments import catalogue
    from alexnet_tf.support import devices

    output = options.output or f"runs/reproduce-{name}"
    given = {
        field.name: ",".join(value) if isinstance(value := getattr(options, field.name), tuple) else value
        for field in dataclasses.fields(options)
        if field.name != "arguments" and getattr(options, field.name) != field.default
    }
    result = catalogue.reproduce(
        name,
        catalogue.Options(
            output,
            options.quick,
            options.data_dir,
            options.workdir,
            options.conv1,
            options.bgr,
            options.seeds,
            options.epochs,
            options.budget == "full",
            devices.chosen_precision(options.precision),
            options.split,
        ),
        shell.command_line("reproduce", name, **given),
    )
    for finding in result.findings:
        cli.show(
            f"{finding.claim}\n  paper: {finding.paper}\n  here:  {finding.ours}"
            + (f"\n  {finding.verdict}" if finding.verdict else "")
        )
    cli.show(f"Report: {output}/{name}.md")
