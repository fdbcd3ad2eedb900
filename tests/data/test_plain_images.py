"""Tests of `plain_images`: what is an ordinary image, and what Pillow makes of all others; the oracle is Pillow."""

import io

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow as tf

from alexnet_tf.data import datasets, input_pipeline, plain_images, preprocessing
from alexnet_tf.network import recipes
from tests.helpers import encoded_images
from tests.helpers.encoded_images import exif, segment, with_segments

PICTURE = PIL.Image.fromarray(np.random.default_rng(0).integers(20, 235, (5, 7, 3), "uint8")).resize((70, 50))


def encode(image=PICTURE, kind="jpeg", **options):
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 95, "subsampling": 0} if kind == "jpeg" else {}) | options)
    return file.getvalue()


def upright(image_bytes):
    return np.asarray(encoded_images.upright(image_bytes).convert("RGB"))


def decode(image_bytes):
    return preprocessing.decode(tf.constant(plain_images.plain(image_bytes))).numpy()


ICC = segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(3000))
JPEG = encode()


def with_exif(data, kind="jpeg"):
    return with_segments(JPEG, segment(0xE1, data)) if kind == "jpeg" else encode(kind="png", exif=data)


ORDINARY = {
    "colour": JPEG,
    "grey": encode(PICTURE.convert("L")),
    "CMYK": encode(PICTURE.convert("CMYK")),
    "progressive": encode(progressive=True),
    "with a profile and a comment": with_segments(JPEG, ICC, segment(0xFE, b"a comment")),
    "with XMP": with_segments(JPEG, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>")),
    "behind fill bytes": with_segments(JPEG, b"\xff\xff\xff", ICC),
    "upright": with_exif(exif(1, before=2)),
    "without an orientation": with_exif(exif(6, tag=0x0113)),
    "many scans hidden in a comment": with_segments(JPEG, segment(0xFE, b"\xff\xda\0\x0c\3" * 100)),
    "as many scans as are read": encoded_images.with_scans(PICTURE, plain_images.MAX_SCANS),
    "PNG": encode(kind="png"),
    "PNG with alpha and a text": encode(PICTURE.convert("RGBA"), "png", dpi=(72, 72)),
    "PNG of 16 bits": encode(PIL.Image.fromarray(np.arange(60, dtype="uint16").reshape(6, 10) * 999), "png"),
    "upright PNG": with_exif(exif(1)[6:], "png"),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_image_stays_as_it_is(name):
    assert plain_images.plain(ORDINARY[name]) is ORDINARY[name]
    assert preprocessing.why_unreadable(ORDINARY[name]) is None


LAYOUTS = {
    "first": lambda data: ([segment(0xE1, data)], False),
    "behind JFIF": lambda data: ([segment(0xE1, data)], True),
    "behind a profile": lambda data: ([ICC, segment(0xFE, b"a comment"), segment(0xE1, data)], True),
    "before a second one": lambda data: ([segment(0xE1, data), segment(0xE1, b"http://ns.adobe.com/\0<x/>")], True),
}


@pytest.mark.parametrize("byte_order", ["II", "MM"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_eight_orientations_are_those_of_pillow(orientation, byte_order):
    images = [with_exif(exif(orientation, byte_order)[6:], "png")]
    for image in (JPEG, encode(progressive=True)):
        for make in LAYOUTS.values():
            segments, keep_jfif = make(exif(orientation, byte_order, before=orientation % 4))
            images.append(with_segments(image, *segments, keep_jfif=keep_jfif))
    for image_bytes in images:
        np.testing.assert_array_equal(decode(image_bytes), upright(image_bytes))
        assert plain_images.is_ordinary(image_bytes) == (orientation == 1)


@pytest.mark.parametrize(
    ("value", "kind", "tag"), [(0, 3, 0x0112), (9, 3, 0x0112), (6, 3, 0x0113), (6, 4, 0x0112), (65535, 3, 0x0112)]
)
def test_other_values_and_kinds_of_the_tag(value, kind, tag):
    for byte_order in ("II", "MM"):
        image_bytes = with_exif(exif(value, byte_order, kind, tag=tag))
        np.testing.assert_array_equal(decode(image_bytes), upright(image_bytes))


@pytest.mark.filterwarnings("ignore")  # Pillow's.
def test_damaged_exif_is_ignored():
    for length in range(6, len(exif(6)) - 1):
        assert decode(with_exif(exif(6)[:length])).shape[-1] == 3
    rng = np.random.default_rng(0)
    for _ in range(100):
        data = bytearray(exif(6, rng.choice(["II", "MM"]), before=2))
        data[rng.integers(6, len(data))] = rng.integers(256)
        assert decode(with_exif(bytes(data))).shape[-1] == 3


@pytest.mark.filterwarnings("ignore")
def test_any_bytes_end_in_an_image_or_a_reason():
    rng, refused = np.random.default_rng(0), 0
    for number in range(300):
        image_bytes = bytearray(encode(kind=("jpeg", "png", "webp", "tiff", "gif", "bmp")[number % 6]))
        image_bytes[rng.integers(min(200, len(image_bytes)))] = rng.integers(256)
        try:
            assert decode(bytes(image_bytes)).ndim == 3
        except (plain_images.UnreadableImage, tf.errors.InvalidArgumentError):
            refused += 1
            assert preprocessing.why_unreadable(bytes(image_bytes))
    assert 10 < refused < 250


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("ending", [b"", b"\xff", bytes(100), b"\xff\xd9" + bytes(5000), b"\xff\xd9no image data"])
def test_a_jpeg_that_lacks_only_its_end_marker_is_read_whole(progressive, ending):
    image_bytes = encode(progressive=progressive)
    np.testing.assert_array_equal(decode(image_bytes[:-2] + ending), decode(image_bytes))
    turned = with_segments(image_bytes[:-2] + ending, segment(0xE1, exif(6)))
    np.testing.assert_array_equal(decode(turned), np.rot90(decode(image_bytes), -1))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("ending", [b"", bytes(100_000)], ids=["cut", "zeros"])
def test_a_jpeg_that_lacks_pixels_is_damaged(progressive, ending):
    noise = np.random.default_rng(0).integers(0, 256, (96, 80, 3), "uint8")
    image_bytes = encode(PIL.Image.fromarray(noise), progressive=progressive)
    for lost in (8, 20, 100, 1000, len(image_bytes) // 2):
        if not progressive or lost >= 20:  # The last bits of the last scan may be padding.
            assert preprocessing.why_unreadable(image_bytes[:-lost] + ending) == plain_images.DAMAGED, lost


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded():
    for count in (1000, plain_images.MAX_SCANS + 1):
        with pytest.raises(plain_images.UnreadableImage, match=f"the JPEG has {count} scans; at most 32 are read"):
            plain_images.plain(encoded_images.with_scans(PICTURE, count))


@pytest.mark.parametrize(
    ("kind", "options"),
    [("webp", {"lossless": True}), ("bmp", {}), ("tiff", {}), ("gif", {}), ("avif", {"quality": 100})],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_other_formats_are_read_as_pillow_reads_them(kind, options, mode):
    image_bytes = encode(PICTURE.convert(mode), kind, **options)
    np.testing.assert_array_equal(decode(image_bytes), upright(image_bytes))


def test_of_an_animation_the_first_frame_is_read():
    frames = [PICTURE.convert("P"), PIL.ImageOps.invert(PICTURE).convert("P")]
    image_bytes = encode(frames[0], "gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode(image_bytes), upright(image_bytes))


def test_alpha_is_dropped_without_blending_and_sixteen_bits_keep_the_upper_eight():
    pixels = np.dstack([np.asarray(PICTURE), np.full((50, 70), 10, "uint8")])
    np.testing.assert_array_equal(decode(encode(PIL.Image.fromarray(pixels), "tiff")), pixels[..., :3])
    grey = np.random.default_rng(0).integers(0, 65536, (9, 8), "uint16")
    np.testing.assert_array_equal(decode(encode(PIL.Image.fromarray(grey), "tiff")), np.dstack([grey // 256] * 3))


@pytest.mark.parametrize("channels", [1, 3])
def test_as_png_is_what_pillow_reads_back(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), "uint8")
    image = PIL.Image.open(io.BytesIO(plain_images.as_png(pixels)))
    image.verify()
    np.testing.assert_array_equal(upright(plain_images.as_png(pixels)), np.broadcast_to(pixels, (5, 7, 3)))


@pytest.mark.parametrize("kind", ["webp", "bmp", "tiff", "gif"])
def test_a_damaged_image_of_another_format_has_a_reason(kind):
    with pytest.raises(plain_images.UnreadableImage, match="it is a .* image, which cannot be read"):
        plain_images.plain(encode(kind=kind)[:60])


def test_heic_without_its_package_is_refused_with_the_package_to_install(monkeypatch):
    monkeypatch.setattr(plain_images, "_register_heif", lambda: None)
    with pytest.raises(plain_images.UnreadableImage, match="HEIC .* install pillow-heif"):
        plain_images.plain(b"\0\0\0\x20ftypheic" + bytes(50))


@pytest.mark.filterwarnings("ignore")  # Pillow's, of the smaller one.
@pytest.mark.parametrize(("width", "height"), [(30_000, 30_000), (10_001, 10_000)])
def test_vast_images_of_other_formats_are_refused_by_their_header(width, height):
    image_bytes = bytearray(encode(kind="bmp"))
    image_bytes[18:26] = width.to_bytes(4, "little") + height.to_bytes(4, "little")
    with pytest.raises(plain_images.UnreadableImage, match="too many pixels; at most 100,000,000"):
        plain_images.plain(bytes(image_bytes))


def test_training_and_evaluation_read_every_format_as_the_same_picture(tmp_path):
    """The same picture in eight files: its crops are those of the upright PNG."""
    picture = PICTURE.resize((411, 300), PIL.Image.Resampling.BICUBIC)
    tags = picture.getexif()
    tags[0x0112] = 6
    turned = picture.transpose(PIL.Image.Transpose.ROTATE_90)
    files = {
        "0.png": encode(picture, "png"),
        "1.webp": encode(picture, "webp", lossless=True),
        "2.bmp": encode(picture, "bmp"),
        "3.tif": encode(picture, "tiff"),
        "4.png": encode(turned, "png", exif=tags),
        "5.tif": encode(turned, "tiff", exif=tags),
        "6.jpg": encode(turned, exif=tags),
        "7.jpg": encode(picture),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    split = datasets.ImageFiles(tuple(str(tmp_path / name) for name in files), np.arange(8, dtype="int32"))
    [(images, labels)] = input_pipeline.evaluation_batches(split, batch_size=8, image_size=227, resize="paper")
    assert labels.numpy().tolist() == list(range(8))
    for image in images.numpy()[1:6]:
        np.testing.assert_array_equal(image, images[0])
    for image in images.numpy()[6:].astype(int):
        assert np.abs(image - images[0].numpy()).mean() < 1.5
    recipe = recipes.Recipe(batch_size=8, augmentations=())
    [(images, labels)] = input_pipeline.make_train_dataset(split, recipe, image_size=256, seed=0, epoch=0)
    images = images.numpy()[np.argsort(labels.numpy())].astype(int)
    np.testing.assert_array_equal(images[1:6], images[:1].repeat(5, 0))
    assert np.abs(images[6:] - images[0]).mean() < 1.5
