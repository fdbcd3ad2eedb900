"""What the served graph looks at before it decodes an image: size, scans, EXIF orientation, and whether it is whole.

A server has no Python, so that this works on the bytes alone, with TensorFlow's own string operations. What comes out
is what `data.plain_images` makes of the same image in Python.
"""

from collections.abc import Callable

import tensorflow as tf

from alexnet_tf.data import preprocessing
from alexnet_tf.data.plain_images import MAX_PIXELS, MAX_SCANS

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"

# Where a walk through the segments or chunks ends at the latest.
_MAX_SEGMENTS = 2000

# Two ways to go on after the last byte of a file; in entropy-coded data a byte 0xff is followed by a zero.
_PADDINGS = (b"\x00" * 64, b"\xff\x00" * 64)


def square(image_bytes: tf.Tensor, resize: str, max_pixels: int = MAX_PIXELS) -> tf.Tensor:
    """Decodes a JPEG or PNG to the square that evaluation uses, uint8 [256, 256, 3], RGB, upright.

    Args:
        image_bytes: string [].
        resize: As in `preprocessing.square`.
        max_pixels: A header that declares more is refused before anything is decoded.

    Raises:
        tf.errors.InvalidArgumentError: If the bytes are not a readable image, or it has too many pixels or scans.
    """
    image_bytes = _check_header(image_bytes, max_pixels)
    image_bytes, exif = tf.cond(
        tf.io.is_jpeg(image_bytes), lambda: _inspect_jpeg(image_bytes), lambda: (image_bytes, _find_exif(image_bytes))
    )
    orientation = tf.cond(exif > 0, lambda: _orientation(image_bytes, exif), lambda: 1)
    return tf.cond(
        orientation == 1,
        lambda: preprocessing.square(image_bytes, resize),
        lambda: preprocessing.square_of(_turn_upright(preprocessing.decode(image_bytes), orientation), resize),
    )


def _check_header(image_bytes: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Returns a JPEG or PNG bound to a check of its height and width, which orders the decoder after the check."""

    def png_shape() -> tf.Tensor:  # IHDR is always the first chunk: big-endian width and height at bytes 16 and 20.
        length = tf.strings.length(image_bytes)
        is_png = (tf.strings.substr(image_bytes, 0, 8) == _PNG_SIGNATURE) & (length >= 24)
        header = checked(image_bytes, is_png, ["neither a JPEG nor a PNG image; it has", length, "bytes"])
        return tf.ensure_shape(tf.io.decode_raw(tf.strings.substr(header, 16, 8), tf.int32, False), [2])[::-1]

    shape = tf.cond(tf.io.is_jpeg(image_bytes), lambda: tf.io.extract_jpeg_shape(image_bytes)[:2], png_shape)
    is_right = tf.reduce_all(shape > 0) & (tf.reduce_prod(tf.cast(shape, tf.int64)) <= max_pixels)
    limit = f"pixels; at most {max_pixels / 1e6:g} megapixels are read"
    return checked(image_bytes, is_right, ["the header declares", shape[1], "x", shape[0], limit])


def checked(value: tf.Tensor, is_right: tf.Tensor, message: list) -> tf.Tensor:
    """Returns a graph's value bound to a check, which fails with INVALID_ARGUMENT and the message."""
    with tf.control_dependencies([tf.debugging.Assert(is_right, message, summarize=8)]):
        return tf.identity(value)


def _inspect_jpeg(image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns a JPEG, complete, and where EXIF's data begins, or 0."""
    scan, exif = _walk(image_bytes, _jpeg_step, 2)
    rest = tf.strings.substr(image_bytes, scan + 2, tf.strings.length(image_bytes))
    # The header of the only scan of three components, from its length on, ends in 0, 63 and 0.
    header = tf.io.decode_raw(tf.strings.substr(rest, 0, 12), tf.uint8, fixed_length=12)
    is_single = tf.reduce_all(tf.gather(header, [1, 2, 9, 10]) == tf.constant([12, 3, 0, 63], tf.uint8))
    # In entropy-coded data the marker cannot occur by chance.
    count = tf.size(tf.raw_ops.StringSplitV2(input=rest[None], sep=_START_OF_SCAN, maxsplit=-1).values)
    scans = tf.where(is_single, 1, count)
    image_bytes = checked(
        image_bytes, scans <= MAX_SCANS, ["the JPEG has", scans, f"scans; at most {MAX_SCANS} are read"]
    )
    has_end = tf.strings.substr(image_bytes, -2, 2) == _END_OF_IMAGE
    return tf.cond(has_end, lambda: image_bytes, lambda: _with_end(image_bytes)), exif


def _with_end(image_bytes: tf.Tensor) -> tf.Tensor:
    """Appends the end marker to a JPEG that has none in its place, if no pixel is missing: as `plain_images` does."""
    start = tf.strings.regex_replace(image_bytes, r"\x00{16,}$", "")
    start = tf.strings.regex_replace(start, r"\xff$", "")
    first, second = (preprocessing.decode(tf.strings.join([start, each, _END_OF_IMAGE])) for each in _PADDINGS)
    return checked(
        tf.strings.join([start, _END_OF_IMAGE]), tf.reduce_all(first == second), ["the image data is cut short"]
    )


def _walk(image_bytes: tf.Tensor, step: Callable, start: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Walks through segments or chunks; returns the position of the last one and where EXIF's data begins, or 0.

    Args:
        image_bytes: string [].
        step: Function of (image_bytes, position) -> (the next position, where EXIF's data begins here or 0, whether
            this is the last).
        start: First position.
    """

    def body(position: tf.Tensor, exif: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        following, found, is_last = step(image_bytes, position)
        is_last |= (following + 12 > tf.strings.length(image_bytes)) | (following < position)
        return tf.where(is_last, position, following), tf.where(exif > 0, exif, found), is_last

    is_done = tf.strings.length(image_bytes) < 20
    position, exif, _ = tf.while_loop(
        lambda position, exif, is_done: tf.logical_not(is_done),
        body,
        (tf.constant(start), tf.constant(0), is_done),
        maximum_iterations=_MAX_SEGMENTS,
        parallel_iterations=1,
    )
    return position, exif


def _jpeg_step(image_bytes: tf.Tensor, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    words = tf.strings.substr(image_bytes, position, 4)
    marker, size = tf.unstack(tf.cast(tf.io.decode_raw(words, tf.uint16, False, fixed_length=4), tf.int32), 2)
    is_exif = (marker == 0xFFE1) & (tf.strings.substr(image_bytes, position + 4, 6) == b"Exif\0\0")
    following = position + tf.where(marker == 0xFFFF, 1, 2 + size)  # Markers may be preceded by bytes 0xff.
    return following, tf.where(is_exif, position + 10, 0), (marker == 0xFFDA) | (marker < 0xFF00)


def _find_exif(image_bytes: tf.Tensor) -> tf.Tensor:
    """Returns where the data of a PNG's EXIF chunk begins, or 0; it is looked for before the image's data."""

    def step(image_bytes: tf.Tensor, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        size = tf.io.decode_raw(tf.strings.substr(image_bytes, position, 4), tf.int32, False, fixed_length=4)[0]
        kind = tf.strings.substr(image_bytes, position + 4, 4)
        is_exif = kind == b"eXIf"
        return position + 12 + size, tf.where(is_exif, position + 8, 0), is_exif | (kind == b"IDAT") | (size < 0)

    return _walk(image_bytes, step, 8)[1]


def _orientation(image_bytes: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Returns the orientation that EXIF data states, which is a TIFF file without pixels; 1 where it states none."""
    tiff = tf.strings.substr(image_bytes, start, 65_535)
    length, byte_order = tf.strings.length(tiff), tf.strings.substr(tiff, 0, 4)
    is_little_endian = byte_order == b"II*\0"

    def words(start: tf.Tensor | int, size: tf.Tensor | int) -> tf.Tensor:
        """Reads numbers of two bytes, int32."""
        content = tf.strings.substr(tiff, start, size)
        values = tf.cast(tf.io.decode_raw(content, tf.uint16, little_endian=False), tf.int32)
        return tf.where(is_little_endian, values % 256 * 256 + values // 256, values)

    def read() -> tf.Tensor:
        high_low = tf.where(is_little_endian, [1, 65_536], [65_536, 1])
        directory = tf.reduce_sum(words(4, 4) * high_low)
        directory = tf.where((directory > 0) & (directory < length - 2), directory, 4)
        # An entry is tag, type, count (32 bits) and value (32 bits, a short value in the first half).
        size = tf.minimum(12 * words(directory, 2)[0], (length - directory - 2) // 12 * 12)
        entries = tf.reshape(words(directory + 2, size), [-1, 6])
        is_second_half = (entries[:, 1] == 4) & tf.logical_not(is_little_endian)
        numbers = tf.where(is_second_half, entries[:, 5], entries[:, 4])
        return tf.concat([[1], tf.boolean_mask(numbers, entries[:, 0] == 0x0112)], 0)[-1]

    is_tiff = (length >= 8) & (is_little_endian | (byte_order == b"MM\0*"))
    orientation = tf.cond(is_tiff, read, lambda: 1)
    return tf.where((orientation >= 1) & (orientation <= 8), orientation, 1)


def _turn_upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns a stored image, [height, width, channels], upright according to EXIF's orientation."""
    is_flipped = [tf.reduce_any(orientation == axis) for axis in ([3, 4, 6, 7], [2, 3, 7, 8])]
    image = tf.reverse(image, tf.boolean_mask([0, 1], tf.stack(is_flipped)))
    return tf.cond(orientation > 4, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
