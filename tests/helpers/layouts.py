"""Finding data sets in directories that tests make."""

import io
import os
import pathlib

import PIL.Image
import pytest

from alexnet_tf.data import discovery
from alexnet_tf.data.options import ExampleOptions
from alexnet_tf.support import errors


def find(directory, **options):
    """Finds the data set in a directory."""
    return discovery.find_dataset(str(directory), ExampleOptions(**options))


def error_of(directory, **options):
    """Returns the message that `find` fails with."""
    with pytest.raises(errors.UserError) as caught:
        find(directory, **options)
    return str(caught.value)


def sizes(data):
    """Returns {split: number of images}."""
    return {name: len(split) for name, split in data.splits.items()}


def class_of(data, *splits):
    """Returns {image's name: class name} of some splits, by default of all."""
    return {
        pathlib.Path(path).name: data.class_names[label]
        for name in splits or data.splits
        for path, label in zip(data.splits[name].paths, data.splits[name].labels.tolist(), strict=True)
    }


def paths_in(split, root):
    """Returns the paths of a split's images from a folder."""
    return [os.path.relpath(path, root) for path in split.paths]


def encoded(kind):
    """Returns a small image of a format that Pillow writes."""
    file = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), (99, 98, 97)).save(file, kind)
    return file.getvalue()
