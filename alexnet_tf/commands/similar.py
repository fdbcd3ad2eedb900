"""Finds the images of a data set that are nearest to yours by their features, as in the paper's Figure 4.

    python -m alexnet_tf similar --features=FILE.h5 IMAGE...
    python -m alexnet_tf similar --features=FILE.h5 --top=6 --grid=FILE.png --json IMAGE...

FILE.h5 is what `features` wrote: python -m alexnet_tf features --workdir=RUN --output=FILE.h5
An image that is in the data set itself is found too, at distance 0.
Next: python -m alexnet_tf visualize --workdir=RUN IMAGE...
"""

import dataclasses
import json

from alexnet_tf.commands import cli
from alexnet_tf.commands.options import ImageOptions, load_pretrained, pretrained_setting
from alexnet_tf.evaluation.options import SimilarOptions
from alexnet_tf.support import errors, shell
from alexnet_tf.support.settings import REQUIRED, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(SimilarOptions, ImageOptions):
    """Where to look, and what to show."""

    arguments: tuple[str, ...] = ()
    features: str = setting(REQUIRED, "The .h5 file that `features` wrote.", path="file")
    json: bool = setting(False, "Print one line of JSON for each image.")
    pretrained: str | None = pretrained_setting()


def main(options: Options) -> int:
    """Prints the nearest images of each image, and returns 1 if one cannot be read."""
    line = shell.command_line("similar", "IMAGE...", features=options.features)
    cli.check_some(options.arguments, "image file", line)
    if options.pretrained:
        if options.workdir:
            raise errors.UserError("Give either --workdir=RUN or --pretrained=NAME.")
        options = dataclasses.replace(options, workdir=load_pretrained(options.pretrained))
    cli.import_tensorflow()
    from alexnet_tf.evaluation import retrieval

    answers = retrieval.find_similar(options.features, options.arguments, options)
    for answer in answers:
        if options.json:
            found = {"similar": [dataclasses.asdict(each) for each in answer.neighbours]}
            print(json.dumps({"file": answer.file} | ({"error": answer.error} if answer.error else found)))
            continue
        lines = [f"{answer.file}: not read: {answer.error}" if answer.error else f"{answer.file}:"]
        width = max((len(each.class_name or "") for each in answer.neighbours), default=0)
        for each in answer.neighbours:
            lines.append(f"  {each.distance:8.2f}  {each.class_name or '':{width}}  {each.file}")
        cli.show("\n".join(shell.printable(line, keep="") for line in lines))
    return int(any(answer.error for answer in answers))
