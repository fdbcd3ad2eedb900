"""The experiments by name: what they may be asked, and what they found, as a report.

Imports no TensorFlow. Each experiment is a module with `run(name, options)`, which yields a `Result`, better each time.
"""

import dataclasses
import functools
import pathlib
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from alexnet_tf.runs.config import PRECISIONS
from alexnet_tf.support import atomic_files, processors, settings, tables
from alexnet_tf.support.report import markdown_table
from alexnet_tf.support.settings import setting

# What can be said of a claim.
REPRODUCED, SAME_DIRECTION, NOT_SEEN = "reproduced", "same direction", "not seen at this budget"

EXPERIMENTS = {
    "figure1": tables.Entry(f"{__package__}.figure1", "Figure 1: ReLU against tanh on CIFAR-10"),
    "lrn": tables.Entry(f"{__package__}.comparisons", "Section 3.3: local response normalisation on CIFAR-10"),
    "ablations": tables.Entry(f"{__package__}.comparisons", "Sections 3 and 4: one thing changed at a time"),
    "figure3": tables.Entry(
        f"{__package__}.figure3", "Figure 3: what conv1 learns, and the specialisation of its towers"
    ),
    "figure4": tables.Entry(f"{__package__}.figure4", "Figure 4: predictions, and nearest training images"),
    "table": tables.Entry(f"{__package__}.error_table", "Table 2: errors with one crop and ten, alone and averaged"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What a person may choose."""

    data_dir: str | None = setting(
        None, "figure1, lrn, ablations: CIFAR-10. figure4, table: labelled images; by default those of the run."
    )
    output: str | None = setting(
        None,
        "Directory of the report and the trained networks; by default runs/reproduce-NAME. A stopped experiment goes "
        "on there.",
    )
    workdir: tuple[str, ...] = setting((), "figure3, figure4, table: runs, separated by commas.")
    conv1: tuple[str, ...] = setting((), "figure3: .npy files that hold conv1's kernels alone.")
    bgr: bool = setting(False, "figure3: these files have blue first, as Caffe's.")
    seeds: int = setting(3, "figure1, lrn, ablations: networks of each kind.", lower=1)
    epochs: int | None = setting(
        None, "figure1: when a network is given up; lrn, ablations: length of training.", lower=1
    )
    budget: str = setting("short", "lrn: 'full' is the author's schedule of 520 epochs.", choices=("short", "full"))
    precision: str = setting(
        "auto",
        "Of training; 'auto' is what train uses here.",
        choices=PRECISIONS,
    )


@dataclasses.dataclass(frozen=True)
class Finding:
    """A claim of the paper beside what was found here.

    Attributes:
        claim: What the paper says.
        paper: Its number.
        ours: The number here.
        verdict: From `verdict`; None with too little to say.
    """

    claim: str
    paper: str
    ours: str
    verdict: str | None


@dataclasses.dataclass(frozen=True)
class Result:
    """All that an experiment found.

    Attributes:
        findings: Claims with numbers.
        tables: The numbers behind them, by title: rows, the first of which names the columns; None is shown as a dash.
        pictures: By name, uint8 [height, width, 3].
        note: Budget, deviations, what the numbers depend on.
    """

    findings: Sequence[Finding]
    tables: Mapping[str, Sequence[Sequence]]
    pictures: Mapping[str, np.ndarray]
    note: str = ""


def verdict(is_seen: bool, is_as_large: bool = False) -> str:
    """Returns what can be said of a claim.

    Args:
        is_seen: Whether there is a difference, in the paper's direction and beyond chance.
        is_as_large: Whether it is about as large as the paper's, too.
    """
    return (REPRODUCED if is_as_large else SAME_DIRECTION) if is_seen else NOT_SEEN


def mean_and_spread(values: Sequence[float], unit: Callable[[float], str]) -> str:
    """Returns "12.3 % (12.1 % to 12.6 %, 3 seeds)", or the value alone for one seed."""
    if len(values) == 1:
        return f"{unit(values[0])} (1 seed)"
    return f"{unit(statistics.fmean(values))} ({unit(min(values))} to {unit(max(values))}, {len(values)} seeds)"


def percent(value: float) -> str:
    """Returns a fraction as "12.3 %"."""
    return f"{value:.1%}".replace("%", " %")


def reproduce(name: str, options: Options, command: str) -> tuple[Result, pathlib.Path]:
    """Runs an experiment, and writes its report each time there is a new result.

    Args:
        name: A key of `EXPERIMENTS`.
        options: What to run it on.
        command: The line that repeats it, for the report.

    Returns:
        The last result and its report.

    Raises:
        errors.UserError: If what the experiment needs is not there.
    """
    settings.check(options)
    begin, output = time.monotonic(), options.output or f"runs/reproduce-{name}"
    module = tables.load(EXPERIMENTS, name, "experiment")
    path = pathlib.Path(output) / f"{name}.md"
    for result in module.run(name, dataclasses.replace(options, output=output)):
        write(result, path, EXPERIMENTS[name].purpose, command, time.monotonic() - begin)
    return result, path


def write(result: Result, path: pathlib.Path, title: str, command: str, seconds: float) -> None:
    """Writes a report in Markdown, and its pictures as PNG beside it; each file whole or not at all.

    Args:
        result: What was found.
        path: NAME.md; a picture is NAME-<its own name>.png.
        title: The report's heading.
        command: The line that repeats the experiment.
        seconds: Wall time of this call.
    """
    from PIL import Image

    findings = [(each.claim, each.paper, each.ours, each.verdict and f"**{each.verdict}**") for each in result.findings]
    parts = [f"# {title}", _table([("the paper's claim", "paper", "here", ""), *findings])]
    for name, picture in result.pictures.items():
        file = path.with_name(f"{path.stem}-{re.sub('[^a-z0-9]', '-', name.lower())}.png")
        atomic_files.atomic_write(file, functools.partial(Image.fromarray(picture).save, format="png"))
        parts.append(f"![{name}]({file.name})")
    for heading, rows in result.tables.items():
        parts += [f"**{heading}**", _table(rows)]
    machine = f"{processors.available_cpus()} cores of {processors.processor()[0]}"
    parts += [result.note, f"```\n{command}\n```", f"{seconds:,.0f} s, on {machine}, {time.strftime('%Y-%m-%d')}."]
    atomic_files.write_bytes(path, ("\n\n".join(filter(None, parts)) + "\n").encode())


def _table(rows: Sequence[Sequence]) -> str:
    def cell(value: object) -> str:
        text = f"{value:.4g}" if isinstance(value, float) else "–" if value is None else str(value)
        return text.replace("|", "\\|")

    header, *rows = [[cell(value) for value in row] for row in rows]
    return markdown_table(header, rows)
