"""One image at a time, from encoded bytes to the pixels that the network sees. Pure functions, eager or in a graph.

Every image is first seen as a square of 256 x 256 pixels (Section 2): its shorter side is scaled to 256 and the centre
kept, or, as Caffe did, the whole is warped. Crops are windows of that square, so that an original and a record
prepared at 256 pixels give the same windows. Pixels are uint8 RGB until something makes them float. EXIF rotation is
ignored: TensorFlow cannot read it, and every consumer of the network must see the same picture.
"""

import functools
import re

import tensorflow as tf

from alexnet_tf import architectures

# A header that declares more is refused before anything is decoded; a 30,000 x 30,000 image would take 2.7 GB.
MAX_PIXELS = 100_000_000

# Pillow's, OpenCV's and so Caffe's and torchvision's: the same pixels to the bit, at the same speed. TensorFlow's default
# differs from them by one grey level on average and 24 at most.
DCT_METHOD = "INTEGER_ACCURATE"

# What is said of an image that the decoder refuses.
DAMAGED = "the image data is cut short, damaged or of an unsupported kind"

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def image_shape(image_bytes: tf.Tensor) -> tf.Tensor:
    """Reads height and width from the header of a JPEG or PNG, without decoding it.

    Args:
        image_bytes: string [], an encoded image.

    Returns:
        int32 [2]: height and width, in pixels.

    Raises:
        tf.errors.InvalidArgumentError: If the bytes are neither JPEG nor PNG, the header is broken, or it declares
            more than `MAX_PIXELS`.
    """
    def png_shape():  # IHDR is always the first chunk: big-endian width and height at bytes 16 and 20.
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
        ["the header declares", shape[1], "x", shape[0], f"pixels; at most {MAX_PIXELS:,} are read"])
    with tf.control_dependencies([check] if check is not None else []):
        return tf.ensure_shape(tf.identity(shape), [2])


def _checked(image_bytes):
    """Returns (image_bytes, shape), the bytes bound to the header's check: in a graph nothing else orders them."""
    shape = image_shape(image_bytes)
    with tf.control_dependencies([shape]):
        return tf.identity(image_bytes), shape


def decode(image_bytes: tf.Tensor) -> tf.Tensor:
    """Decodes a whole image, uint8 [height, width, 3]; says more than `square` about a file that is damaged anywhere."""
    image_bytes, shape = _checked(image_bytes)
    return _decode_window(image_bytes, tf.concat([[0, 0], shape], 0))


def _region(shape, resize: str):
    """Returns (begin, extent), float32 [2], of the part of an image that becomes the square."""
    shape = tf.cast(shape, tf.float32)
    if resize == "caffe":
        return tf.zeros([2]), shape
    side = tf.reduce_min(shape)
    return tf.floor((shape - side) / 2), tf.stack([side, side])


def _decode_window(image_bytes, window):
    """Decodes a window [top, left, height, width] (int32 pixels) to uint8; from JPEG without decoding the rest."""
    return tf.cond(
        tf.io.is_jpeg(image_bytes),
        lambda: tf.io.decode_and_crop_jpeg(image_bytes, window, channels=3, dct_method=DCT_METHOD),
        lambda: tf.slice(tf.io.decode_png(image_bytes, channels=3), _with(window[:2], 0), _with(window[2:], 3)))


def _with(pair, third):
    return tf.concat([pair, [third]], 0)


def _resize(image, size: int, antialias: bool):
    """Resizes to uint8 [size, size, 3], bilinear; an image of that size already is left alone."""
    def resized():  # Half is added to round: tf.round would be another pass over the pixels.
        return tf.cast(tf.image.resize(image, [size, size], antialias=antialias) + 0.5, tf.uint8)

    is_done = tf.reduce_all(tf.shape(image)[:2] == size)
    return tf.ensure_shape(tf.cond(is_done, lambda: image, resized), [size, size, 3])


def square(image_bytes: tf.Tensor, resize: str = "paper") -> tf.Tensor:
    """Decodes an image to the 256 x 256 square that evaluation, export and prepared records share.

    Args:
        image_bytes: string [], JPEG or PNG; grey, colour, CMYK, with or without alpha (which is dropped).
        resize: "paper": shorter side to 256 and the centre; "caffe": the whole image warped.

    Returns:
        uint8 [256, 256, 3], RGB; antialiased where the image was larger.

    Raises:
        tf.errors.InvalidArgumentError: If the bytes are no readable image.
    """
    image_bytes, shape = _checked(image_bytes)
    window = tf.cast(tf.concat(_region(shape, resize), 0), tf.int32)
    return _resize(_decode_window(image_bytes, window), architectures.SQUARE_SIZE, antialias=True)


def square_of(image: tf.Tensor, resize: str = "paper") -> tf.Tensor:
    """Brings a decoded image, uint8 [height, width, 3], to the square as `square` does with an encoded one."""
    begin, extent = (tf.cast(each, tf.int32) for each in _region(tf.shape(image)[:2], resize))
    return _resize(tf.slice(image, _with(begin, 0), _with(extent, 3)), architectures.SQUARE_SIZE, antialias=True)


def center_crop(square_image: tf.Tensor, size: int) -> tf.Tensor:
    """Returns the centre of a square, [size, size, 3]; offsets round down, as Caffe's."""
    start = (architectures.SQUARE_SIZE - size) // 2
    return square_image[start:start + size, start:start + size]


def ten_crops(square_image: tf.Tensor, size: int) -> tf.Tensor:
    """Returns the four corners, the centre and their mirror images (Section 4.1), [10, size, size, 3]."""
    last = architectures.SQUARE_SIZE - size
    corners = [square_image[y:y + size, x:x + size] for y in (0, last) for x in (0, last)]
    crops = tf.stack(corners + [center_crop(square_image, size)])
    return tf.concat([crops, crops[:, :, ::-1]], axis=0)


def train_image(
    image_bytes: tf.Tensor, draws: tf.Tensor, *, image_size: int, crop: str = "window", resize: str = "paper",
    is_square: bool = False) -> tf.Tensor:
    """Decodes a random crop of an image and mirrors it half of the time (Section 4.1).

    The same draws give the same pixels.

    Args:
        image_bytes: string [], JPEG or PNG.
        draws: float32 [>= 3], uniform in [0, 1): how far down and to the right the window is, and whether it is
            mirrored (below 0.5).
        image_size: Side of the crop in pixels.
        crop: "window": every offset in the 256 x 256 square, ends included; "random_resized": 8 to 100 % of the
            image's area at an aspect of 3/4 to 4/3.
        resize: As in `square`.
        is_square: Whether the image is known to be a JPEG of 256 x 256 pixels, as prepared records are: nothing is
            looked up or resized then.

    Returns:
        uint8 [image_size, image_size, 3], RGB.
    """
    offsets = tf.cast(draws[:2] * (architectures.SQUARE_SIZE - image_size + 1), tf.int32)
    if is_square and crop == "window":
        window = tf.concat([offsets, [image_size, image_size]], 0)
        image = tf.io.decode_and_crop_jpeg(image_bytes, window, channels=3, dct_method=DCT_METHOD)
        image = tf.ensure_shape(image, [image_size, image_size, 3])
    else:
        image_bytes, shape = _checked(image_bytes)
        if crop == "random_resized":
            begin, extent = _random_resized_window(shape, tf.bitcast(draws[:2], tf.int32))
        else:
            region_begin, region = _region(shape, resize)
            begin = region_begin + tf.cast(offsets, tf.float32) / architectures.SQUARE_SIZE * region
            extent = region * image_size / architectures.SQUARE_SIZE
        image = tf.cond(
            tf.io.is_jpeg(image_bytes), lambda: _crop_jpeg(image_bytes, shape, begin, extent, image_size),
            lambda: _crop_png(image_bytes, shape, begin, extent, image_size))
    # tf.reverse is ten times as fast as a slice with a negative step.
    return tf.cond(draws[2] < 0.5, lambda: tf.reverse(image, [1]), lambda: image)


def colour_noise(normals: tf.Tensor, stdevs, vectors) -> tf.Tensor:
    """Returns the colours that are added to all pixels of each image, float32 [n, 3] in grey levels.

    Section 4.1 multiplies the eigenvectors by a * eigenvalue, a ~ N(0, 0.1); the author's code has the eigenvalue's
    square root, without which the noise would be a thousand grey levels.

    Args:
        normals: float32 [n, 3], standard normal.
        stdevs: Standard deviations of the three colour components, in grey levels.
        vectors: Components as columns, rows R, G, B.
    """
    components = 0.1 * normals * tf.constant(stdevs, tf.float32)
    vectors = tf.constant(vectors, tf.float32)
    # A matrix product would round differently for another n.
    return sum(components[:, i:i + 1] * vectors[:, i] for i in range(3))


def _random_resized_window(shape, seed):
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        _with(shape, 3), tf.zeros([1, 0, 4]), seed, min_object_covered=0.0, aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0), max_attempts=10, use_image_if_no_bounding_boxes=True)
    return tf.cast(begin[:2], tf.float32), tf.cast(size[:2], tf.float32)


def _whole_pixels(shape, begin, extent):
    """Returns a window rounded to whole pixels inside an image of `shape`, int32 [4]."""
    extent = tf.clip_by_value(tf.cast(tf.round(extent), tf.int32), 1, shape)
    return tf.concat([tf.minimum(tf.cast(tf.round(begin), tf.int32), shape - extent), extent], 0)


def _crop_jpeg(image_bytes, shape, begin, extent, size):
    """Decodes a window and resizes it to [size, size, 3]; the decoder halves large ones, which also antialiases."""
    def crop(ratio):
        window = _whole_pixels((shape + ratio - 1) // ratio, begin / ratio, extent / ratio)
        return tf.io.decode_and_crop_jpeg(image_bytes, window, channels=3, ratio=ratio, dct_method=DCT_METHOD)

    halvings = tf.reduce_sum(tf.cast(tf.reduce_min(extent) >= [1.999 * size, 3.999 * size, 7.999 * size], tf.int32))
    image = tf.switch_case(halvings, [functools.partial(crop, ratio) for ratio in (1, 2, 4, 8)])
    return _resize(image, size, antialias=False)


def _crop_png(image_bytes, shape, begin, extent, size):
    window = _whole_pixels(shape, begin, extent)
    return _resize(_decode_window(image_bytes, window), size, antialias=True)


# How files begin that are often named .jpg and are none.
_OTHER_KINDS = (
    (rb"GIF8", "a GIF image"), (rb"RIFF....WEBP", "a WebP image"), (rb"BM....\0\0\0\0", "a BMP image"),
    (rb"II\*\0|MM\0\*", "a TIFF image"), (rb"....ftyp(hei|avi|mif)", "a HEIC or AVIF image"),
    (rb"(\xef\xbb\xbf)?\s*<", "an HTML page or an SVG image"), (rb"version https://git-lfs", "a pointer of Git LFS"))


def why_unreadable(image_bytes: bytes) -> str | None:
    """Returns why an image cannot be read, in words for a person, or None if it can."""
    if not image_bytes:
        return "the file is empty"
    for beginning, kind in _OTHER_KINDS:
        if re.match(beginning, image_bytes, re.DOTALL):
            return f"it is {kind}; JPEG and PNG are read"
    try:
        decode(tf.constant(image_bytes))
    except tf.errors.OpError as error:
        # What our own assertions say; what the decoders say is for programmers.
        _, marker, data = str(error.message or "").partition("Summarized data:")
        if marker:
            return " ".join(re.sub(r"b'|[\[\]'\"]", " ", data.split("[Op:")[0]).split())
        return DAMAGED
    return None
