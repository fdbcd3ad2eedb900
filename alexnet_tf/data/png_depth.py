"""PNG images of 16 bits that use only some of them: read with 8 bits, they are almost black.

Microscopes, X-ray machines and depth cameras store 10 to 14 bits in files of 16. A decoder to 8 bits keeps the upper
half, and little of such an image is left. A few images are looked at when a data set is found.
"""

import shlex

import numpy as np
import tensorflow as tf

from alexnet_tf.data import datasets, image_headers

_SIGNATURE, _BIT_DEPTH_OFFSET = b"\x89PNG\r\n\x1a\n", 24

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
    bits = max(_largest_value(split, int(index)) for index in chosen).bit_length()
    if not 0 < bits < _EXPECTED_BITS:
        return ()
    limit = 2 ** bits
    note = (f"The PNG images have 16 bits, of which only the lower {bits} are used (values below {limit:,}). The upper "
            "8 are read, so the images are almost black. Stretch the values first")
    if not isinstance(split, datasets.ImageFiles):
        return (f"{note}: multiply them by {2 ** 16 // limit}.",)
    command = _STRETCH.format(limit=limit, factor=2 ** 16 // limit, directory=shlex.quote(directory))
    return (f"{note}, in a copy of the directory:\n{command}",)


def _largest_value(split: datasets.ImageSource, index: int) -> int:
    """Returns the largest value of a 16-bit PNG image, and 0 for any other image."""
    try:
        image_bytes = split.image_bytes(index)
        if not image_bytes.startswith(_SIGNATURE) or image_bytes[_BIT_DEPTH_OFFSET:_BIT_DEPTH_OFFSET + 1] != b"\x10":
            return 0
        image_headers.image_shape(tf.constant(image_bytes))
        return int(tf.reduce_max(tf.io.decode_png(image_bytes, dtype=tf.uint16)))
    except (OSError, tf.errors.OpError):  # It will be reported when it is its turn.
        return 0
