"""Finds the images of a set that are nearest to yours by their features, as the paper's Figure 4.

    python -m alexnet_tf similar --features=FILE.npz IMAGE... [--top=6] [--grid=FILE.png] [--json]

FILE.npz is what `features` wrote. An image that is in the set itself is found too, at distance 0.
"""

import dataclasses
import json

from absl import flags

from alexnet_tf import cli, errors

cli.import_tensorflow()

from alexnet_tf.evaluation import retrieval  # noqa: E402

_FEATURES = flags.DEFINE_string("features", None, "The .npz file that `features` wrote.", required=True)
_TOP = flags.DEFINE_integer("top", 6, "How many images to find for each.", lower_bound=1)
_GRID = flags.DEFINE_string("grid", None, "A .png or .jpg file to draw them into, a row for each image.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory, if it is no longer where it was.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "The set's images for --grid, if they are no longer where they were.")
_JSON = flags.DEFINE_bool("json", False, "Print one line of JSON for each image.")


def main(argv):
    paths = argv[1:]
    if not paths:
        raise errors.UserError("Give at least one image file: python -m alexnet_tf similar --features=FILE.npz IMAGE...")
    answers = retrieval.find_similar(
        _FEATURES.value, paths, top=_TOP.value, run_path=_WORKDIR.value, grid=_GRID.value, data_dir=_DATA_DIR.value)
    for answer in answers:
        if _JSON.value:
            print(json.dumps(
                {"file": answer.file, "error": answer.error} if answer.error else
                {"file": answer.file, "similar": [dataclasses.asdict(each) for each in answer.neighbours]}))
        elif answer.error:
            print(f"{answer.file}: not read: {answer.error}")
        else:
            width = max(len(each.class_name or "") for each in answer.neighbours)
            print("\n".join([f"{answer.file}:", *(
                f"  {each.distance:8.2f}  {each.class_name or '':{width}}  {each.file}" for each in answer.neighbours)]))
    return 1 if all(answer.error for answer in answers) else 0


def run():
    cli.run(main)
