"""Classes that only the names of files state, as in cat.0.jpg and dog.0.jpg: how to write them into a file of labels.

That is a guess, which IMG_1.jpg and DSC_1.jpg would refute; so it is offered with a command, and never made.
"""

import collections
import os
import re
import shlex

from alexnet_tf.data import datasets, folder_scan
from alexnet_tf.support import shell

# A name, then a number: cat.0, Abyssinian_12, golden retriever (3).
_NAME = r"(.*[^-._ ()0-9])[-._ ]*[(]?[0-9]+[)]?"

_MOST_CLASSES = 1000

_WRITE = """\
python -c "import csv, pathlib, re, sys
folder, lines = pathlib.Path(sys.argv[1]), [('file', 'label')]
for path in sorted(folder.rglob('*.*')):
    match = re.fullmatch(r'{name}', path.stem)
    if match and path.suffix.lower() in {endings}:
        lines.append((path.relative_to(folder), match[1]))
csv.writer(open(folder / 'labels.csv', 'w', encoding='utf-8')).writerows(lines)" {directory}"""


def advice(directory: os.PathLike[str] | str) -> str:
    """Returns what to type if the images' names seem to say their classes, with a line break before, or nothing.

    Args:
        directory: Holds the images, at any depth, and no class folders.
    """
    counts: collections.Counter[str] = collections.Counter()
    for path in folder_scan.images_in(os.fspath(directory)):
        if match := re.fullmatch(_NAME, os.path.splitext(os.path.basename(path))[0]):
            counts[match[1]] += 1
    if not 2 <= len(counts) <= _MOST_CLASSES or min(counts.values()) < 2:
        return ""
    command = _WRITE.format(name=_NAME, endings=folder_scan.IMAGE_ENDINGS, directory=shlex.quote(os.fspath(directory)))
    names = datasets.abbreviate(sorted(counts))
    return f"\nAre the classes in the names of the files: {names}? Then type\n{command}\n" + shell.command_line(
        "train", data_dir=directory, labels="labels.csv"
    )
