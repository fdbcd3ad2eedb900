"""Draws what a network sees in an image: feature maps of conv1 to conv5, and where the evidence for a class is.

    python -m alexnet_tf visualize --workdir=RUN IMAGE...
    python -m alexnet_tf visualize --workdir=RUN --class_name=roses --output=FOLDER IMAGE...

For each image a page: the crop that the network sees, the evidence for the most probable class (Grad-CAM of conv5), the
five most probable classes, and the strongest maps of each convolution, those of two towers apart. IMAGE is a file, a
folder, a glob, or - for a list of paths on standard input.
Next: python -m alexnet_tf features --workdir=RUN --layer=conv5_pool --output=FILE.h5
"""

import dataclasses
import os
import pathlib
import sys

from alexnet_tf.commands import cli
from alexnet_tf.commands.options import CheckpointOptions, ImageOptions
from alexnet_tf.runs.directory import load_model
from alexnet_tf.support import errors, home, shell
from alexnet_tf.support.settings import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(CheckpointOptions, ImageOptions):
    """What to draw, and where."""

    arguments: tuple[str, ...] = ()
    output: str | None = setting(None, "Folder for the pictures; by default RUN/pictures.")
    class_name: str | None = setting(None, "The class to explain; by default each image's most probable.")


def main(options: Options) -> int:
    """Draws a page for each image, and returns 1 if one cannot be read."""
    run = options.run()
    cli.check_some(options.arguments, "image", shell.command_line("visualize", "IMAGE...", workdir=run))
    class_names, class_name = run.class_names(), options.class_name
    if class_name and class_name not in class_names:
        raise errors.UserError(
            f"--class_name={class_name} is not a class of {run}; it has: "
            f"{', '.join(class_names[:20])}{' ...' if len(class_names) > 20 else ''}."
        )
    class_index = class_names.index(class_name) if class_name else None
    cli.import_tensorflow()
    from alexnet_tf.evaluation import predictions, views

    paths = list(predictions.expand(options.arguments, sys.stdin))
    model, run_config, _ = load_model(run, options.checkpoint, "float32")
    folder, used, unreadable = home.expand(options.output or run.path / "pictures"), set(), 0
    for path, crops in predictions.crops_of(paths, run_config.image_size, run_config.train.recipe.resize):
        if isinstance(crops, str):
            unreadable += 1
            cli.show(shell.printable(f"{path}: not read: {crops}", keep=""))
            continue
        image = crops[0].numpy()
        view = views.look(model, run_config.architecture, image, class_index)
        stem, number = f"visualize-{pathlib.Path(path).stem}", 2
        name = stem
        while name in used:  # Images of one name from several folders.
            name, number = f"{stem}-{number}", number + 1
        used.add(name)
        output = folder / f"{name}.png"
        views.draw(view, image, class_names, os.path.basename(path), str(output))
        best = int(view.probabilities.argmax())
        cli.show(shell.printable(f"{output}: {class_names[best]}, {view.probabilities[best]:.4f}", keep=""))
    return int(unreadable > 0)
