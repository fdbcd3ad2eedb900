"""One image at a time, from encoded bytes to the pixels that the network sees. Pure functions, eager or in a graph.

Every image is first seen as a square of 256 x 256 pixels (Section 2): its shorter side is scaled to 256 and the centre
kept, or, as Caffe did, the whole is warped. Crops are windows of that square, so that an original and a record
prepared at 256 pixels give the same windows. Pixels are uint8 RGB until something makes them float. EXIF rotation is
ignored: TensorFlow cannot read it, and every consumer of the network must see the same picture.
"""

import re

import tensorflow as tf

from alexnet_tf import config

# A header that declares more is refused before anything is decoded; a 30,000 x 30,000 image would take 2.7 GB.
MAX_PIXELS = 100_000_000

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def image_shape(image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads height and width from the header of a JPEG or PNG, without decoding it.

    Args:
        image_bytes: string [], an encoded image.

    Returns:
        (height, width), int32 [], in pixels.

    Raises:
        tf.errors.InvalidArgumentError: If the bytes are neither JPEG nor PNG, the header is broken, or it declares
            more than `MAX_PIXELS`.
    """
    is_png = (tf.strings.substr(image_bytes, 0, 8) == _PNG_SIGNATURE) & (tf.strings.length(image_bytes) >= 24)
    is_image = is_png | (tf.strings.substr(image_bytes, 0, 3) == b"\xff\xd8\xff")
    check = tf.debugging.Assert(
        is_image, ["neither a JPEG nor a PNG image; it has", tf.strings.length(image_bytes), "bytes"])

    def png_shape():  # IHDR is always the first chunk: big-endian width and height at bytes 16 and 20.
        header = tf.ensure_shape(tf.io.decode_raw(tf.strings.substr(image_bytes, 16, 8), tf.int32, False), [2])
        return header[::-1]

    with tf.control_dependencies([check] if check is not None else []):
        shape = tf.cond(is_png, png_shape, lambda: tf.io.extract_jpeg_shape(image_bytes)[:2])
    height, width = shape[0], shape[1]
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    check = tf.debugging.Assert(
        (height > 0) & (width > 0) & (pixels <= MAX_PIXELS),
        ["the header declares", width, "x", height, f"pixels; at most {MAX_PIXELS} are read"])
    with tf.control_dependencies([check] if check is not None else []):
        return tf.identity(height), tf.identity(width)


def _checked(image_bytes):
    """Returns (image_bytes, height, width), the bytes bound to the header's check: in a graph nothing else orders them."""
    height, width = image_shape(image_bytes)
    with tf.control_dependencies([height, width]):
        return tf.identity(image_bytes), height, width


def decode(image_bytes: tf.Tensor) -> tf.Tensor:
    """Decodes a whole image, uint8 [height, width, 3]; says more than `square` about a file that is damaged anywhere."""
    image_bytes, height, width = _checked(image_bytes)
    return _decode_window(image_bytes, tf.stack([0, 0, height, width]))


def _region(height, width, resize: str):
    """Returns (top, left, height, width), float32, of the part of the image that becomes the square."""
    height, width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    if resize == "caffe":
        return tf.zeros([]), tf.zeros([]), height, width
    side = tf.minimum(height, width)
    return tf.floor((height - side) / 2), tf.floor((width - side) / 2), side, side


def _decode_window(image_bytes, window, ratio=None):
    """Decodes a window [top, left, height, width] (int32 pixels) to uint8; from JPEG without decoding the rest.

    With `ratio`, an index into (1, 2, 4, 8), the JPEG decoder scales down by that and the window counts in its pixels.
    """
    def crop_jpeg(ratio):
        return lambda: tf.io.decode_and_crop_jpeg(image_bytes, window, channels=3, ratio=ratio)

    def crop_png():
        top, left, height, width = tf.unstack(window)
        return tf.io.decode_png(image_bytes, channels=3)[top:top + height, left:left + width]

    if ratio is None:
        jpeg = crop_jpeg(1)
    else:
        jpeg = lambda: tf.switch_case(ratio, [crop_jpeg(r) for r in (1, 2, 4, 8)])  # noqa: E731
    return tf.cond(tf.io.is_jpeg(image_bytes), jpeg, crop_png)


def _resize(image, size: int, antialias: bool):
    """Resizes to uint8 [size, size, 3], bilinear; an image of that size already is left alone."""
    def resized():
        pixels = tf.image.resize(image, [size, size], antialias=antialias)
        return tf.cast(tf.round(pixels), tf.uint8)

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
    image_bytes, height, width = _checked(image_bytes)
    window = tf.cast(tf.stack(_region(height, width, resize)), tf.int32)
    return _resize(_decode_window(image_bytes, window), config.SQUARE_SIZE, antialias=True)


def center_crop(square_image: tf.Tensor, size: int) -> tf.Tensor:
    """Returns the centre of a square, [size, size, 3]; offsets round down, as Caffe's."""
    start = (config.SQUARE_SIZE - size) // 2
    return square_image[start:start + size, start:start + size]


def ten_crops(square_image: tf.Tensor, size: int) -> tf.Tensor:
    """Returns the four corners, the centre and their mirror images (Section 4.1), [10, size, size, 3]."""
    last = config.SQUARE_SIZE - size
    corners = [square_image[y:y + size, x:x + size] for y in (0, last) for x in (0, last)]
    crops = tf.stack(corners + [center_crop(square_image, size)])
    return tf.concat([crops, crops[:, :, ::-1]], axis=0)


def train_image(
    image_bytes: tf.Tensor, seed: tf.Tensor, *, image_size: int, crop: str = "window", resize: str = "paper",
    pca_stdevs=None, pca_vectors=None) -> tf.Tensor:
    """Decodes a random crop of an image, mirrors it half of the time and adds colour noise (Section 4.1).

    The same seed gives the same pixels.

    Args:
        image_bytes: string [], JPEG or PNG.
        seed: int [2].
        image_size: Side of the crop in pixels.
        crop: "window": every offset in the 256 x 256 square, ends included; "random_resized": 8 to 100 % of the
            image's area at an aspect of 3/4 to 4/3.
        resize: As in `square`.
        pca_stdevs: Standard deviations of the three colour components, in grey levels; None adds no noise.
        pca_vectors: Components as columns, rows R, G, B.

    Returns:
        RGB [image_size, image_size, 3] in [0, 255]: uint8, or float32 with noise, unclipped.
    """
    crop_seed, mirror_seed, noise_seed = tf.unstack(tf.random.split(seed, 3))
    image_bytes, height, width = _checked(image_bytes)
    if crop == "random_resized":
        window = _random_resized_window(height, width, crop_seed)
    else:
        window = _random_window(height, width, crop_seed, image_size, resize)
    image = _decode_scaled(image_bytes, window, height, width, image_size)
    mirror = tf.random.stateless_uniform([], mirror_seed, alg="philox") < 0.5
    image = tf.cond(mirror, lambda: image[:, ::-1], lambda: image)
    if pca_stdevs is None:
        return image
    return tf.cast(image, tf.float32) + colour_noise(noise_seed, pca_stdevs, pca_vectors)


def colour_noise(seed: tf.Tensor, pca_stdevs, pca_vectors) -> tf.Tensor:
    """Draws the colour that is added to every pixel of an image, float32 [3] in grey levels.

    Section 4.1 multiplies the eigenvectors by a * eigenvalue, a ~ N(0, 0.1); the author's code has the eigenvalue's
    square root, without which the noise would be a thousand grey levels.
    """
    draws = 0.1 * tf.random.stateless_normal([3], seed, alg="philox")
    return tf.linalg.matvec(tf.constant(pca_vectors, tf.float32), draws * tf.constant(pca_stdevs, tf.float32))


def _random_window(height, width, seed, size, resize):
    """Returns the part [top, left, height, width], float32, of the image behind a window of the square."""
    top, left, region_height, region_width = _region(height, width, resize)
    offsets = tf.random.stateless_uniform(
        [2], seed, 0, config.SQUARE_SIZE - size + 1, dtype=tf.int32, alg="philox")
    offsets = tf.cast(offsets, tf.float32) / config.SQUARE_SIZE
    return tf.stack([
        top + offsets[0] * region_height, left + offsets[1] * region_width,
        region_height * size / config.SQUARE_SIZE, region_width * size / config.SQUARE_SIZE])


def _random_resized_window(height, width, seed):
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.stack([height, width, 3]), tf.zeros([1, 0, 4]), seed, min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3), area_range=(0.08, 1.0), max_attempts=10,
        use_image_if_no_bounding_boxes=True)
    return tf.cast(tf.concat([begin[:2], size[:2]], 0), tf.float32)


def _decode_scaled(image_bytes, window, height, width, size):
    """Decodes `window` and resizes it to [size, size, 3]; the JPEG decoder halves large ones, which also antialiases."""
    halvings = tf.math.log(tf.maximum(tf.minimum(window[2], window[3]) / size, 1.0)) / tf.math.log(2.0)
    halvings = tf.cast(tf.minimum(tf.floor(halvings + 1e-4), 3), tf.int32)
    is_jpeg = tf.io.is_jpeg(image_bytes)
    halvings = tf.where(is_jpeg, halvings, 0)
    scale = tf.bitwise.left_shift(1, halvings)
    limits = tf.stack([(height + scale - 1) // scale, (width + scale - 1) // scale])
    begin = tf.cast(tf.round(window[:2] / tf.cast(scale, tf.float32)), tf.int32)
    extent = tf.cast(tf.round(window[2:] / tf.cast(scale, tf.float32)), tf.int32)
    extent = tf.clip_by_value(extent, 1, limits)
    begin = tf.minimum(begin, limits - extent)
    image = _decode_window(image_bytes, tf.concat([begin, extent], 0), halvings)
    return tf.cond(
        is_jpeg, lambda: _resize(image, size, antialias=False), lambda: _resize(image, size, antialias=True))


def reason(error: tf.errors.OpError) -> str:
    """Returns why an image could not be read, for a person: TensorFlow's message without its graph's node names."""
    text = str(error.message or "")
    for marker in ("assertion failed:", "Summarized data:"):  # Of tf.debugging.Assert, in a graph and eagerly.
        if marker in text:
            data = re.sub(r"\{\{.*|\[Op:.*", "", text.split(marker)[1], flags=re.DOTALL)
            return " ".join(re.sub(r"b'|[\[\]'\"]", " ", data).split())
    if "No such file" in text or "Permission denied" in text or "Is a directory" in text:
        return re.sub(r"\[Op:.*|\n.*", "", text.split(";")[-1], flags=re.DOTALL).strip()
    return "the image data is damaged or of an unsupported kind"
