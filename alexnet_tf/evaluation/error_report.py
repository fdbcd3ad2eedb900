"""An evaluation for people and for programs: errors, each class's own, and what is taken for what."""

import math
import unicodedata
from collections.abc import Sequence
from typing import Any

from alexnet_tf.data import datasets
from alexnet_tf.evaluation import metrics

# On the screen; `as_dict` has every class.
_MAX_CLASSES, _MAX_PAIRS = 20, 5

# In JSON, of a million pairs that a thousand classes have.
_MAX_JSON_PAIRS = 20


def as_dict(result: metrics.Evaluation, class_names: Sequence[str]) -> dict[str, Any]:
    """Returns all figures as JSON can hold them; the error of a class without images is None."""
    predicted = result.confusion.sum(axis=0).tolist()
    return {
        "loss": result.loss,
        "top1_error": result.top1_error,
        "top1_accuracy": 1 - result.top1_error,
        "top5_error": result.top5_error,
        "top5_accuracy": None if result.top5_error is None else 1 - result.top5_error,
        "mean_class_error": result.mean_class_error,
        "mean_class_accuracy": 1 - result.mean_class_error,
        "never_predicted": [class_names[index] for index in result.never_predicted],
        "classes": [
            {
                "name": name,
                "images": int(size),
                "error": None if math.isnan(error) else float(error),
                "predicted": count,
            }
            for name, size, error, count in zip(class_names, result.class_sizes, result.class_errors, predicted)
        ],
        "most_confused": [
            {
                "label": class_names[label],
                "predicted": class_names[prediction],
                "images": count,
                "share_of_label": count / int(result.class_sizes[label]),
            }
            for label, prediction, count in result.most_confused(_MAX_JSON_PAIRS)
        ],
    }


def as_text(result: metrics.Evaluation, class_names: Sequence[str]) -> str:
    """Returns the figures as a table for the screen: of many classes, those with the highest errors."""
    errors = {
        "top-1 error": result.top1_error,
        "top-5 error": result.top5_error,
        "mean class error": result.mean_class_error,
    }
    lines = [
        f"{name:16}  {error:.4f}   accuracy {1 - error:.4f}" for name, error in errors.items() if error is not None
    ]
    lines += [f"{'loss':16}  {result.loss:.4f}", "", *_class_lines(result, class_names)]
    pairs = ", ".join(
        f"{class_names[label]} as {class_names[predicted]} ({count:,})"
        for label, predicted, count in result.most_confused(_MAX_PAIRS)
    )
    if pairs:
        lines += ["", f"Most confused: {pairs}"]
    if result.never_predicted:
        names = [class_names[index] for index in result.never_predicted]
        lines.append(f"Never predicted: {datasets.abbreviate(names)}")
    return "\n".join(lines)


def _class_lines(result: metrics.Evaluation, class_names: Sequence[str]) -> list[str]:
    """Returns a line for each class, or for the `_MAX_CLASSES` with the highest errors."""
    errors, predicted = result.class_errors, result.confusion.sum(axis=0)
    shown = [index for index in range(len(class_names)) if result.class_sizes[index]]
    title = ""
    if len(shown) > _MAX_CLASSES:
        title = f"The {_MAX_CLASSES} classes with the highest errors, of {len(shown):,}:"
        shown = sorted(shown, key=lambda index: -errors[index])[:_MAX_CLASSES]
    width = max(display_width(text) for text in ["class", *(class_names[index] for index in shown)])
    lines = [f"{_padded('class', width)}  {'images':>8}  {'error':>6}  {'accuracy':>8}  {'predicted':>9}"]
    lines += [
        f"{_padded(class_names[index], width)}  {result.class_sizes[index]:8,}  {errors[index]:6.4f}  "
        f"{1 - errors[index]:8.4f}  {predicted[index]:9,}"
        for index in shown
    ]
    return [title, *lines] if title else lines


def display_width(text: str) -> int:
    """Returns how many columns of a terminal a text takes: a Chinese or Japanese character takes two."""
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


def _padded(text: str, width: int) -> str:
    return text + " " * (width - display_width(text))
