"""What an experiment found, as files: Markdown for people, JSON for programs, PNG and SVG pictures."""

import dataclasses
import json
import pathlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from alexnet_tf.support import atomic_files, plotting, processors

# What can be said of a claim.
REPRODUCED, SAME_DIRECTION, NOT_SEEN = "reproduced", "same direction", "not seen at this budget"

_IMAGE_DPI = 100  # Of pictures that are given pixel by pixel.


@dataclasses.dataclass(frozen=True)
class Finding:
    """A claim of the paper beside what was found here.

    Attributes:
        claim: What the paper says.
        paper: Its number.
        ours: The number here.
        verdict: `REPRODUCED`, `SAME_DIRECTION` or `NOT_SEEN`; None without real data or with too little.
    """

    claim: str
    paper: str
    ours: str
    verdict: str | None


@dataclasses.dataclass(frozen=True)
class Table:
    """Numbers behind the findings.

    Attributes:
        title: One line.
        columns: Their names.
        rows: As many values each; None is shown as a dash.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple, ...]


@dataclasses.dataclass(frozen=True)
class Result:
    """All that an experiment found.

    Attributes:
        findings: Claims with numbers.
        tables: The numbers behind them.
        pictures: Name -> matplotlib Figure, or image uint8 [height, width, 3].
        notes: Paragraphs: budget, deviations, what the numbers depend on.
        training_seconds: Wall time of all trainings, earlier calls included; None where nothing is trained.
    """

    findings: tuple[Finding, ...]
    tables: tuple[Table, ...] = ()
    pictures: dict = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    training_seconds: float | None = None


def mean_and_spread(values: Sequence[float], unit: Callable[[float], str]) -> str:
    """Returns "12.3 % (12.1 % to 12.6 %, 3 seeds)", or the value alone for one seed."""
    if len(values) == 1:
        return f"{unit(values[0])} (1 seed)"
    return f"{unit(statistics.fmean(values))} ({unit(min(values))} to {unit(max(values))}, {len(values)} seeds)"


def percent(value: float) -> str:
    """Returns a fraction as "12.3 %"."""
    return f"{value:.1%}".replace("%", " %")


def write(
    result: Result, directory: str | pathlib.Path, name: str, *, title: str, command: str, seconds: float
) -> None:
    """Writes NAME.md, NAME.json and each picture as PNG and SVG; each file whole or not at all.

    Args:
        result: What was found.
        directory: Where to write.
        name: The experiment's.
        title: The report's heading.
        command: The line that repeats the experiment.
        seconds: Wall time of this call.
    """
    directory = pathlib.Path(directory)
    facts = {"command": command, "seconds": round(seconds, 1), "machine": machine(), "date": time.strftime("%Y-%m-%d")}
    if result.training_seconds is not None:
        facts["training_seconds"] = round(result.training_seconds, 1)
    for picture, content in result.pictures.items():
        _write_picture(directory / f"{name}-{picture}", content)
    content = {
        "experiment": name,
        **facts,
        "findings": [dataclasses.asdict(each) for each in result.findings],
        "tables": [dataclasses.asdict(each) for each in result.tables],
        "notes": list(result.notes),
    }
    _write_text(directory / f"{name}.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    _write_text(directory / f"{name}.md", markdown(result, name, title, facts))


def markdown(result: Result, name: str, title: str, facts: dict) -> str:
    """Returns a result as Markdown."""
    parts = [f"# {title}"]
    if result.findings:
        parts.append(
            _markdown_table(
                ("the paper's claim", "paper", "here", ""),
                [
                    (each.claim, each.paper, each.ours, each.verdict and f"**{each.verdict}**")
                    for each in result.findings
                ],
            )
        )
    parts += [f"![{picture}]({name}-{picture}.png)" for picture in result.pictures]
    for table in result.tables:
        parts += [f"**{table.title}**", _markdown_table(table.columns, table.rows)]
    parts += result.notes
    duration = f"{facts['seconds']:,.0f} s"
    if "training_seconds" in facts:
        duration = f"Trained for {facts['training_seconds']:,.0f} s in all; the last call took {duration}"
    parts.append(f"```\n{facts['command']}\n```\n\n{duration}, on {facts['machine']}, {facts['date']}.")
    return "\n\n".join(parts) + "\n"


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def machine() -> str:
    """Returns the processor's name and how many cores this process may use."""
    return f"{processors.available_cpus()} cores of {processors.processor()[0]}"


def image_figure(image: np.ndarray) -> Any:
    """Returns a matplotlib Figure that shows an image uint8 [height, width, 3] pixel by pixel."""
    figure = plotting.new_figure(image.shape[1] / _IMAGE_DPI, image.shape[0] / _IMAGE_DPI)
    figure.set_layout_engine("none")
    figure.figimage(image)
    return figure


def _write_picture(path: pathlib.Path, content) -> None:
    is_image = isinstance(content, np.ndarray)
    with plotting.style():
        figure = image_figure(content) if is_image else content
        for ending in ("png", "svg"):
            plotting.save(figure, f"{path}.{ending}", dpi=_IMAGE_DPI if is_image else plotting.DPI)


def _write_text(path: pathlib.Path, text: str) -> None:
    atomic_files.atomic_write(path, lambda file: file.write(text.encode()))
