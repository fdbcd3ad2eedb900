"""PNG images of 16 bits that use only some of them: read with 8 bits, they are almost black.

Microscopes, X-ray machines and depth cameras store 10 to 14 bits in files of 16. A decoder to 8 bits keeps the upper
half, and little of such an image is left.
"""

import logging
import struct
import threading

import tensorflow as tf

from alexnet_tf.data import plain_images

_LOGGER = logging.getLogger(__name__)

# A larger image is not looked at: the decoder takes up to 8 bytes for each of its pixels.
_MAX_PIXELS = 30_000_000

# Images that are looked at, and the bits that an ordinary set of 16-bit images uses at least.
_SAMPLES, _EXPECTED_BITS = 16, 15


class Watch:
    """Looks out for such images among those that are read one after another, such as `predict`'s."""

    def __init__(self) -> None:
        self._largest: list[int] = []
        self._lock = threading.Lock()

    def look(self, path: str, image_bytes: bytes) -> None:
        """Looks at an image, if it is one of the first few of 16 bits; several threads may do so at a time."""
        if plain_images.is_ordinary(image_bytes) and image_bytes[12:16] == b"IHDR" and image_bytes[24] == 16:
            with self._lock:  # One at a time is decoded.
                width, height = struct.unpack_from(">II", image_bytes, 16)
                if len(self._largest) < _SAMPLES and width * height <= _MAX_PIXELS:
                    self._largest.append(_largest_value(image_bytes))

    def notes(self) -> tuple[str, ...]:
        """Returns a note where the largest value of all is small."""
        bits = max(self._largest, default=0).bit_length()
        if not 0 < bits < _EXPECTED_BITS:
            return ()
        return (
            f"The PNG images have 16 bits, of which only the lower {bits} are used (values below {2**bits:,}). The "
            "upper 8 are read, so the images are almost black. Stretch the values first: multiply them by "
            f"{2 ** (16 - bits)}.",
        )

    def report(self) -> None:
        """Says, if there were such images, what to do."""
        for note in self.notes():
            _LOGGER.warning(f"{note}\nThe factor must be that of the training images.")


def _largest_value(image_bytes: bytes) -> int:
    """Returns the largest value of a 16-bit PNG; 0 if it cannot be read, which is reported elsewhere."""
    try:
        return int(tf.reduce_max(tf.io.decode_png(image_bytes, dtype=tf.uint16)))
    except tf.errors.OpError:
        return 0
