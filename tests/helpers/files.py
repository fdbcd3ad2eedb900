"""Image folders and archives that tests make for themselves."""

import io
import itertools
import pathlib
import zipfile

import numpy as np
import tensorflow as tf

from alexnet_tf.data import discovery, prepare


def touch(directory, *names, content=b""):
    """Writes files of the same content, empty by default, with the folders that they need; returns the directory."""
    for name in names:
        path = pathlib.Path(directory, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return str(directory)


def write_folders(root, classes, paint=None, **counts):
    """Writes images of 70 x 70 pixels: so many of each class in each split, noise about the class's own grey.

    They are JPEG files, as most images are. `paint(pixels, label, number)` may change an image before it is written;
    they are PNG files then, which keep its values.
    """
    for (split, count), (label, name) in itertools.product(counts.items(), enumerate(classes)):
        folder = root / split / name
        folder.mkdir(parents=True)
        for number in range(count):
            rng = np.random.default_rng([split == "val", label, number])
            pixels = np.clip(rng.normal(50 * label, 20, (70, 70, 3)), 0, 255).astype("uint8")
            if paint:
                paint(pixels, label, number)
                (folder / f"{number}.png").write_bytes(tf.io.encode_png(pixels).numpy())
            else:
                (folder / f"{number}.jpg").write_bytes(tf.io.encode_jpeg(pixels).numpy())
    return root


def prepared_folders(root, classes, **counts):
    """Prepares what `write_folders` writes: an input for tests that need no files, made in a third of the time."""
    source = discovery.find_dataset(str(write_folders(root / "folders", classes, **counts)))
    prepare.prepare(source, root / "prepared", processes=1)
    return discovery.find_dataset(str(root / "prepared"))


def images_of_greys(directory, greys):
    """Writes a PNG file of 8 x 9 pixels for each grey level; returns their paths."""
    paths = [directory / f"{number}.png" for number in range(len(greys))]
    for path, grey in zip(paths, greys):
        path.write_bytes(tf.io.encode_png(np.full((8, 9, 3), grey, "uint8")).numpy())
    return paths


def zipped(members, compression=zipfile.ZIP_STORED):
    """Returns a zip file's bytes of its members' by name."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()
