"""Learning curves of one run or several, from their history.csv: errors, losses and learning rates by epoch."""

import csv
import dataclasses
from collections.abc import Sequence
from typing import Any

from alexnet_tf.runs.directory import HISTORY, RunDirectory
from alexnet_tf.support import errors, home, plotting

_COLUMNS = ("epoch", "learning_rate", "train_loss", "train_top1_error", "val_loss", "val_top1_error")

# With more epochs, markers would hide the line.
_MAX_MARKED_EPOCHS = 30


@dataclasses.dataclass(frozen=True)
class Curve:
    """The history of a run.

    Attributes:
        name: For the legend; runs of the same name are drawn in one colour.
        columns: Values of every epoch by column of history.csv: epoch, learning_rate, train_loss, train_top1_error,
            val_loss and val_top1_error.
    """

    name: str
    columns: dict[str, list[float]]


def read(argument: str) -> Curve:
    """Reads the history of a run.

    Args:
        argument: The run's directory, or NAME=RUN to give it a name for the legend.

    Raises:
        RunError: If there is no run, or its history.csv cannot be read.
    """
    name, separator, path = argument.partition("=")
    if not separator or home.expand(argument).is_dir():
        name, path = home.expand(argument).resolve().name, argument
    run = RunDirectory(path)
    history = run.path / HISTORY
    try:
        with open(history, encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        columns = {column: [float(line[column]) for line in lines] for column in _COLUMNS}
    except FileNotFoundError as error:
        run.existing_config()  # Says so if there is no run at all.
        raise errors.RunError(f"{run} has no {HISTORY} yet: it is written at the end of each epoch.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise errors.RunError(
            f"{history} cannot be read: it should have the columns {', '.join(_COLUMNS)}, with a number in each line "
            f"({error})."
        ) from error
    if not lines:
        raise errors.RunError(f"{history} has no epoch yet.")
    return Curve(name, columns)


def draw(curves: Sequence[Curve], path: str, title: str | None = None) -> None:
    """Draws errors, losses and rates by epoch; validation is solid and training dashed.

    Args:
        curves: The runs.
        path: The picture, whose ending names its format: one of `plotting.ENDINGS`.
        title: For the top; by default none.
    """
    names = list(dict.fromkeys(curve.name for curve in curves))
    with plotting.style():
        figure = plotting.new_figure(10, 5.2)
        axes = figure.subplot_mosaic(
            [["error", "loss"], ["error", "rate"]], width_ratios=(1.25, 1), height_ratios=(1.7, 1)
        )
        for curve in curves:
            _draw_curve(axes, curve, plotting.COLOURS[names.index(curve.name) % len(plotting.COLOURS)])
        _finish(axes, curves)
        lines = dict(zip(*reversed(axes["error"].get_legend_handles_labels())))  # One for runs of the same name.
        figure.legend(lines.values(), lines, loc="outside lower left", ncols=min(5, len(lines)))
        if title:
            figure.suptitle(title, x=0.01, ha="left")
        plotting.save(figure, path)


def _draw_curve(axes: dict[str, Any], curve: Curve, colour: str) -> None:
    columns, epochs, name = curve.columns, curve.columns["epoch"], plotting.shortened(curve.name, 40)
    marker = "o" if len(epochs) <= _MAX_MARKED_EPOCHS else None
    style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4}
    for panel, column in (("error", "top1_error"), ("loss", "loss")):
        of_training = {**style, "linestyle": "--", "linewidth": 1.3, "markerfacecolor": "white"}
        axes[panel].plot(epochs, columns[f"val_{column}"], label=name, **style)
        axes[panel].plot(epochs, columns[f"train_{column}"], **of_training)
    axes["rate"].plot(epochs, columns["learning_rate"], **style)


def _finish(axes: dict[str, Any], curves: Sequence[Curve]) -> None:
    from matplotlib import ticker

    for name, title in (
        ("error", "Top-1 error (dashed: training)"),
        ("loss", "Cross-entropy (nats)"),
        ("rate", "Learning rate"),
    ):
        axes[name].set_title(title, loc="left")
        axes[name].grid(axis="y")
        axes[name].xaxis.set_major_locator(ticker.MaxNLocator("auto", integer=True, min_n_ticks=1))
        axes[name].set_ylim(bottom=0)
        axes[name].set_xlabel("epoch" if name != "loss" else "")
    rates = [rate for curve in curves for rate in curve.columns["learning_rate"] if rate > 0]
    if rates and max(rates) > 20 * min(rates):
        axes["rate"].set_yscale("log")
        axes["rate"].set_ylim(bottom=max(min(rates) / 2, max(rates) / 300))  # A cosine ends at almost nothing.
    axes["rate"].yaxis.set_major_formatter(ticker.FuncFormatter(lambda rate, _: f"{rate:g}"))
    axes["loss"].tick_params(labelbottom=False)
