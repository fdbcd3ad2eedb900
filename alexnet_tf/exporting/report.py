"""What was exported, as a table and as JSON."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence

from alexnet_tf.exporting import latency
from alexnet_tf.exporting.export_job import Artifact
from alexnet_tf.support import atomic_files


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Returns a table in Markdown that is also readable as it stands; the first row is its head."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *map(list, rows[1:])]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def table(artifacts: Sequence[Artifact]) -> str:
    """Returns the report's table."""
    threads = latency.thread_counts()
    rows = [
        [
            "",
            "MB",
            "agrees",
            "largest difference",
            "top-1 error",
            "accuracy",
            *(f"ms, {count} thread{'s' if count > 1 else ''}" for count in threads),
            "reads from runtime",
        ]
    ]
    for each in artifacts:
        times = [f"{each.milliseconds[count]:.1f}" if count in each.milliseconds else "-" for count in threads]
        rows.append(
            [
                each.name,
                f"{each.size_bytes / 1e6:.1f}",
                f"{each.agreement:.2%}",
                f"{each.difference:.1g}",
                *(("-", "-") if each.top1_error is None else (f"{each.top1_error:.4f}", f"{1 - each.top1_error:.4f}")),
                *times,
                each.runtime or "-",
            ]
        )
    return markdown_table(rows)


def write_report(directory: pathlib.Path, artifacts: Sequence[Artifact], notes: Sequence[str]) -> None:
    """Writes report.json and report.md.

    Raises:
        RunError: If they cannot be written.
    """
    content = {"notes": list(notes), "artifacts": [dataclasses.asdict(each) for each in artifacts]}
    text = json.dumps(content, indent=2) + "\n"
    atomic_files.atomic_write(directory / "report.json", lambda file: file.write(text.encode()))
    details = [f"* {each.name}: {each.details}" for each in artifacts if each.details]
    lines = [
        "# Exported, and compared with the Keras model",
        "",
        *notes,
        "",
        table(artifacts),
        "",
        *([*details, ""] if details else []),
    ]
    atomic_files.atomic_write(
        directory / "report.md", lambda file: file.write("\n".join(lines).encode("utf-8", "surrogateescape"))
    )
