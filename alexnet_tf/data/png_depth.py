"""PNG images of 16 bits that use only some of them: read with 8 bits, they are almost black.

Microscopes, X-ray machines and depth cameras store 10 to 14 bits in files of 16. A decoder to 8 bits keeps the upper
half, and little of such an image is left. A few images are looked at when a data set is found, and when files are
classified.
"""

import logging
import os
import shlex
import threading

import numpy as np
import tensorflow as tf

from alexnet_tf.data import datasets, image_headers

_LOGGER = logging.getLogger(__name__)

_SIGNATURE, _BIT_DEPTH_OFFSET = b"\x89PNG\r\n\x1a\n", 24

# By a PNG's type of colour, which follows the depth.
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}

# An image that takes more is not looked at: as much as the decoder takes at most for 8 bits.
_MAX_BYTES = 3 * image_headers.MAX_PIXELS

# Images that are looked at, and the bits that an ordinary set of 16-bit images uses at least.
_SAMPLES, _EXPECTED_BITS = 16, 15

# Only files whose values are all small, so that it may run twice and leaves 8-bit images alone.
_STRETCH = """\
python -c "import pathlib, sys, tensorflow as tf
for path in pathlib.Path(sys.argv[1]).rglob('*.png'):
    image = tf.io.decode_png(path.read_bytes(), dtype=tf.uint16)
    if tf.reduce_max(image) < {limit}:
        path.write_bytes(tf.io.encode_png(image * {factor}).numpy())" {directory}"""


def note_of(split: datasets.ImageSource, directory: str) -> tuple[str, ...]:
    """Looks at a few images of a split for 16-bit PNG images that leave their upper bits unused.

    Args:
        split: The training images.
        directory: Where they are, for the advice.

    Returns:
        A note that says what to do, or nothing.
    """
    if split.is_square or not len(split):
        return ()
    chosen = np.unique(np.linspace(0, len(split) - 1, _SAMPLES).astype(int))
    is_files = isinstance(split, datasets.ImageFiles)
    return _notes(max(_largest_of_example(split, int(index)) for index in chosen), directory if is_files else None)


class Watch:
    """Looks out for such images among those that are read one after another, such as `predict`'s."""

    def __init__(self) -> None:
        self._largest: dict[str, int] = {}
        self._lock = threading.Lock()

    def look(self, path: str, image_bytes: bytes) -> None:
        """Looks at an image, if it is one of the first few of 16 bits; several threads may do so at a time."""
        if _has_16_bits(image_bytes):
            with self._lock:  # One at a time is decoded.
                if len(self._largest) < _SAMPLES:
                    self._largest[path] = _largest_value(image_bytes)

    def report(self) -> None:
        """Says, if there were such images, what to do."""
        folders = {os.path.dirname(os.path.abspath(path)) for path in self._largest}
        for note in _notes(max(self._largest.values(), default=0), folders.pop() if len(folders) == 1 else None):
            _LOGGER.warning(f"{note}\nThe factor must be that of the training images.")


def _notes(largest: int, directory: str | None) -> tuple[str, ...]:
    """Returns a note where the largest value of 16-bit images is small, with a command for the files of a directory."""
    bits = largest.bit_length()
    if not 0 < bits < _EXPECTED_BITS:
        return ()
    limit = 2**bits
    note = (
        f"The PNG images have 16 bits, of which only the lower {bits} are used (values below {limit:,}). The upper "
        "8 are read, so the images are almost black. Stretch the values first"
    )
    if directory is None:
        return (f"{note}: multiply them by {2**16 // limit}.",)
    command = _STRETCH.format(limit=limit, factor=2**16 // limit, directory=shlex.quote(directory))
    return (f"{note}, in a copy of the directory:\n{command}",)


def _largest_of_example(split: datasets.ImageSource, index: int) -> int:
    try:
        image_bytes = split.image_bytes(index)
    except OSError:  # It will be reported when it is its turn.
        return 0
    return _largest_value(image_bytes) if _has_16_bits(image_bytes) else 0


def _has_16_bits(image_bytes: bytes) -> bool:
    return image_bytes.startswith(_SIGNATURE) and image_bytes[_BIT_DEPTH_OFFSET : _BIT_DEPTH_OFFSET + 1] == b"\x10"


def _largest_value(image_bytes: bytes) -> int:
    """Returns the largest value of a 16-bit PNG image; 0 if it is very large, or cannot be read: reported elsewhere."""
    channels = _CHANNELS.get(image_bytes[_BIT_DEPTH_OFFSET + 1], 0)
    try:
        pixels = int(tf.reduce_prod(image_headers.image_shape(tf.constant(image_bytes))))
        if 2 * channels * pixels > _MAX_BYTES:
            return 0
        return int(tf.reduce_max(tf.io.decode_png(image_bytes, dtype=tf.uint16)))
    except tf.errors.OpError:
        return 0
