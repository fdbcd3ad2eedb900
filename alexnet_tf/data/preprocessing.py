"""One image at a time, from encoded bytes to the pixels that the network sees. Pure functions, eager or in a graph.

Every image is first seen as a square of 256 x 256 pixels (Section 2): its shorter side is scaled to 256 and the centre
kept, or, as Caffe did, the whole is warped. Crops are windows of that square, so that an original and a record
prepared at 256 pixels give the same windows. Pixels are uint8 RGB until something makes them float. Only ordinary JPEG
and PNG images come here: see `plain_images`.
"""

import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from alexnet_tf.data import augmentations, plain_images
from alexnet_tf.network import architectures

# Pillow's, OpenCV's and so Caffe's and torchvision's: the same pixels to the bit, at the same speed. TensorFlow's
# default differs from them by one grey level on average and 24 at most.
DCT_METHOD = "INTEGER_ACCURATE"

# From an image's shape to the (begin, extent) of a random crop.
_Draw = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def decode(image_bytes: tf.Tensor) -> tf.Tensor:
    """Decodes a whole JPEG or PNG, uint8 [height, width, 3], as it is stored; finds damage anywhere."""
    return tf.cond(
        tf.io.is_jpeg(image_bytes),
        lambda: tf.io.decode_jpeg(image_bytes, channels=3, dct_method=DCT_METHOD),
        lambda: tf.io.decode_png(image_bytes, channels=3),
    )


def _region(shape: tf.Tensor, resize: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns (begin, extent), float32 [2], of the part of an image that becomes the square."""
    shape = tf.cast(shape, tf.float32)
    if resize == "caffe":
        return tf.zeros([2]), shape
    side = tf.reduce_min(shape)
    return tf.floor((shape - side) / 2), tf.stack([side, side])


def _decode_jpeg_window(image_bytes: tf.Tensor, window: tf.Tensor, ratio: int = 1) -> tf.Tensor:
    """Decodes a window of a JPEG, int32 [top, left, height, width], both scaled by 1 / ratio, without the rest."""
    return tf.io.decode_and_crop_jpeg(image_bytes, window, channels=3, ratio=ratio, dct_method=DCT_METHOD)


def _window_of(image: tf.Tensor, begin: tf.Tensor, extent: tf.Tensor) -> tf.Tensor:
    """Returns a window of a decoded image; begin and extent are int32 [2]."""
    return tf.slice(image, tf.concat([begin, [0]], 0), tf.concat([extent, [3]], 0))


def _resize(image: tf.Tensor, size: int, antialias: bool) -> tf.Tensor:
    """Resizes to uint8 [size, size, 3], bilinear; an image of that size already is left alone."""

    def resized() -> tf.Tensor:  # Half is added to round: tf.round would be another pass over the pixels.
        return tf.cast(tf.image.resize(image, [size, size], antialias=antialias) + 0.5, tf.uint8)

    is_done = tf.reduce_all(tf.shape(image)[:2] == size)
    return tf.ensure_shape(tf.cond(is_done, lambda: image, resized), [size, size, 3])


def square(image_bytes: tf.Tensor, resize: str = "paper", is_square: bool = False) -> tf.Tensor:
    """Decodes an image to the 256 x 256 square that evaluation, export and prepared records share.

    Args:
        image_bytes: string [], ordinary JPEG or PNG; grey, colour, CMYK, with or without alpha (which is dropped).
        resize: "paper": shorter side to 256 and the centre; "caffe": the whole image warped.
        is_square: Whether the image is known to be a JPEG of 256 x 256 pixels, as prepared records are: it is decoded
            and nothing else.

    Returns:
        uint8 [256, 256, 3], RGB; antialiased where the image was larger.

    Raises:
        tf.errors.InvalidArgumentError: If the bytes are not a readable image.
    """
    if is_square:
        image = tf.io.decode_jpeg(image_bytes, channels=3, dct_method=DCT_METHOD)
        return tf.ensure_shape(image, [architectures.SQUARE_SIZE, architectures.SQUARE_SIZE, 3])
    return tf.cond(
        tf.io.is_jpeg(image_bytes),
        lambda: _square_jpeg(image_bytes, resize),
        lambda: square_of(tf.io.decode_png(image_bytes, channels=3), resize),
    )


def _square_jpeg(image_bytes: tf.Tensor, resize: str) -> tf.Tensor:
    region = _region(tf.io.extract_jpeg_shape(image_bytes)[:2], resize)
    window = tf.cast(tf.concat(region, 0), tf.int32)
    return _resize(_decode_jpeg_window(image_bytes, window), architectures.SQUARE_SIZE, antialias=True)


def square_of(image: tf.Tensor, resize: str = "paper") -> tf.Tensor:
    """Brings a decoded image, uint8 [height, width, 3], to the square as `square` does with an encoded one."""
    begin, extent = (tf.cast(each, tf.int32) for each in _region(tf.shape(image)[:2], resize))
    return _resize(_window_of(image, begin, extent), architectures.SQUARE_SIZE, antialias=True)


def center_crop(square_image: tf.Tensor, size: int) -> tf.Tensor:
    """Returns the centre of a square, [size, size, 3]; offsets round down, as Caffe's."""
    start = (architectures.SQUARE_SIZE - size) // 2
    return square_image[start : start + size, start : start + size]


def ten_crops(square_image: tf.Tensor, size: int) -> tf.Tensor:
    """Returns the four corners, the centre and their mirror images (Section 4.1), [10, size, size, 3]."""
    last = architectures.SQUARE_SIZE - size
    corners = [square_image[y : y + size, x : x + size] for y in (0, last) for x in (0, last)]
    crops = tf.stack(corners + [center_crop(square_image, size)])
    return tf.concat([crops, crops[:, :, ::-1]], axis=0)


def train_image(
    image_bytes: tf.Tensor,
    seeds: tf.Tensor,
    *,
    image_size: int,
    crop: str = "window",
    augment_with: Sequence[str] = ("mirror",),
    resize: str = "paper",
    is_square: bool = False,
) -> tf.Tensor:
    """Decodes a random crop of an image and augments it. The same seeds give the same pixels.

    Args:
        image_bytes: string [], ordinary JPEG or PNG.
        seeds: int32 [1 + number of augmentations, 2]: of the crop, and of each augmentation.
        image_size: Side of the crop in pixels.
        crop: A key of `augmentations.CROPS`.
        augment_with: As for `augmentations.parse`.
        resize: As in `square`.
        is_square: As in `square`; a window is not resized then.

    Returns:
        uint8 [image_size, image_size, 3], RGB.
    """
    if is_square and crop == "window":
        window = tf.concat([augmentations.window_offsets(seeds[0], image_size), [image_size, image_size]], 0)
        image = _decode_jpeg_window(image_bytes, window)
    else:

        def draw(shape: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return augmentations.CROPS[crop](shape, _region(shape, resize), seeds[0], image_size)

        image = tf.cond(
            tf.io.is_jpeg(image_bytes),
            lambda: _crop_jpeg(image_bytes, draw, image_size),
            lambda: _crop_png(image_bytes, draw, image_size),
        )
    return augmentations.augment(tf.ensure_shape(image, [image_size, image_size, 3]), seeds[1:], augment_with)


def _whole_pixels(shape: tf.Tensor, begin: tf.Tensor, extent: tf.Tensor) -> tf.Tensor:
    """Returns a window rounded to whole pixels inside an image of `shape`, int32 [4]."""
    extent = tf.clip_by_value(tf.cast(tf.round(extent), tf.int32), 1, shape)
    return tf.concat([tf.minimum(tf.cast(tf.round(begin), tf.int32), shape - extent), extent], 0)


def _crop_jpeg(image_bytes: tf.Tensor, draw: _Draw, size: int) -> tf.Tensor:
    """Decodes a random crop to [size, size, 3]; the decoder halves large ones, which also antialiases."""
    shape = tf.io.extract_jpeg_shape(image_bytes)[:2]
    begin, extent = draw(shape)
    # A branch for each ratio, which is an attribute of the decoder; all else is there once.
    halvings = tf.reduce_sum(tf.cast(tf.reduce_min(extent) >= [1.999 * size, 3.999 * size, 7.999 * size], tf.int32))
    ratios = (1, 2, 4, 8)
    ratio = tf.gather(ratios, halvings)
    divisor = tf.cast(ratio, tf.float32)
    window = _whole_pixels((shape + ratio - 1) // ratio, begin / divisor, extent / divisor)
    image = tf.switch_case(
        halvings, [functools.partial(_decode_jpeg_window, image_bytes, window, each) for each in ratios]
    )
    return _resize(image, size, antialias=False)


def _crop_png(image_bytes: tf.Tensor, draw: _Draw, size: int) -> tf.Tensor:
    image = tf.io.decode_png(image_bytes, channels=3)
    shape = tf.shape(image)[:2]
    window = _whole_pixels(shape, *draw(shape))
    return _resize(_window_of(image, window[:2], window[2:]), size, antialias=True)


# As a graph: step by step it would take several times as long.
_decode = tf.function(decode, autograph=False)


def why_unreadable(image_bytes: bytes) -> str | None:
    """Returns why an image, of any format, cannot be read, in words for a person, or None if it can."""
    try:
        _decode(tf.constant(plain_images.plain(image_bytes)))
    except plain_images.UnreadableImage as error:
        return str(error)
    except tf.errors.OpError:
        return plain_images.DAMAGED
    return None
