"""Images as a person names them: files, folders, globs, and a list of paths on standard input."""

import glob
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from alexnet_tf.data import input_pipeline, labelled_files, plain_images, preprocessing, reading
from alexnet_tf.data.plain_images import UnreadableImage
from alexnet_tf.support import errors


def expand(arguments: Sequence[str], lines: Iterable[str]) -> Iterator[str]:
    """Yields the files that arguments name; a file that does not exist is yielded too, to be reported when it is read.

    Args:
        arguments: A file; a folder, whose images at any depth are meant; a glob such as `photos/**/*.jpg`; or `-` for
            a path on each of `lines`.
        lines: Usually standard input, which is read as the paths are asked for.

    Raises:
        UserError: If a folder has no images, a glob matches nothing, or a folder cannot be read.
    """
    for argument in arguments:
        path = os.path.expanduser(argument)
        if argument == "-":
            yield from (line.rstrip("\r\n") for line in lines if line.strip())
        elif os.path.isdir(path):
            yield from _images_in(path)
        elif not os.path.lexists(path) and glob.has_magic(path):
            files = sorted(each for each in glob.iglob(path, recursive=True) if not os.path.isdir(each))
            if not files:
                raise errors.UserError(f"{argument} matches no file.")
            yield from files
        else:
            yield path


def _images_in(folder: str) -> list[str]:
    try:
        files = labelled_files.files_in(folder)[0]
    except OSError as error:
        raise errors.UserError(f"{folder} cannot be read: {error.strerror}.") from error
    if not files:
        raise errors.UserError(f"{folder} has no images. There: {labelled_files.listing(folder)}.")
    return files


def read(path: str | os.PathLike[str]) -> bytes:
    """Returns an encoded image as an ordinary JPEG or PNG.

    Raises:
        UnreadableImage: If the file cannot be read, or as `plain_images.plain`.
    """
    try:
        return plain_images.plain(reading.read_file(str(pathlib.Path(path).expanduser())))
    except OSError as error:
        raise UnreadableImage(error.strerror) from error


def read_crop(path: str | os.PathLike[str], image_size: int, resize: str) -> np.ndarray:
    """Returns the central crop that a network judges an image by, uint8 [image_size, image_size, 3].

    Args:
        path: The image's file.
        image_size: Side of the crop in pixels.
        resize: As in `preprocessing.square`.

    Raises:
        UnreadableImage: If it cannot be read.
    """
    image_bytes = read(path)
    if reason := preprocessing.why_unreadable(image_bytes):
        raise UnreadableImage(reason)
    return input_pipeline.evaluation_crops(tf.constant(image_bytes), image_size, resize)[0].numpy()
