"""Finds the images of a data set that are nearest to yours by their features, as in the paper's Figure 4.

    python -m alexnet_tf similar --features=FILE.h5 IMAGE...
    python -m alexnet_tf similar --features=FILE.h5 --top=6 --grid=FILE.png --json IMAGE...

FILE.h5 is what `features` wrote: python -m alexnet_tf features --workdir=RUN --output=FILE.h5
An image that is in the data set itself is found too, at distance 0.
Next: python -m alexnet_tf visualize --workdir=RUN IMAGE...
"""

import dataclasses
import json
import pathlib

from absl import flags

from alexnet_tf.commands import cli
from alexnet_tf.evaluation.options import SimilarOptions
from alexnet_tf.support import errors, shell

_FEATURES = flags.DEFINE_string("features", None, "The .h5 file that `features` wrote.", required=True)
_TOP = flags.DEFINE_integer("top", 6, "How many images to find for each.", lower_bound=1)
_GRID = flags.DEFINE_string("grid", None, "Also draw them into this .png or .jpg file, a row for each image.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory, if it is no longer where it was.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "The data set's images for --grid, if they are no longer where they were."
)
cli.define_image_limit()
_JSON = flags.DEFINE_bool("json", False, "Print one line of JSON for each image.")


def main(arguments: list[str]) -> int:
    """Prints the nearest images of each image, and returns 1 if none could be read."""
    if not arguments:
        raise errors.UserError(
            f"Give at least one image file: {shell.command_line('similar', 'IMAGE...', features=_FEATURES.value)}"
        )
    if not pathlib.Path(_FEATURES.value).expanduser().exists():
        raise errors.UserError(f"--features={_FEATURES.value} does not exist.")
    cli.import_tensorflow()
    from alexnet_tf.evaluation import retrieval

    answers = retrieval.find_similar(
        _FEATURES.value,
        arguments,
        SimilarOptions(top=_TOP.value, workdir=_WORKDIR.value, grid=_GRID.value, data_dir=_DATA_DIR.value),
    )
    for answer in answers:
        if _JSON.value:
            print(
                json.dumps(
                    {"file": answer.file, "error": answer.error}
                    if answer.error
                    else {"file": answer.file, "similar": [dataclasses.asdict(each) for each in answer.neighbours]}
                )
            )
        elif answer.error:
            cli.show(shell.printable(f"{answer.file}: not read: {answer.error}", keep=""))
        else:
            width = max(len(each.class_name or "") for each in answer.neighbours)
            lines = [
                f"{answer.file}:",
                *(
                    f"  {each.distance:8.2f}  {each.class_name or '':{width}}  {each.file}"
                    for each in answer.neighbours
                ),
            ]
            cli.show("\n".join(shell.printable(line, keep="") for line in lines))
    return 1 if all(answer.error for answer in answers) else 0
