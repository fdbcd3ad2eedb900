"""Tests of `image_guard`: a served graph sees what `plain_images` makes of the same bytes; Pillow judges both."""

import io

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from alexnet_tf.data import plain_images, preprocessing
from alexnet_tf.exporting import image_guard
from tests.helpers import encoded_images
from tests.helpers.encoded_images import exif, segment, with_segments

PICTURE = PIL.Image.fromarray(np.random.default_rng(0).integers(20, 235, (5, 7, 3), "uint8")).resize((90, 60))
ICC = segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(3000))


def encode(image=PICTURE, kind="jpeg", **options):
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 95, "subsampling": 0} if kind == "jpeg" else {}) | options)
    return file.getvalue()


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def served(image_bytes):
    return image_guard.square(image_bytes, "paper")


def assert_as_pillow(image_bytes):
    pixels = np.asarray(encoded_images.upright(image_bytes).convert("RGB"))
    np.testing.assert_array_equal(served(image_bytes), preprocessing.square_of(tf.constant(pixels)))
    np.testing.assert_array_equal(served(image_bytes), preprocessing.square(plain_images.plain(image_bytes)))


@pytest.mark.parametrize("byte_order", ["II", "MM"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(orientation, byte_order):
    data = exif(orientation, byte_order, before=orientation % 4)
    assert_as_pillow(encode(kind="png", exif=data[6:], dpi=(72, 72)))
    for image in (encode(), encode(progressive=True)):
        assert_as_pillow(with_segments(image, segment(0xE1, data), keep_jfif=False))
        assert_as_pillow(with_segments(image, ICC, b"\xff\xff\xff", segment(0xE1, data), segment(0xE1, b"http://x\0")))


@pytest.mark.parametrize(
    ("value", "kind", "tag"), [(0, 3, 0x0112), (9, 3, 0x0112), (6, 3, 0x0113), (6, 4, 0x0112), (65535, 3, 0x0112)]
)
@pytest.mark.parametrize("byte_order", ["II", "MM"])
def test_other_values_and_kinds_of_the_tag(value, kind, tag, byte_order):
    assert_as_pillow(with_segments(encode(), segment(0xE1, exif(value, byte_order, kind, tag=tag))))


def test_damaged_exif_is_ignored():
    plain, rng = served(encode()), np.random.default_rng(0)
    for length in (6, 8, 10, 13, 14, 16, 18, 23):
        np.testing.assert_array_equal(served(with_segments(encode(), segment(0xE1, exif(6)[:length]))), plain)
    for _ in range(60):
        data = bytearray(exif(6, rng.choice(["II", "MM"]), before=2))
        data[rng.integers(6, len(data))] = rng.integers(256)
        assert served(with_segments(encode(), segment(0xE1, bytes(data)))).shape == (256, 256, 3)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_is_read_if_no_pixel_is_missing(progressive):
    image_bytes = encode(progressive=progressive)
    for ending in (b"", b"\xff", bytes(100), b"\xff\xd9" + bytes(5000), b"\xff\xd9no image data"):
        np.testing.assert_array_equal(served(image_bytes[:-2] + ending), served(image_bytes))
    for ending in (b"", bytes(100_000)):
        with pytest.raises(tf.errors.InvalidArgumentError):
            served(image_bytes[: len(image_bytes) // 2] + ending)


def test_a_jpeg_of_many_scans_is_refused():
    scan = b"\xff\xda\0\x0c\3" + bytes(6) + b"\x3f\0"
    for segments in ([], [segment(0xFE, scan * 3)]):
        for count in (1000, plain_images.MAX_SCANS + 1):
            with pytest.raises(tf.errors.InvalidArgumentError, match="the JPEG has"):
                served(with_segments(encoded_images.with_scans(PICTURE, count), *segments))
        assert_as_pillow(with_segments(encoded_images.with_scans(PICTURE, 32), *segments))


@pytest.mark.parametrize(
    ("image_bytes", "message"),
    [
        (b"", "neither a JPEG nor a PNG image"),
        (encode(kind="gif"), "neither a JPEG nor a PNG image"),
        (encode(kind="png")[:20], "neither a JPEG nor a PNG image"),
        (encoded_images.declare_jpeg(encode(), 30_000, 30_000), r"the header declares\] \[30000\] \[x\] \[30000"),
        (encode(kind="png")[:16] + bytes([128, 0, 0, 5, 0, 0, 0, 9]) + bytes(20), "the header declares"),
        (encode(kind="png")[:16] + bytes(30), "the header declares"),
        (encode()[:12], "(?i)jpeg"),
    ],
)
def test_what_is_not_a_readable_image_is_an_error(image_bytes, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        served(image_bytes)
