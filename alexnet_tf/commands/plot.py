"""Draws the learning curves of a run, or of several for comparison: errors, losses and rates by epoch.

    python -m alexnet_tf plot RUN
    python -m alexnet_tf plot RUN RUN --output=curves.svg --title="Flowers"
    python -m alexnet_tf plot frozen=RUN frozen=RUN scratch=RUN --output=curves.png

NAME=RUN names a run in the legend; runs of one name share a colour. The picture is a .png, .svg, .pdf or .jpg.
Next: python -m alexnet_tf visualize --workdir=RUN IMAGE...
"""

import dataclasses

from alexnet_tf.commands import cli
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import home, plotting, shell
from alexnet_tf.support.settings import setting


@dataclasses.dataclass(frozen=True)
class Options:
    """What to draw, and where."""

    arguments: tuple[str, ...] = ()
    output: str | None = setting(
        None, "The picture; by default learning_curves.png, in RUN/pictures where there is one run."
    )
    title: str | None = setting(None, "Title of the picture.")


def main(options: Options) -> None:
    """Draws the picture and prints where it is."""
    from alexnet_tf.evaluation import learning_curves

    runs = options.arguments
    cli.check_some(runs, "run", shell.command_line("plot", "RUN..."))
    output = options.output or "learning_curves.png"
    plotting.check_ending("output", output)
    curves = [learning_curves.read(each) for each in runs]
    if not options.output and len(runs) == 1 and home.expand(runs[0]).is_dir():
        output = str(RunDirectory(runs[0]).path / "pictures" / output)
    learning_curves.draw(curves, output, options.title)
    for curve in curves:
        error = curve.columns["val_top1_error"]
        best = min(range(len(error)), key=error.__getitem__)
        cli.show(
            f"{curve.name}: {shell.count(len(error), 'epoch')}, lowest validation error "
            f"{error[best]:.4f} (accuracy {1 - error[best]:.4f}) after epoch {curve.columns['epoch'][best]:.0f}"
        )
    cli.show(f"Wrote {output}")
