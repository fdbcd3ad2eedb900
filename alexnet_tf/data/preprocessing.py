"""One image at a time, from encoded bytes to the pixels that the network sees. Pure functions, eager or in a graph.

Every image is first seen as a square of 256 x 256 pixels (Section 2): its shorter side is scaled to 256 and the centre
kept, or, as Caffe did, the whole is warped. Crops are windows of that square, so that an original and a record
prepared at 256 pixels give the same windows. Pixels are uint8 RGB until something makes them float. An EXIF orientation
is applied while decoding, in the graph, so that every consumer of the network sees the same picture.
"""

import functools
import re
from collections.abc import Callable, Sequence

import tensorflow as tf

from alexnet_tf.data import augmentations, image_headers, other_formats
from alexnet_tf.data.image_headers import (
    DCT_METHOD,
    MAX_PIXELS,
    image_shape,
    inspect_header,
    ordinary_shape,
    stored_window,
    turn_upright,
    upright_shape,
)
from alexnet_tf.network import architectures

__all__ = [
    "DAMAGED",
    "DCT_METHOD",
    "MAX_PIXELS",
    "center_crop",
    "decode",
    "image_shape",
    "ordinary_shape",
    "orientation",
    "square",
    "square_of",
    "ten_crops",
    "train_image",
    "why_unreadable",
]

# The reason given for an image that the decoder refuses.
DAMAGED = "the image data is cut short, damaged or of an unsupported kind"


def decode(image_bytes: tf.Tensor) -> tf.Tensor:
    """Decodes a whole image, uint8 [height, width, 3], upright; finds damage anywhere."""
    image_bytes, shape, orientation = inspect_header(image_bytes)
    window = tf.concat([[0, 0], upright_shape(shape, orientation)], 0)
    return _decode_window(image_bytes, window, shape, orientation)


def orientation(image_bytes: tf.Tensor) -> tf.Tensor:
    """Returns the EXIF orientation of an image, int32 [], 1 to 8; 1 is upright."""
    return inspect_header(image_bytes)[2]


def _region(shape: tf.Tensor, resize: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns (begin, extent), float32 [2], of the part of an image that becomes the square."""
    shape = tf.cast(shape, tf.float32)
    if resize == "caffe":
        return tf.zeros([2]), shape
    side = tf.reduce_min(shape)
    return tf.floor((shape - side) / 2), tf.stack([side, side])


def _decode_window(image_bytes: tf.Tensor, window: tf.Tensor, shape: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Decodes a window [top, left, height, width] (int32 pixels) to uint8; from JPEG without decoding the rest."""
    stored = _stored(window, shape, orientation)
    image = tf.cond(
        tf.io.is_jpeg(image_bytes),
        lambda: _decode_jpeg_window(image_bytes, stored),
        lambda: tf.slice(tf.io.decode_png(image_bytes, channels=3), _with(stored[:2], 0), _with(stored[2:], 3)),
    )
    return _upright(image, orientation)


def _decode_jpeg_window(image_bytes: tf.Tensor, window: tf.Tensor, ratio: int = 1) -> tf.Tensor:
    """Decodes a window of the stored image, both scaled by 1 / ratio."""
    return tf.io.decode_and_crop_jpeg(image_bytes, window, channels=3, ratio=ratio, dct_method=DCT_METHOD)


def _stored(window: tf.Tensor, shape: tf.Tensor, orientation: tf.Tensor | None) -> tf.Tensor:
    """Returns where a window of the upright image lies in the stored one; without an orientation, in the same place."""
    if orientation is None:
        return window
    return tf.cond(orientation == 1, lambda: window, lambda: stored_window(window, shape, orientation))


def _upright(image: tf.Tensor, orientation: tf.Tensor | None) -> tf.Tensor:
    if orientation is None:
        return image
    return tf.cond(orientation == 1, lambda: image, lambda: turn_upright(image, orientation))


def _with(pair: tf.Tensor, third: int) -> tf.Tensor:
    return tf.concat([pair, [third]], 0)


def _resize(image: tf.Tensor, size: int, antialias: bool) -> tf.Tensor:
    """Resizes to uint8 [size, size, 3], bilinear; an image of that size already is left alone."""

    def resized() -> tf.Tensor:  # Half is added to round: tf.round would be another pass over the pixels.
        return tf.cast(tf.image.resize(image, [size, size], antialias=antialias) + 0.5, tf.uint8)

    is_done = tf.reduce_all(tf.shape(image)[:2] == size)
    return tf.ensure_shape(tf.cond(is_done, lambda: image, resized), [size, size, 3])


def square(
    image_bytes: tf.Tensor, resize: str = "paper", header: tf.Tensor | None = None, is_square: bool = False
) -> tf.Tensor:
    """Decodes an image to the 256 x 256 square that evaluation, export and prepared records share.

    Args:
        image_bytes: string [], JPEG or PNG; grey, colour, CMYK, with or without alpha (which is dropped).
        resize: "paper": shorter side to 256 and the centre; "caffe": the whole image warped.
        header: int32 [2], what `ordinary_shape` found, if it was asked.
        is_square: Whether the image is known to be a JPEG of 256 x 256 pixels, as prepared records are: it is decoded
            and nothing else.

    Returns:
        uint8 [256, 256, 3], RGB, upright; antialiased where the image was larger.

    Raises:
        tf.errors.InvalidArgumentError: If the bytes are no readable image.
    """
    if is_square:
        image = tf.io.decode_jpeg(image_bytes, channels=3, dct_method=DCT_METHOD)
        return tf.ensure_shape(image, [architectures.SQUARE_SIZE, architectures.SQUARE_SIZE, 3])
    if header is None:
        return _square_any(image_bytes, resize)
    return tf.cond(
        header[0] > 0,
        lambda: _square_ordinary(image_bytes, header, resize),
        lambda: _square_unusual(image_bytes, resize),
    )


def _square_ordinary(image_bytes: tf.Tensor, shape: tf.Tensor, resize: str) -> tf.Tensor:
    """Decodes an upright JPEG of a known shape to the square."""
    window = tf.cast(tf.concat(_region(shape, resize), 0), tf.int32)
    return _resize(_decode_jpeg_window(image_bytes, window), architectures.SQUARE_SIZE, antialias=True)


def _square_any(image_bytes: tf.Tensor, resize: str) -> tf.Tensor:
    """Decodes any image to the square."""
    image_bytes, shape, orientation = inspect_header(image_bytes)
    window = tf.cast(tf.concat(_region(upright_shape(shape, orientation), resize), 0), tf.int32)
    return _resize(_decode_window(image_bytes, window, shape, orientation), architectures.SQUARE_SIZE, antialias=True)


_square_unusual = image_headers.rarely_called(_square_any)


def square_of(image: tf.Tensor, resize: str = "paper") -> tf.Tensor:
    """Brings a decoded image, uint8 [height, width, 3], to the square as `square` does with an encoded one."""
    begin, extent = (tf.cast(each, tf.int32) for each in _region(tf.shape(image)[:2], resize))
    return _resize(tf.slice(image, _with(begin, 0), _with(extent, 3)), architectures.SQUARE_SIZE, antialias=True)


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
    draws: tf.Tensor,
    *,
    image_size: int,
    crop: str = "window",
    augment_with: Sequence[str] = ("mirror",),
    resize: str = "paper",
    is_square: bool = False,
    header: tf.Tensor | None = None,
) -> tf.Tensor:
    """Decodes a random crop of an image and augments it. The same draws give the same pixels.

    Args:
        image_bytes: string [], JPEG or PNG.
        draws: float32 [4 * number of augmentations, at least 4], uniform in [0, 1): see `augmentations`.
        image_size: Side of the crop in pixels.
        crop: A key of `augmentations.CROPS`.
        augment_with: Keys of `augmentations.AUGMENTATIONS`.
        resize: As in `square`.
        is_square: As in `square`; a window is not resized then.
        header: int32 [2], what `ordinary_shape` found, if it was asked.

    Returns:
        uint8 [image_size, image_size, 3], RGB, upright.
    """
    if is_square and crop == "window":
        window = tf.concat([augmentations.window_offsets(draws, image_size), [image_size, image_size]], 0)
        image = tf.io.decode_and_crop_jpeg(image_bytes, window, channels=3, dct_method=DCT_METHOD)
    elif header is None:
        image = _crop_any(image_bytes, draws, crop, resize, image_size)
    else:
        image = tf.cond(
            header[0] > 0,
            lambda: _crop_ordinary(image_bytes, header, draws, crop, resize, image_size),
            lambda: _crop_unusual(image_bytes, draws, crop, resize, image_size),
        )
    return augmentations.augment(tf.ensure_shape(image, [image_size, image_size, 3]), draws, augment_with)


def _crop_ordinary(
    image_bytes: tf.Tensor, shape: tf.Tensor, draws: tf.Tensor, crop: str, resize: str, size: int
) -> tf.Tensor:
    """Decodes a random crop of an upright JPEG of a known shape, uint8 [size, size, 3]."""
    begin, extent = augmentations.CROPS[crop](shape, _region(shape, resize), draws, size)
    return _crop_jpeg(image_bytes, shape, None, begin, extent, size)


def _crop_any(image_bytes: tf.Tensor, draws: tf.Tensor, crop: str, resize: str, size: int) -> tf.Tensor:
    """Decodes a random crop of any image, uint8 [size, size, 3]."""
    content, shape, orientation = inspect_header(image_bytes)
    upright = upright_shape(shape, orientation)
    begin, extent = augmentations.CROPS[crop](upright, _region(upright, resize), draws, size)
    return tf.cond(
        tf.io.is_jpeg(content),
        lambda: _crop_jpeg(content, shape, orientation, begin, extent, size),
        lambda: _crop_png(content, shape, orientation, begin, extent, size),
    )


_crop_unusual = image_headers.rarely_called(_crop_any)


def _whole_pixels(shape: tf.Tensor, begin: tf.Tensor, extent: tf.Tensor) -> tf.Tensor:
    """Returns a window rounded to whole pixels inside an image of `shape`, int32 [4]."""
    extent = tf.clip_by_value(tf.cast(tf.round(extent), tf.int32), 1, shape)
    return tf.concat([tf.minimum(tf.cast(tf.round(begin), tf.int32), shape - extent), extent], 0)


def _crop_jpeg(
    image_bytes: tf.Tensor,
    shape: tf.Tensor,
    orientation: tf.Tensor | None,
    begin: tf.Tensor,
    extent: tf.Tensor,
    size: int,
) -> tf.Tensor:
    """Decodes a window and resizes it to [size, size, 3]; the decoder halves large ones, which also antialiases."""
    # A branch for each ratio, which is an attribute of the decoder; all else is there once.
    halvings = tf.reduce_sum(tf.cast(tf.reduce_min(extent) >= [1.999 * size, 3.999 * size, 7.999 * size], tf.int32))
    ratios = (1, 2, 4, 8)
    ratio = tf.gather(ratios, halvings)
    scaled = (shape + ratio - 1) // ratio
    upright = scaled if orientation is None else upright_shape(scaled, orientation)
    divisor = tf.cast(ratio, tf.float32)
    window = _stored(_whole_pixels(upright, begin / divisor, extent / divisor), scaled, orientation)
    image = tf.switch_case(
        halvings, [functools.partial(_decode_jpeg_window, image_bytes, window, each) for each in ratios]
    )
    return _resize(_upright(image, orientation), size, antialias=False)


def _crop_png(
    image_bytes: tf.Tensor, shape: tf.Tensor, orientation: tf.Tensor, begin: tf.Tensor, extent: tf.Tensor, size: int
) -> tf.Tensor:
    window = _whole_pixels(upright_shape(shape, orientation), begin, extent)
    return _resize(_decode_window(image_bytes, window, shape, orientation), size, antialias=True)


@functools.cache
def _decode_graph() -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns `decode` as a graph: step by step it would take several times as long."""
    return tf.function(decode, input_signature=[tf.TensorSpec([], tf.string)])


# How other files begin that are often named .jpg; images of other formats are `other_formats.name_of`'s.
_NO_IMAGES = (
    (rb"(\xef\xbb\xbf)?\s*<", "an HTML page or an SVG image"),
    (rb"version https://git-lfs", "a pointer of Git LFS (git lfs pull fetches the file itself)"),
)


def why_unreadable(image_bytes: bytes) -> str | None:
    """Returns why an image cannot be read, in words for a person, or None if it can."""
    if not image_bytes:
        return "the file is empty"
    kind = other_formats.name_of(image_bytes) or next(
        (kind for beginning, kind in _NO_IMAGES if re.match(beginning, image_bytes, re.DOTALL)), None
    )
    if kind:
        return f"it is {kind}; JPEG and PNG are read"
    try:
        _decode_graph()(tf.constant(image_bytes))
    except tf.errors.OpError as error:
        # What our own assertions say; what the decoders say is for programmers.
        message = str(error.message or "")
        _, marker, data = message.partition("assertion failed: ")
        if not marker or "cut short" in data:
            return DAMAGED
        return " ".join(re.sub(r"[\[\]]", " ", data.split("[[")[0]).split())
    return None
