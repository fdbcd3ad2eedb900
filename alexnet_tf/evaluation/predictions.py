"""A table of predictions as CSV: a line for each image, with its most probable classes.

image, label (where images have one), predicted, probability, class_2, probability_2, ... class_5, probability_5
"""

import csv
import io
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

import numpy as np

from alexnet_tf.support import atomic_files

# The paper's top five.
TOP = 5


def most_probable(log_probabilities: np.ndarray, top: int = TOP) -> tuple[np.ndarray, np.ndarray]:
    """Returns the most probable classes of each image, best first; a tie goes to the class with the lower number.

    Args:
        log_probabilities: float32 [images, classes].
        top: How many classes; at most all.

    Returns:
        (classes int64 [images, top], probabilities float32 [images, top]).
    """
    classes = np.argsort(-log_probabilities, axis=-1, kind="stable")[:, :top]
    return classes, np.exp(np.take_along_axis(log_probabilities, classes, axis=-1))


class PredictionTable:
    """Keeps the most probable classes of every image of an evaluation: sixty bytes for each.

    Args:
        class_names: In the order of the logits.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self._class_names = class_names
        self._batches: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, log_probabilities: np.ndarray, labels: np.ndarray) -> None:
        """Adds a batch: log-probabilities float32 [batch, classes] and labels int32 [batch]."""
        classes, probabilities = most_probable(log_probabilities)
        self._batches.append((labels, classes.astype("int32"), probabilities))

    def write(self, path: str | os.PathLike[str], image_names: Iterable[str]) -> None:
        """Writes the table; the file appears whole or not at all.

        Args:
            path: The CSV file.
            image_names: Names of the images, in the order in which they were added.

        Raises:
            RunError: If it cannot be written.
        """
        examples = ((label, *rank) for batch in self._batches for label, *rank in zip(*batch))
        lines = (
            (image, self._class_names[label], *named_probabilities(classes, probabilities, self._class_names))
            for image, (label, classes, probabilities) in zip(image_names, examples)
        )
        write_file(path, columns(min(TOP, len(self._class_names)), ("image", "label")), lines)


def columns(top: int, before: Sequence[str], after: Sequence[str] = ()) -> list[str]:
    """Returns the names of the columns, with `top` classes between others."""
    names = ["predicted", "probability"]
    for place in range(2, top + 1):
        names += [f"class_{place}", f"probability_{place}"]
    return [*before, *names, *after]


def named_probabilities(
    classes: Iterable[int], probabilities: Iterable[float], class_names: Sequence[str]
) -> list[str]:
    """Returns the cells of an image: the class and probability of the best, then of the second, and so on."""
    return [
        cell for each, probability in zip(classes, probabilities) for cell in (class_names[each], f"{probability:.6f}")
    ]


def write_file(path: str | os.PathLike[str], names: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """Writes a CSV file, whole or not at all; the lines may be produced while it is written."""

    def write(file):
        # Names of files that are not UTF-8 keep their bytes.
        text = io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="")
        write_lines(text, names, lines)
        text.detach()  # Else the file would be closed with it.

    atomic_files.atomic_write(os.path.expanduser(path), write)


def write_lines(
    text: TextIO, names: Sequence[str], lines: Iterable[Sequence[str]], after_line: Callable[[], object] | None = None
) -> None:
    """Writes CSV with a line of column names.

    Args:
        text: Open for writing.
        names: Of the columns.
        lines: Their cells.
        after_line: Called after each line, such as `text.flush`.
    """
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for line in lines:
        writer.writerow(line)
        if after_line:
            after_line()
