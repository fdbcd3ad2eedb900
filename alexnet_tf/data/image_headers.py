"""The header of an encoded image, read in the graph: its size, its EXIF orientation, and whether it is whole.

Everything here works on the bytes alone, with TensorFlow's own string operations, so that training, evaluation,
`prepare`, `predict` and the exported SavedModel treat an image alike. An ordinary JPEG (no EXIF, few scans) is
recognised by a few comparisons; only the others have their segments walked.
"""

import struct
import typing
from collections.abc import Callable

import tensorflow as tf

# A header that declares more is refused before anything is decoded; a 30,000 x 30,000 image would take 2.7 GB.
MAX_PIXELS = 100_000_000

# A progressive JPEG usually has about ten scans, each of which passes over the whole image; a thousand take minutes.
MAX_SCANS = 32

# Pillow's, OpenCV's and so Caffe's and torchvision's: the same pixels to the bit, at the same speed. TensorFlow's
# default differs from them by one grey level on average and 24 at most.
DCT_METHOD = "INTEGER_ACCURATE"

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"

# Where a walk through the segments ends at the latest.
_MAX_SEGMENTS = 2000

# Tables, restart interval, application data and comments.
_TABLES_AND_COMMENTS = {0xFFC4, 0xFFDB, 0xFFDD, 0xFFFE, *range(0xFFE0, 0xFFF0)}

# Two ways to go on after the last byte of a file; in entropy-coded data a byte 0xff is followed by a zero.
_PADDINGS = (b"\x00" * 64, b"\xff\x00" * 64)


def rarely_called(function: Callable[..., typing.Any]) -> Callable[..., typing.Any]:
    """Makes a function one operation of the graph that calls it.

    Where a branch is not taken, each of its operations still costs about a microsecond, and those that turn an image
    or walk through its segments are hundreds.
    """
    return tf.function(function, autograph=False, experimental_attributes={"_noinline": True}, reduce_retracing=True)


def image_shape(image_bytes: tf.Tensor) -> tf.Tensor:
    """Reads height and width from the header of a JPEG or PNG, without decoding it.

    They are those of the stored pixels: an EXIF orientation above 4 swaps them.

    Args:
        image_bytes: string [], an encoded image.

    Returns:
        int32 [2]: height and width, in pixels.

    Raises:
        tf.errors.InvalidArgumentError: If the bytes are neither JPEG nor PNG, the header is broken, or it declares
            more than `MAX_PIXELS`.
    """

    def png_shape() -> tf.Tensor:  # IHDR is always the first chunk: big-endian width and height at bytes 16 and 20.
        length = tf.strings.length(image_bytes)
        is_png = (tf.strings.substr(image_bytes, 0, 8) == _PNG_SIGNATURE) & (length >= 24)
        check = tf.debugging.Assert(is_png, ["neither a JPEG nor a PNG image; it has", length, "bytes"])
        with tf.control_dependencies([check] if check is not None else []):
            header = tf.strings.substr(image_bytes, 16, 8)
        return tf.ensure_shape(tf.io.decode_raw(header, tf.int32, False), [2])[::-1]

    shape = tf.cond(tf.io.is_jpeg(image_bytes), lambda: tf.io.extract_jpeg_shape(image_bytes)[:2], png_shape)
    pixels = tf.reduce_prod(tf.cast(shape, tf.int64))
    check = tf.debugging.Assert(
        tf.reduce_all(shape > 0) & (pixels <= MAX_PIXELS),
        ["the header declares", shape[1], "x", shape[0], f"pixels; at most {MAX_PIXELS:,} are read"],
    )
    with tf.control_dependencies([check] if check is not None else []):
        return tf.ensure_shape(tf.identity(shape), [2])


def inspect_header(image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Checks the header of an image, and completes a JPEG that lacks only its end marker.

    Args:
        image_bytes: string [], an encoded image.

    Returns:
        (image_bytes string [], complete; shape int32 [2], the stored height and width; orientation int32 [], EXIF's,
        1 to 8, where 1 is upright).

    Raises:
        tf.errors.InvalidArgumentError: As `image_shape`; also if a JPEG has more than `MAX_SCANS` scans, or is cut.
    """
    shape = image_shape(image_bytes)
    with tf.control_dependencies([shape]):  # In a graph nothing else orders the decoder after the check.
        image_bytes = tf.identity(image_bytes)
    is_jpeg = tf.io.is_jpeg(image_bytes)
    is_plain = tf.cond(is_jpeg, lambda: _is_ordinary_jpeg(image_bytes), lambda: _is_ordinary_png(image_bytes))
    image_bytes, orientation = tf.cond(
        is_plain, lambda: (image_bytes, tf.constant(1)), lambda: _inspect_unusual(image_bytes, shape)
    )
    return image_bytes, shape, orientation


def ordinary_shape(image_bytes: bytes) -> tuple[int, int]:
    """Returns height and width of a JPEG for which `inspect_header` finds nothing to do, else (0, 0).

    That is one that is upright, has a single scan of all components, its end marker and a permitted size. In Python it
    takes microseconds and in the graph more than ten times as long: where training reads files anyway, it skips the
    graph's look.
    """
    if image_bytes[:3] != b"\xff\xd8\xff" or image_bytes[-2:] != _END_OF_IMAGE:
        return 0, 0
    position, height, width, components = 2, 0, 0, 0
    try:
        for _ in range(_MAX_SEGMENTS):
            marker, size = struct.unpack_from(">HH", image_bytes, position)
            if marker == 0xFFDA:
                scanned = image_bytes[position + 4]
                is_single = scanned == components and image_bytes[position + 5 + 2 * scanned :][:2] == b"\x00\x3f"
                return (height, width) if is_single and 0 < height * width <= MAX_PIXELS else (0, 0)
            if marker in (0xFFC0, 0xFFC1):  # Sequential; a progressive image has several scans.
                height, width, components = struct.unpack_from(">HHB", image_bytes, position + 5)
            elif marker == 0xFFE1:
                if not _is_upright(image_bytes[position + 4 : position + 2 + size]):
                    break
            elif marker not in _TABLES_AND_COMMENTS:
                break
            position += 2 + size
    except (struct.error, IndexError):
        pass
    return 0, 0


def _is_upright(segment: bytes) -> bool:
    """Returns whether an APP1 segment surely leaves the image upright; in doubt, `inspect_header` decides."""
    if segment[:6] != b"Exif\0\0":
        return True
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(segment[6:10])
    if order is None:
        return False
    [directory] = struct.unpack_from(order + "I", segment, 10)
    [count] = struct.unpack_from(order + "H", segment, 6 + directory)
    for number in range(count):
        tag, kind, _, value = struct.unpack_from(order + "HHIH", segment, 8 + directory + 12 * number)
        if tag == 0x0112 and (kind, value) != (3, 1):
            return False
    return True


def _is_ordinary_jpeg(image_bytes: tf.Tensor) -> tf.Tensor:
    """Returns whether a JPEG surely is upright, has few scans, and its end: two passes over its bytes, no walk.

    What looks like EXIF or like a scan may be a part of something else, such as a thumbnail: a walk decides then.
    """
    has_end = tf.strings.substr(image_bytes, tf.where(tf.strings.length(image_bytes) > 2, -2, 0), 2) == _END_OF_IMAGE
    return has_end & (_count(image_bytes, _START_OF_SCAN) <= MAX_SCANS) & (_count(image_bytes, b"Exif\0\0") == 0)


def _count(text: tf.Tensor, part: bytes) -> tf.Tensor:
    """Returns how often a text contains a part."""
    return tf.size(tf.raw_ops.StringSplitV2(input=text[None], sep=part, maxsplit=-1).values) - 1


def _is_ordinary_png(image_bytes: tf.Tensor) -> tf.Tensor:
    """Returns whether the second chunk of a PNG, behind 8 + 25 bytes, is the image's data: no EXIF comes before."""
    return tf.strings.substr(tf.strings.substr(image_bytes, 0, 41), -4, 4) == b"IDAT"


def _is_single_scan(scan_header: tf.Tensor) -> tf.Tensor:
    """Returns whether a scan's header, from its length on, is that of a sequential scan of three components.

    The last three bytes are 0, 63 and 0 then; the first scan of a progressive image ends in 0, 0. A grey image has one
    component, and its further scans would have one too: their number is counted.
    """
    content = tf.io.decode_raw(scan_header, tf.uint8, fixed_length=12)
    return tf.reduce_all(tf.gather(content, [1, 2, 9, 10]) == tf.constant([12, 3, 0, 63], tf.uint8))


@rarely_called
def _inspect_unusual(image_bytes: tf.Tensor, shape: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns an image, complete, and its orientation: for all that are not ordinary."""
    image_bytes, exif = tf.cond(
        tf.io.is_jpeg(image_bytes),
        lambda: _inspect_jpeg(image_bytes, shape),
        lambda: (image_bytes, _find_png_exif(image_bytes)),
    )
    return image_bytes, tf.cond(exif > 0, lambda: _exif_orientation(image_bytes, exif), lambda: 1)


def _inspect_jpeg(image_bytes: tf.Tensor, shape: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns a JPEG, complete, and where EXIF's data begins, or 0: for all that are not `_is_ordinary_jpeg`."""
    scan, exif = _walk_segments(image_bytes)
    scans = tf.cond(
        _is_single_scan(tf.strings.substr(image_bytes, scan, 12)), lambda: 1, lambda: _count_scans(image_bytes, scan)
    )
    check = tf.debugging.Assert(scans <= MAX_SCANS, ["the JPEG has", scans, f"scans; at most {MAX_SCANS} are read"])
    with tf.control_dependencies([check] if check is not None else []):
        image_bytes = tf.identity(image_bytes)
    has_end = tf.strings.substr(image_bytes, -2, 2) == _END_OF_IMAGE
    return tf.cond(has_end, lambda: image_bytes, lambda: _with_end(image_bytes, shape)), exif


def _count_scans(image_bytes: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Counts the scans of a JPEG; in entropy-coded data the marker cannot occur by chance."""
    return 1 + _count(tf.strings.substr(image_bytes, start, tf.strings.length(image_bytes)), _START_OF_SCAN)


def _walk_segments(image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns where the header of the first scan begins after its marker, and where EXIF's data begins, or 0."""
    length = tf.strings.length(image_bytes)

    def is_before_scan(position: tf.Tensor, exif: tf.Tensor, is_done: tf.Tensor) -> tf.Tensor:
        return tf.logical_not(is_done)

    def step(position: tf.Tensor, exif: tf.Tensor, is_done: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        words = tf.cast(
            tf.io.decode_raw(
                tf.strings.substr(image_bytes, position, 4), tf.uint16, little_endian=False, fixed_length=4
            ),
            tf.int32,
        )
        marker, size = words[0], words[1]
        is_exif = (marker == 0xFFE1) & (exif == 0) & (tf.strings.substr(image_bytes, position + 4, 6) == b"Exif\0\0")
        following = position + tf.where(marker == 0xFFFF, 1, 2 + size)  # Markers may be preceded by bytes 0xff.
        is_scan = (marker == 0xFFDA) | (following + 12 > length) | (marker < 0xFF00)
        return tf.where(is_scan, position + 2, following), tf.where(is_exif, position + 10, exif), is_scan

    position, exif, _ = tf.while_loop(
        is_before_scan,
        step,
        (tf.constant(2), tf.constant(0), length < 16),
        maximum_iterations=_MAX_SEGMENTS,
        parallel_iterations=1,
    )
    return position, exif


def _find_png_exif(image_bytes: tf.Tensor) -> tf.Tensor:
    """Returns where the data of a PNG's EXIF chunk begins, or 0; it is looked for before the image's data."""
    length = tf.strings.length(image_bytes)

    def step(position: tf.Tensor, exif: tf.Tensor, is_done: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        [size] = tf.unstack(
            tf.io.decode_raw(
                tf.strings.substr(image_bytes, position, 4), tf.int32, little_endian=False, fixed_length=4
            ),
            1,
        )
        kind = tf.strings.substr(image_bytes, position + 4, 4)
        is_exif = kind == b"eXIf"
        following = position + 12 + size
        is_over = is_exif | (kind == b"IDAT") | (size < 0) | (following + 12 > length) | (following < position)
        return tf.where(is_over, position, following), tf.where(is_exif, position + 8, exif), is_over

    _, exif, _ = tf.while_loop(
        lambda position, exif, is_done: tf.logical_not(is_done),
        step,
        (tf.constant(8), tf.constant(0), length < 20),
        maximum_iterations=_MAX_SEGMENTS,
        parallel_iterations=1,
    )
    return tf.where(exif < length, exif, 0)


def _with_end(image_bytes: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Appends the end marker to a JPEG that has none in its place, if no pixel is missing.

    The decoder takes an end marker in the middle of an image for granted and leaves the rest grey. So the image is
    decoded with two different continuations: where all pixels are there, these change nothing.
    """
    start = tf.strings.regex_replace(image_bytes, r"\x00{16,}$", "")  # Never written, or after the end marker.
    start = tf.cond(
        tf.strings.substr(start, -1, 1) == b"\xff",
        lambda: tf.strings.substr(start, 0, tf.strings.length(start) - 1),
        lambda: start,
    )
    window = tf.concat([[0, 0], shape], 0)
    first, second = (
        tf.io.decode_and_crop_jpeg(
            tf.strings.join([start, padding, _END_OF_IMAGE]), window, channels=3, dct_method=DCT_METHOD
        )
        for padding in _PADDINGS
    )
    check = tf.debugging.Assert(tf.reduce_all(first == second), ["the image data is cut short"])
    with tf.control_dependencies([check] if check is not None else []):
        return tf.strings.join([start, _END_OF_IMAGE])


def _exif_orientation(image_bytes: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
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


def stored_window(window: tf.Tensor, shape: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Returns where a window of the upright image lies in the stored one.

    Args:
        window: int32 [4], top, left, height and width in the upright image.
        shape: int32 [2], height and width of the stored image.
        orientation: int32 [], EXIF's.

    Returns:
        int32 [4], top, left, height and width in the stored image.
    """
    top, left, height, width = tf.unstack(tf.where(orientation > 4, tf.gather(window, [1, 0, 3, 2]), window))
    is_flipped_down = _is_one_of(orientation, (3, 4, 6, 7))
    is_flipped_across = _is_one_of(orientation, (2, 3, 7, 8))
    return tf.stack(
        [
            tf.where(is_flipped_down, shape[0] - top - height, top),
            tf.where(is_flipped_across, shape[1] - left - width, left),
            height,
            width,
        ]
    )


def turn_upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns a stored image, [height, width, channels], upright according to EXIF's orientation."""
    image = tf.reverse(
        image,
        tf.boolean_mask(
            [0, 1], tf.stack([_is_one_of(orientation, (3, 4, 6, 7)), _is_one_of(orientation, (2, 3, 7, 8))])
        ),
    )
    return tf.cond(orientation > 4, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)


def upright_shape(shape: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Returns height and width of the upright image, int32 [2], from those of the stored one."""
    return tf.cond(orientation > 4, lambda: tf.reverse(shape, [0]), lambda: shape)


def _is_one_of(orientation: tf.Tensor, values: tuple[int, ...]) -> tf.Tensor:
    return tf.reduce_any(orientation == tf.constant(values))
