"""Tests of `image_headers`: EXIF orientation, images without their end, images of many scans; the oracle is Pillow."""

import io

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow as tf

from alexnet_tf.data import image_headers, preprocessing
from tests.helpers import encoded_images
from tests.helpers.encoded_images import exif, segment, with_segments


def smooth(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return PIL.Image.fromarray(rng.integers(20, 235, (4, 3, 3), "uint8")).resize(
        (width, height), PIL.Image.Resampling.BICUBIC
    )


def encode(image, **options):
    file = io.BytesIO()
    image.save(file, "jpeg", quality=95, subsampling=0, **options)
    return file.getvalue()


def upright(image_bytes):
    return np.asarray(encoded_images.upright(image_bytes).convert("RGB"))


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def decode(image_bytes):
    return preprocessing.decode(image_bytes)


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def square(image_bytes):
    return preprocessing.square(image_bytes)


ICC = segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(3000))
LAYOUTS = {
    "first": lambda data: ([segment(0xE1, data)], False),
    "behind JFIF": lambda data: ([segment(0xE1, data)], True),
    "behind a profile and a comment": lambda data: ([ICC, segment(0xFE, b"a comment"), segment(0xE1, data)], True),
    "behind fill bytes": lambda data: ([b"\xff\xff\xff", segment(0xE1, data)], True),
    "before a second one": lambda data: (
        [segment(0xE1, data), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>")],
        True,
    ),
}


@pytest.mark.parametrize("byte_order", ["II", "MM"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_eight_orientations_are_those_of_pillow(orientation, byte_order):
    image = encode(smooth(60, 90))
    for make in LAYOUTS.values():
        segments, keep_jfif = make(exif(orientation, byte_order, before=orientation % 4))
        image_bytes = with_segments(image, *segments, keep_jfif=keep_jfif)
        np.testing.assert_array_equal(decode(image_bytes), upright(image_bytes))
        assert int(preprocessing.orientation(tf.constant(image_bytes))) == orientation


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_progressive_image_is_turned_too(orientation):
    image_bytes = with_segments(encode(smooth(60, 90), progressive=True), segment(0xE1, exif(orientation)))
    np.testing.assert_array_equal(decode(image_bytes), upright(image_bytes))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("resize", ["paper", "caffe"])
def test_training_and_evaluation_see_the_turned_image(orientation, resize):
    """The same picture, stored turned with a tag or stored upright, gives the same square and the same crops."""
    picture = smooth(300, 411)
    undo = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
    stored = (
        upright(with_segments(encode(picture), segment(0xE1, exif(undo[orientation]))))
        if orientation > 1
        else np.asarray(picture)
    )
    tagged = with_segments(encode(PIL.Image.fromarray(stored)), segment(0xE1, exif(orientation)))
    plain = encode(PIL.Image.fromarray(upright(tagged)))
    draws = tf.constant([0.3, 0.8, 0.7, 0.1])
    for function in (
        lambda image_bytes: preprocessing.square(image_bytes, resize),
        lambda image_bytes: preprocessing.train_image(image_bytes, draws, image_size=227, resize=resize),
        lambda image_bytes: preprocessing.train_image(image_bytes, draws, image_size=100, resize=resize),
        lambda image_bytes: preprocessing.train_image(image_bytes, draws, image_size=64, crop="random_resized"),
    ):
        ours, expected = (function(tf.constant(each)).numpy().astype(int) for each in (tagged, plain))
        assert np.abs(ours - expected).mean() < 1.5


@pytest.mark.parametrize(
    ("value", "kind", "tag"), [(0, 3, 0x0112), (9, 3, 0x0112), (6, 3, 0x0113), (6, 4, 0x0112), (65535, 3, 0x0112)]
)
@pytest.mark.parametrize("byte_order", ["II", "MM"])
def test_other_values_and_kinds_of_the_tag(value, kind, tag, byte_order):
    image_bytes = with_segments(encode(smooth(20, 30)), segment(0xE1, exif(value, byte_order, kind, tag=tag)))
    np.testing.assert_array_equal(decode(image_bytes), upright(image_bytes))


@pytest.mark.parametrize("length", [6, 8, 10, 13, 14, 16, 18, 23])
def test_an_exif_segment_that_is_cut_is_ignored(length):
    image = encode(smooth(20, 30))
    image_bytes = with_segments(image, segment(0xE1, exif(6)[:length]))
    assert preprocessing.why_unreadable(image_bytes) is None
    np.testing.assert_array_equal(decode(image_bytes), decode(image))


def test_random_bytes_in_the_exif_segment_are_never_an_error():
    image, rng = encode(smooth(20, 30)), np.random.default_rng(0)
    for _ in range(100):
        data = bytearray(exif(6, rng.choice(["II", "MM"]), before=2))
        data[rng.integers(6, len(data))] = rng.integers(256)
        assert decode(with_segments(image, segment(0xE1, bytes(data)))).shape[-1] == 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_png_is_turned_as_its_exif_chunk_says(orientation):
    image, file = smooth(60, 90), io.BytesIO()
    tags = image.getexif()
    tags[0x0112] = orientation
    image.save(file, "png", exif=tags, dpi=(72, 72))
    np.testing.assert_array_equal(decode(file.getvalue()), upright(file.getvalue()))
    draws = tf.constant([0.3, 0.8, 0.7, 0.1])
    for size in (256, 100):
        plain = io.BytesIO()
        PIL.Image.fromarray(upright(file.getvalue())).save(plain, "png")
        np.testing.assert_array_equal(
            *(preprocessing.train_image(tf.constant(each.getvalue()), draws, image_size=size) for each in (file, plain))
        )


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("ending", [b"", b"\xff", bytes(100), b"\xff\xd9" + bytes(5000), b"\xff\xd9no image data"])
def test_a_jpeg_that_lacks_only_its_end_marker_is_read_whole(progressive, ending):
    image_bytes = encode(smooth(60, 90), progressive=progressive)
    changed = image_bytes[:-2] + ending
    assert preprocessing.why_unreadable(changed) is None
    np.testing.assert_array_equal(decode(changed), decode(image_bytes))
    np.testing.assert_array_equal(square(changed), square(image_bytes))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("ending", [b"", bytes(100_000)], ids=["cut", "zeros"])
def test_a_jpeg_that_lacks_pixels_is_damaged_wherever_the_crop_is(progressive, ending):
    noise = np.random.default_rng(0).integers(0, 256, (96, 80, 3), "uint8")
    image_bytes = encode(PIL.Image.fromarray(noise), progressive=progressive)
    for lost in (8, 20, 100, 1000, len(image_bytes) // 2):
        changed = image_bytes[:-lost] + ending
        if progressive and lost < 20:
            continue  # The last bits of the last scan may be padding.
        assert preprocessing.why_unreadable(changed) == preprocessing.DAMAGED, lost
        for down in (0.0, 0.99):
            with pytest.raises(tf.errors.InvalidArgumentError):
                preprocessing.train_image(tf.constant(changed), tf.constant([down, 0.0, 0.0, 0.0]), image_size=32)


def with_scans(count):
    return encoded_images.with_scans(smooth(32, 32), count)


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded():
    reason = f"the JPEG has 1000 scans; at most {image_headers.MAX_SCANS} are read"
    assert preprocessing.why_unreadable(with_scans(1000)) == reason
    with pytest.raises(tf.errors.InvalidArgumentError, match="scans"):
        square(with_scans(1000))
    with pytest.raises(tf.errors.InvalidArgumentError, match="scans"):
        preprocessing.train_image(tf.constant(with_scans(image_headers.MAX_SCANS + 1)), tf.zeros([4]), image_size=32)
    assert preprocessing.why_unreadable(with_scans(image_headers.MAX_SCANS)) is None


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("progressive", [False, True])
def test_an_ordinary_jpeg_is_not_walked_through(mode, progressive):
    image_bytes = encode(smooth(40, 30).convert(mode), progressive=progressive)
    is_ordinary = lambda image_bytes: bool(image_headers._is_ordinary_jpeg(tf.constant(image_bytes)))  # noqa: E731
    assert is_ordinary(image_bytes) and is_ordinary(with_segments(image_bytes, ICC, segment(0xFE, b"a comment")))
    assert not is_ordinary(image_bytes[:-2])
    assert not is_ordinary(with_segments(image_bytes, segment(0xE1, exif(6))))
    assert not is_ordinary(with_scans(image_headers.MAX_SCANS + 1))


def test_scans_are_counted_behind_a_comment_that_looks_like_one():
    scan = b"\xff\xda\0\x0c\3" + bytes(6) + b"\x3f\0"
    for hidden in (segment(0xFE, scan), segment(0xFE, b"\xff\xd8" + scan * 3)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="the JPEG has"):
            square(with_segments(with_scans(1000), hidden))
        np.testing.assert_array_equal(square(with_segments(with_scans(20), hidden)), square(with_scans(20)))
        turned = with_segments(encode(smooth(40, 30)), hidden, segment(0xE1, exif(6)))
        np.testing.assert_array_equal(decode(turned), upright(turned))


def headers():
    """Returns {name: (a JPEG, whether training may skip the graph's look at its header)}."""
    image = encode(smooth(40, 30))
    tables = segment(0xE2, b"ICC_PROFILE") + segment(0xFE, b"a comment")
    return {
        "colour": (image, True),
        "grey": (encode(smooth(40, 30).convert("L")), True),
        "with a profile and a comment": (with_segments(image, tables), True),
        "with XMP": (with_segments(image, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>")), True),
        "upright": (with_segments(image, segment(0xE1, exif(1, before=2))), True),
        "without an orientation": (with_segments(image, segment(0xE1, exif(6, tag=0x0113))), True),
        "turned": (with_segments(image, segment(0xE1, exif(6))), False),
        "turned, big endian": (with_segments(image, segment(0xE1, exif(8, "MM", before=3))), False),
        "no TIFF header": (with_segments(image, segment(0xE1, b"Exif\0\0nothing at all")), False),
        "cut in its EXIF": (with_segments(image, segment(0xE1, exif(6)[:18])), False),
        "progressive": (encode(smooth(40, 30), progressive=True), False),
        "without its end": (image[:-2], False),
        "PNG": (b"\x89PNG\r\n\x1a\n" + image, False),
        "a header alone": (image[:30] + b"\xff\xd9", False),
        "an unknown marker": (with_segments(image, segment(0xF0, b"")), False),
        "too many segments": (with_segments(image, *[segment(0xFE, b"")] * image_headers._MAX_SEGMENTS), False),
    }


@pytest.mark.parametrize("name", headers())
def test_an_ordinary_shape_is_what_the_graph_finds(name):
    image_bytes, is_ordinary = headers()[name]
    found = image_headers.ordinary_shape(image_bytes)
    assert found == ((40, 30) if is_ordinary else (0, 0))
    if is_ordinary:
        content, shape, orientation = image_headers.inspect_header(tf.constant(image_bytes))
        assert content == image_bytes and shape.numpy().tolist() == [40, 30] and orientation == 1
        np.testing.assert_array_equal(
            preprocessing.square(tf.constant(image_bytes), header=tf.constant(found)), square(image_bytes)
        )


def test_an_ordinary_shape_of_any_bytes_is_no_error():
    image, rng = with_segments(encode(smooth(40, 30)), segment(0xE1, exif(6, before=2))), np.random.default_rng(0)
    for _ in range(500):
        changed = bytearray(image)
        changed[rng.integers(2, 120)] = rng.integers(256)
        height, width = image_headers.ordinary_shape(bytes(changed))
        assert 0 <= height * width <= image_headers.MAX_PIXELS
