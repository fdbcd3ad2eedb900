"""Tests of `other_formats`: what Pillow reads for `prepare` and `predict`."""

import io

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from alexnet_tf.data import discovery, other_formats, prepare, preprocessing


def encode(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


PICTURE = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 3), "uint8")).resize((70, 50))


@pytest.mark.parametrize(
    ("kind", "options"),
    [("webp", {"lossless": True}), ("bmp", {}), ("tiff", {}), ("gif", {}), ("avif", {"quality": 100})],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_other_formats_are_read_as_pillow_reads_them(kind, options, mode):
    image_bytes = encode(PICTURE.convert(mode), kind, **options)
    assert "JPEG and PNG are read" in preprocessing.why_unreadable(image_bytes)
    found = preprocessing.decode(other_formats.as_readable(image_bytes)).numpy()
    np.testing.assert_array_equal(found, np.asarray(PIL.Image.open(io.BytesIO(image_bytes)).convert("RGB")))


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("kind", ["webp", "tiff"])
def test_they_are_turned_upright(kind, orientation):
    tags = PICTURE.getexif()
    tags[0x0112] = orientation
    image_bytes = encode(PICTURE, kind, exif=tags, **({"lossless": True} if kind == "webp" else {}))
    expected = np.asarray(PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(image_bytes))).convert("RGB"))
    np.testing.assert_array_equal(preprocessing.decode(other_formats.as_readable(image_bytes)).numpy(), expected)


def test_of_an_animation_the_first_frame_is_read():
    frames = [PICTURE.convert("P"), PIL.ImageOps.invert(PICTURE).convert("P")]
    image_bytes = encode(frames[0], "gif", save_all=True, append_images=frames[1:])
    first = np.asarray(PIL.Image.open(io.BytesIO(image_bytes)).convert("RGB"))
    np.testing.assert_array_equal(preprocessing.decode(other_formats.as_readable(image_bytes)).numpy(), first)


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_jpeg_and_png_stay_as_they_are(kind):
    image_bytes = encode(PICTURE, kind)
    assert other_formats.as_readable(image_bytes) is image_bytes
    assert other_formats.as_readable(b"nothing") == b"nothing"


@pytest.mark.parametrize(
    "image_bytes",
    [
        encode(PICTURE, "webp")[:60],
        encode(PICTURE, "bmp")[:200],
        encode(PICTURE, "tiff")[:100],
        encode(PICTURE, "gif")[:30],
        b"\0\0\0\x20ftypheic" + bytes(50),
    ],
)
def test_what_is_damaged_is_an_error_that_says_what_it_is(image_bytes):
    with pytest.raises(other_formats.UnreadableImage, match="it is a .* image"):
        other_formats.as_readable(image_bytes)


def test_vast_images_are_refused_by_their_header():
    image_bytes = bytearray(encode(PICTURE, "bmp"))
    image_bytes[18:26] = (30_000).to_bytes(4, "little") * 2
    with pytest.raises(other_formats.UnreadableImage):
        other_formats.as_readable(bytes(image_bytes))


def test_prepare_reads_them(tmp_path):
    for split in ("train", "val"):
        for name, kind in (("a", "webp"), ("b", "bmp"), ("c", "gif"), ("d", "tiff")):
            (tmp_path / "in" / split / name).mkdir(parents=True)
            (tmp_path / "in" / split / name / f"1.{kind}").write_bytes(encode(PICTURE, kind))
    preparation, _ = prepare.prepare(discovery.find_dataset(str(tmp_path / "in")), tmp_path / "out")
    assert preparation["splits"]["train"]["images"] == 4 and preparation["splits"]["train"]["skipped"] == []
    split = discovery.find_dataset(str(tmp_path / "out")).splits["train"]
    expected = preprocessing.square_of(np.asarray(PICTURE)).numpy().astype(int)
    for index in range(4):
        found = preprocessing.square(split.image_bytes(index)).numpy()
        assert np.abs(found - expected).mean() < 12
