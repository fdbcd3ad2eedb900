"""What was exported to a run's directory: a line for each artifact, as a table and as JSON that `verify` reads."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from alexnet_tf.support import atomic_files, timing
from alexnet_tf.support.report import markdown_table


@dataclasses.dataclass(frozen=True)
class Artifact:
    """One line of the report.

    Attributes:
        name: What it is, for a person.
        path: What engines read, a file or directory, relative to the export's directory; None for the Keras model.
        network: Which checkpoint it is of, and what it was compared on.
        agreement: Fraction of the images whose most probable class is the Keras model's.
        difference: Largest difference of a probability from the Keras model's.
        top1_error: Its own, on the same images; None where they are not of the run's classes.
        size_bytes: On the disk, or of the weights.
        milliseconds: For one image, by number of threads: {"2 threads": 7.5}.
        runtime: The oldest runtime that reads the file, as the file itself states it.
        details: What else a person should know of it.
        next_step: What to do with it, a line for the screen.
    """

    name: str
    path: str | None
    network: str
    agreement: float
    difference: float
    top1_error: float | None
    size_bytes: int
    milliseconds: dict[str, float]
    runtime: str | None = None
    details: str | None = None
    next_step: str | None = None


def compare(probabilities: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """Returns (fraction of the images with the same most probable class, largest difference of a probability).

    Args:
        probabilities: float32 [n, classes].
        expected: The Keras model's, float32 [n, classes].
    """
    is_same = probabilities.argmax(axis=-1) == expected.argmax(axis=-1)
    return float(is_same.mean()), float(np.abs(probabilities - expected).max())


def milliseconds(call: Callable[[], object]) -> float:
    """Returns the median duration of a call in milliseconds."""
    return 1000 * timing.median_seconds(call, calls=20)


def size_on_disk(path: str | os.PathLike[str]) -> int:
    """Returns the bytes of a file, or of all files in a directory."""
    root = pathlib.Path(path)
    return sum(each.stat().st_size for each in (root, *root.rglob("*")) if each.is_file())


def table(artifacts: Sequence[Artifact]) -> str:
    """Returns the report's table in Markdown."""
    threads = sorted({each for artifact in artifacts for each in artifact.milliseconds})
    rows = []
    for each in artifacts:
        error = each.top1_error
        figures = [f"{each.size_bytes / 1e6:.1f}", f"{each.agreement:.2%}", f"{each.difference:.1g}"]
        figures += ["-", "-"] if error is None else [f"{error:.4f}", f"{1 - error:.4f}"]
        figures += [f"{each.milliseconds[count]:.1f}" if count in each.milliseconds else "-" for count in threads]
        rows.append([each.name, *figures, each.runtime or "-"])
    header = ["", "MB", "agrees", "largest difference", "top-1 error", "accuracy", *(f"ms, {each}" for each in threads)]
    return markdown_table([*header, "reads from runtime"], rows)


def read(directory: pathlib.Path) -> list[Artifact]:
    """Returns the artifacts of an export's directory that are still there, as report.json has them."""
    try:
        content = json.loads((directory / "report.json").read_text())
    except FileNotFoundError:
        return []
    artifacts = [Artifact(**each) for each in content["artifacts"]]
    return [each for each in artifacts if each.path and (directory / each.path).exists()]


def write(directory: pathlib.Path, artifacts: Sequence[Artifact], notes: Sequence[str]) -> None:
    """Writes report.json and report.md; what was exported before stays in them as long as it is there.

    Args:
        directory: RUN/export.
        artifacts: The Keras model, and what was exported now.
        notes: Lines above the table.

    Raises:
        RunError: If they cannot be written.
    """
    known = {part for each in artifacts for part in (each.name, each.path)}
    kept = [each for each in read(directory) if not known & {each.name, each.path}]
    artifacts = [*artifacts, *kept]
    details = [f"* {each.name}: {each.details}" for each in artifacts if each.details]
    details += [f"* {each.name} is of another export: {each.network}" for each in kept]
    lines = ["# Exported, and compared with the Keras model", "", *notes, "", table(artifacts), "", *details]
    content = {"notes": list(notes), "artifacts": [dataclasses.asdict(each) for each in artifacts]}
    for name, text in (("report.json", json.dumps(content, indent=2)), ("report.md", "\n".join(lines))):
        encoded = f"{text}\n".encode("utf-8", "surrogateescape")
        atomic_files.write_bytes(directory / name, encoded)
