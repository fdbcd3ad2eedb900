"""Runs an experiment of the paper and puts its number beside ours: figure1, lrn, ablations, figure3, figure4 or table.

    python -m alexnet_tf reproduce figure1 --quick
    python -m alexnet_tf reproduce figure1 --data_dir=CIFAR10
    python -m alexnet_tf reproduce lrn --data_dir=CIFAR10 --budget=full
    python -m alexnet_tf reproduce figure3 --workdir=RUN --conv1=FILE.npy
    python -m alexnet_tf reproduce table --workdir=RUN1,RUN2,RUN3 --data_dir=DIR

Writes a report (.md, .json) and pictures (.png, .svg) into --output. A stopped experiment is resumed.
Next: python -m alexnet_tf train --data_dir=DIR
"""

from absl import flags

from alexnet_tf.commands import cli
from alexnet_tf.support import errors, shell

_NAMES = ("figure1", "lrn", "ablations", "figure3", "figure4", "table")

_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "figure1, lrn, ablations: CIFAR-10. figure4, table: labelled images; by default those of the run."
)
_OUTPUT = flags.DEFINE_string("output", None, "Directory of the report; by default runs/reproduce-NAME.")
_QUICK = flags.DEFINE_bool(
    "quick", False, "Synthetic data and a few steps, to see that it works. The numbers mean nothing."
)
_WORKDIR = flags.DEFINE_list("workdir", [], "figure3, figure4, table: runs, separated by commas.")
_CONV1 = flags.DEFINE_list("conv1", [], "figure3: .npy files that hold conv1's kernels alone.")
_BGR = flags.DEFINE_bool("bgr", False, "figure3: these files have blue first, as Caffe's.")
_SEEDS = flags.DEFINE_integer(
    "seeds", None, "figure1, lrn, ablations: networks of each kind; by default 3.", lower_bound=1
)
_EPOCHS = flags.DEFINE_integer(
    "epochs", None, "figure1: when a network is given up; lrn, ablations: length of training.", lower_bound=1
)
_BUDGET = flags.DEFINE_enum("budget", "short", ["short", "full"], "lrn: 'full' is the author's schedule of 520 epochs.")
_PRECISION = flags.DEFINE_enum(
    "precision",
    "auto",
    ["auto", "float32", "mixed_bfloat16", "mixed_float16"],
    "Of training; 'auto' is what train uses here.",
)
_SPLIT = flags.DEFINE_string("split", None, "table: which split; by default the validation split.")
_MAX_IMAGE_MB = cli.define_image_limit()


def main(arguments: list[str]) -> None:
    """Runs the experiment and prints its findings."""
    if len(arguments) != 1 or arguments[0] not in _NAMES:
        raise errors.UserError(f"Give one experiment: {', '.join(_NAMES)}. Got {' '.join(arguments) or 'none'}.")
    [name] = arguments
    if not _QUICK.value:
        cli.check_directory("data_dir", _DATA_DIR.value)
    cli.import_tensorflow()
    from alexnet_tf.experiments import catalogue
    from alexnet_tf.support import devices

    output = _OUTPUT.value or f"runs/reproduce-{name}"
    precision = devices.chosen_precision(_PRECISION.value)
    given = {
        flag.name: ",".join(flag.value) if isinstance(flag.value, list) else flag.value
        for flag in (
            _DATA_DIR,
            _OUTPUT,
            _QUICK,
            _WORKDIR,
            _CONV1,
            _BGR,
            _SEEDS,
            _EPOCHS,
            _BUDGET,
            _PRECISION,
            _SPLIT,
            _MAX_IMAGE_MB,
        )
        if flag.present
    }
    result = catalogue.reproduce(
        name,
        catalogue.Options(
            output,
            _QUICK.value,
            _DATA_DIR.value,
            tuple(_WORKDIR.value),
            tuple(_CONV1.value),
            _BGR.value,
            _SEEDS.value,
            _EPOCHS.value,
            _BUDGET.value == "full",
            precision,
            _SPLIT.value,
        ),
        shell.command_line("reproduce", name, **given),
    )
    for finding in result.findings:
        cli.show(
            f"{finding.claim}\n  paper: {finding.paper}\n  here:  {finding.ours}"
            + (f"\n  {finding.verdict}" if finding.verdict else "")
        )
    cli.show(f"Report: {output}/{name}.md")
