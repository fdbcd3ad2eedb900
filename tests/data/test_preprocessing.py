"""Tests of `preprocessing`: Pillow and NumPy are the oracles, coordinate-coded images show where a crop came from."""

import functools
import io
import pathlib
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from alexnet_tf.data import augmentations, preprocessing
from alexnet_tf.network import architectures
from tests.helpers.encoded_images import black_png, declare_jpeg


def encode(image, kind="png", **options):
    """Returns an array or a Pillow image as encoded bytes."""
    image = image if isinstance(image, PIL.Image.Image) else PIL.Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def coordinates(height, width, blue=128):
    """Returns an image whose red is the row and whose green is the column, both scaled to 0..255."""
    image = np.full((height, width, 3), blue, "uint8")
    image[..., 0] = (np.arange(height) * 256 // height)[:, None]
    image[..., 1] = np.arange(width) * 256 // width
    return image


def smooth(height, width, seed=0):
    """Returns a picture without fine detail, so that decoders and resizers can only differ by rounding."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    rng = np.random.default_rng(seed)
    waves = [np.sin(2 * np.pi * (a * x + b * y) + c) for a, b, c in rng.uniform(-3, 3, (3, 3))]
    return (127.5 + 110 * np.stack(waves, -1)).astype("uint8")


def noisy(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), "uint8")


def pillow(image_bytes):
    return np.asarray(PIL.Image.open(io.BytesIO(image_bytes)).convert("RGB"))


def pillow_square(image_bytes, warp=False):
    image = PIL.Image.open(io.BytesIO(image_bytes)).convert("RGB")
    if not warp:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    return np.asarray(image.resize((256, 256), PIL.Image.Resampling.BILINEAR))


def vast_jpeg(side):
    """Returns a whole grey JPEG: each of its blocks is the six bits 00 1010, no change and the block's end."""
    image_bytes = encode(PIL.Image.new("L", (8, 8), 128), "jpeg")
    scan = image_bytes.index(b"\xff\xda")
    return (
        declare_jpeg(image_bytes, side, side)[: scan + 10]
        + b"\x28\xa2\x8a" * (((side + 7) // 8) ** 2 // 4 + 1)
        + b"\xff\xd9"
    )


@functools.cache
def traced(function):
    """Returns a function of tensors as a graph, which is traced once for all tests."""
    return tf.function(function, autograph=False, reduce_retracing=True)


def in_a_graph(function, *arguments):
    """Returns what a function of tensors gives in a graph, as in tf.data and in a SavedModel."""
    return traced(function)(*(tf.constant(a) for a in arguments)).numpy()


def eagerly(function, *arguments):
    return function(*(tf.constant(a) for a in arguments)).numpy()


BOTH_WAYS = pytest.mark.parametrize("call", [eagerly, in_a_graph])


def cut(image_bytes, fraction=0.5):
    return image_bytes[: int(len(image_bytes) * fraction)]


def zeroed(image_bytes):
    """Returns a file whose second half was never written, as after a crash."""
    return cut(image_bytes).ljust(len(image_bytes), b"\0")


DAMAGED = "the image data is cut short, damaged or of an unsupported kind"
TOO_LARGE = "the header declares too many pixels; at most 100,000,000 are read"
# What the reader refuses.
REFUSED = {
    "empty": (b"", "the file is empty"),
    "JPEG's first three bytes": (b"\xff\xd8\xff", DAMAGED),
    "JPEG cut in the header": (encode(smooth(40, 40), "jpeg")[:12], DAMAGED),
    "JPEG cut in the middle": (cut(encode(noisy(300, 300), "jpeg")), DAMAGED),
    "progressive JPEG cut in the middle": (cut(encode(noisy(300, 300), "jpeg", progressive=True), 0.1), DAMAGED),
    "JPEG of no height": (declare_jpeg(encode(smooth(16, 16), "jpeg"), 10, 0), DAMAGED),
    "PNG's first ten bytes": (encode(smooth(40, 40))[:10], DAMAGED),
    "no width": (black_png(0, 10), DAMAGED),
}
# What the graph refuses, as its header is an ordinary one.
BROKEN = {
    "PNG cut in the middle": cut(encode(noisy(300, 300))),
    "PNG half zeros": zeroed(encode(noisy(300, 300))),
}


def train_crop(image_bytes):
    return preprocessing.train_image(image_bytes, tf.constant([[8_380_000] * 2] * 2), image_size=256)


@pytest.mark.parametrize("name", [*REFUSED, *BROKEN])
def test_why_unreadable_says_it_in_words(name):
    image_bytes, reason = (REFUSED | {name: (content, DAMAGED) for name, content in BROKEN.items()})[name]
    assert preprocessing.why_unreadable(image_bytes) == reason


@pytest.mark.parametrize("function", [preprocessing.square, preprocessing.decode, train_crop])
def test_unreadable_images_are_errors(function):
    for name, image_bytes in BROKEN.items():
        for call in (eagerly, in_a_graph):
            with pytest.raises(tf.errors.InvalidArgumentError):
                call(function, image_bytes)
                pytest.fail(name)


def test_vast_images_are_refused_before_they_are_decoded(tmp_path):
    assert preprocessing.why_unreadable(black_png(1000, 1000)) is preprocessing.why_unreadable(vast_jpeg(1000)) is None
    (tmp_path / "vast.png").write_bytes(black_png(30_000, 30_000))
    (tmp_path / "vast.jpg").write_bytes(vast_jpeg(30_000))
    program = """
import pathlib, re, sys
import tensorflow as tf
from alexnet_tf.data import preprocessing

def peak():  # In KiB; getrusage's is the parent's at first.
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])

preprocessing.why_unreadable(b"what only the first call needs")
for path in sys.argv[1:]:
    image_bytes = pathlib.Path(path).read_bytes()
    before = peak()
    print(preprocessing.why_unreadable(image_bytes), (peak() - before) // 1024, sep="|")
"""
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "vast.png"), str(tmp_path / "vast.jpg")],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=pathlib.Path(preprocessing.__file__).parents[2],
    )
    assert result.returncode == 0, result.stderr
    (reason, first), (other, second) = (line.split("|") for line in result.stdout.splitlines())
    assert reason == other == TOO_LARGE and int(first) < 100 > int(second)


PICTURES = {
    "grey JPEG": encode(smooth(300, 400)[..., 0], "jpeg"),
    "colour JPEG": encode(smooth(300, 400), "jpeg"),
    "progressive JPEG": encode(smooth(300, 400), "jpeg", progressive=True),
    "CMYK JPEG": encode(PIL.Image.fromarray(smooth(300, 400)).convert("CMYK"), "jpeg", quality=95),
    "large JPEG": encode(smooth(1100, 700), "jpeg"),
    "small JPEG": encode(smooth(60, 80), "jpeg", subsampling=0),
    "grey PNG": encode(smooth(400, 300)[..., 0]),
    "colour PNG": encode(smooth(331, 500)),
    "grey PNG with alpha": encode(PIL.Image.fromarray(smooth(300, 300)[..., :2].copy(), "LA")),
    "palette PNG": encode(PIL.Image.fromarray(smooth(300, 400)).quantize(256)),
    "large PNG": encode(smooth(700, 1101)),
    "small PNG": encode(smooth(80, 61)),
    "tall PNG": encode(smooth(2000, 10)),
    "wide PNG": encode(smooth(10, 2000)),
    "one pixel PNG": encode(np.full((1, 1, 3), 77, "uint8")),
    "one pixel JPEG": encode(np.full((1, 1, 3), 77, "uint8"), "jpeg"),
    "wide JPEG": encode(smooth(10, 2000), "jpeg"),
}


READABLE = {
    "16-bit PNG": tf.io.encode_png(np.arange(300, dtype="uint16").reshape(10, 10, 3) * 200).numpy(),
    "grey 16-bit PNG": tf.io.encode_png(np.arange(100, dtype="uint16").reshape(10, 10, 1) * 600).numpy(),
    "one-bit PNG": encode(PIL.Image.new("1", (30, 20))),
    "palette PNG with transparency": encode(PIL.Image.new("P", (30, 20)), transparency=0),
    "colour PNG with alpha": encode(PIL.Image.new("RGBA", (30, 20))),
    "PNG with a tail": encode(smooth(30, 40)) + bytes(50),
    **{
        f"{width} x {height} {kind}": encode(np.zeros((height, width, 3), "uint8"), kind)
        for width, height in ((20_000, 10), (10, 20_000))
        for kind in ("jpeg", "png")
    },
}


@pytest.mark.parametrize("name", [*PICTURES, *READABLE])
def test_why_unreadable_is_none_for_what_square_reads(name):
    image_bytes = (PICTURES | READABLE)[name]
    assert preprocessing.why_unreadable(image_bytes) is None
    assert eagerly(preprocessing.square, image_bytes).shape == (256, 256, 3)


@BOTH_WAYS
def test_decode_is_pillows_and_damage_is_found_anywhere(call):
    png, jpeg = encode(noisy(30, 50)), encode(noisy(600, 256), "jpeg", subsampling=0)
    np.testing.assert_array_equal(call(preprocessing.decode, png), noisy(30, 50))
    np.testing.assert_array_equal(call(preprocessing.decode, jpeg), pillow(jpeg))
    assert preprocessing.why_unreadable(cut(jpeg, 0.97)) == preprocessing.why_unreadable(cut(png, 0.97)) == DAMAGED


@pytest.mark.parametrize("name", PICTURES)
def test_square_equals_pillow(name):
    for resize in ("paper", "caffe"):
        image = preprocessing.square(tf.constant(PICTURES[name]), resize)
        assert image.shape == (256, 256, 3) and image.dtype == tf.uint8
        difference = np.abs(image.numpy().astype(int) - pillow_square(PICTURES[name], resize == "caffe"))
        # Rounding; where the window of a JPEG is decoded alone, the chroma at its edge has no neighbour.
        has_chroma = name in ("colour JPEG", "progressive JPEG") and resize == "paper"
        assert difference[:, 1:-1].max() <= 1 and difference.max() <= 1 + has_chroma


def test_square_drops_alpha_without_blending():
    pixels = smooth(256, 256)
    alpha = np.full((256, 256, 1), 10, "uint8")
    image = preprocessing.square(tf.constant(encode(np.concatenate([pixels, alpha], -1))))
    np.testing.assert_array_equal(image, pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_square_of_sixteen_bits_keeps_the_upper_eight(channels):
    pixels = np.random.default_rng(0).integers(0, 65536, (256, 256, channels), "uint16")
    image = preprocessing.square(tf.io.encode_png(pixels)).numpy()
    np.testing.assert_allclose(image, np.broadcast_to(pixels / 257, (256, 256, 3)), rtol=0, atol=1)


@BOTH_WAYS
@pytest.mark.parametrize("resize", ["paper", "caffe"])
def test_square_leaves_a_256_pixel_image_as_decoded(call, resize):
    pixels, square = noisy(256, 256), functools.partial(preprocessing.square, resize=resize)
    jpeg = encode(pixels, "jpeg")
    np.testing.assert_array_equal(call(square, encode(pixels)), pixels)
    np.testing.assert_array_equal(call(square, jpeg), pillow(jpeg))


@pytest.mark.parametrize("resize", ["paper", "caffe"])
def test_square_of_a_decoded_image_is_its_square(resize):
    def both(image_bytes):
        image = preprocessing.decode(image_bytes)
        return preprocessing.square(image_bytes, resize), preprocessing.square_of(image, resize)

    for name, image_bytes in PICTURES.items():
        for function in (both, traced(both)):
            square, image = (each.numpy() for each in function(tf.constant(image_bytes)))
            assert image.shape == (256, 256, 3) and image.dtype == np.uint8
            # Where the window of a JPEG is decoded alone, the chroma at its edge has no neighbour.
            np.testing.assert_array_equal(image[:, 1:-1], square[:, 1:-1], err_msg=name)
            has_chroma = name in ("colour JPEG", "progressive JPEG") and resize == "paper"
            np.testing.assert_allclose(image.astype(int), square, rtol=0, atol=2 if has_chroma else 0, err_msg=name)


@pytest.mark.parametrize(("size", "start"), [(227, 14), (224, 16), (256, 0), (1, 127)])
def test_center_crop_offset_rounds_down(size, start):
    image = coordinates(256, 256)
    crop = preprocessing.center_crop(tf.constant(image), size)
    np.testing.assert_array_equal(crop, image[start : start + size, start : start + size])


@BOTH_WAYS
def test_ten_crops_are_the_papers(call):
    image = coordinates(256, 256)
    crops = call(lambda i: preprocessing.ten_crops(i, 227), image)
    places = [(0, 0), (0, 29), (29, 0), (29, 29), (14, 14)]
    plain = [image[y : y + 227, x : x + 227] for y, x in places]
    np.testing.assert_array_equal(crops, np.stack(plain + [np.fliplr(crop) for crop in plain]))


NEARLY_ONE = np.nextafter(np.float32(1), np.float32(0))
OPTIONS = [{}, {"crop": "random_resized"}, {"resize": "caffe"}]


def seeds(draws):
    """Returns the seeds whose bits are (down, right, mirror), int32 [..., 2, 2]."""
    draws = np.asarray(draws, "float64")
    draws = np.concatenate([draws[..., :3], np.full((*draws.shape[:-1], 1), 0.9)], -1)
    return np.floor(draws * 2**23).astype("int32").reshape(*draws.shape[:-1], 2, 2)


@functools.cache
def crop_of(size, **options):
    """Returns the function from (image bytes, seeds) to a training crop; the same one for equal options."""
    return lambda image_bytes, seeds: preprocessing.train_image(image_bytes, seeds, image_size=size, **options)


def train(call, image_bytes, draws, size=227, **options):
    """Returns the training crops that several draws take from an image, [n, size, size, 3]."""
    return np.stack([call(crop_of(size, **options), image_bytes, each) for each in seeds(draws)])


def window(square, down, right, mirror, size=227):
    """Returns what the draws mean, in NumPy."""
    y, x = (int(draw * (256 - size + 1)) for draw in (down, right))
    crop = square[y : y + size, x : x + size]
    return crop[:, ::-1] if mirror < 0.5 else crop


@BOTH_WAYS
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("image_bytes", [encode(noisy(300, 400)), encode(noisy(600, 500), "jpeg")])
def test_train_image_same_draws_same_pixels(call, image_bytes, options):
    draws = [(0.3, 0.7, 0.2), (0.3, 0.7, 0.2), (0.4, 0.7, 0.2), (0.3, 0.8, 0.2), (0.3, 0.7, 0.8)]
    first, again, *others = train(call, image_bytes, draws, 64, **options)
    np.testing.assert_array_equal(first, again)
    assert first.shape == (64, 64, 3) and first.dtype == np.uint8
    assert all((first != other).mean() > 0.5 for other in others)


# Down, right, mirror: both ends, and what stands at another place when two are mistaken for each other.
DRAWS = [
    (0, 0, 0),
    (0, 0.999999, 0.999999),
    (0.999999, 0, 0.49999997),
    (NEARLY_ONE, NEARLY_ONE, 0.5),
    (0.11, 0.61, 0.7),
]
RECORDS = {
    "PNG": encode(noisy(256, 256)),
    "JPEG 4:4:4": encode(noisy(256, 256), "jpeg", subsampling=0),
    "grey JPEG": encode(noisy(256, 256)[..., 0], "jpeg"),
    "prepared": tf.io.encode_jpeg(noisy(256, 256), quality=90, chroma_downsampling=True).numpy(),
}


@BOTH_WAYS
@pytest.mark.parametrize("size", [227, 32])
@pytest.mark.parametrize("name", RECORDS)
def test_train_image_of_256_pixels_is_the_window_that_the_draws_say(call, name, size):
    square = pillow(RECORDS[name])
    expected = np.stack([window(square, *draws, size) for draws in DRAWS])
    # A JPEG with fewer pixels of chroma: at the window's own left and right edge, and nowhere else, they are not
    # blended with their neighbours outside (up to 44 grey levels in this noise).
    inside = slice(1, -1) if name == "prepared" else slice(None)
    for is_square in (False, True)[: 1 + (name != "PNG")]:
        crops = train(call, RECORDS[name], DRAWS, size, is_square=is_square)
        np.testing.assert_array_equal(crops[:, :, inside], expected[:, :, inside])


@BOTH_WAYS
def test_train_image_of_a_record_decodes_only_the_window(call):
    damaged = cut(RECORDS["prepared"], 0.97)
    np.testing.assert_array_equal(
        train(call, damaged, [(0, 0.5, 0)], is_square=True), train(call, RECORDS["prepared"], [(0, 0.5, 0)])
    )
    with pytest.raises(tf.errors.InvalidArgumentError):
        train(call, damaged, [(NEARLY_ONE, 0.5, 0)], is_square=True)


def crop_place(crop):
    """Returns (row, column, mirrored) of a crop of the coordinate-coded square."""
    mirrored = crop[0, 0, 1] > crop[0, -1, 1]
    return int(crop[0, 0, 0]), int(crop[0, -1 if mirrored else 0, 1]), bool(mirrored)


def corners_of(image_bytes, draws, size, **options):
    """Returns the four corners of training crops, uint8 [n, 2, 2, 3]."""

    def corners(seeds):
        image = preprocessing.train_image(image_bytes, seeds, image_size=size, **options)
        return image[:: size - 1, :: size - 1]

    dataset = tf.data.Dataset.from_tensor_slices(seeds(draws)).map(corners, num_parallel_calls=2)
    return np.array(list(dataset.as_numpy_iterator()))


@pytest.mark.parametrize("size", [227, 224, 67])
def test_train_image_every_offset_has_its_equal_share_of_the_draws(size):
    draws, offsets = np.random.default_rng(0).random((600, 3)), 256 - size + 1
    draws[:offsets, 0] = draws[offsets : 2 * offsets, 1] = (np.arange(offsets) + 0.001) / offsets
    draws[:offsets, 1] = draws[offsets : 2 * offsets, 0] = (np.arange(offsets) + 0.999) / offsets
    places = [crop_place(crop) for crop in corners_of(encode(coordinates(256, 256)), draws, size)]
    y, x, mirrored = np.array(places).T
    np.testing.assert_array_equal(y, np.floor(draws[:, 0] * offsets))
    np.testing.assert_array_equal(x, np.floor(draws[:, 1] * offsets))
    np.testing.assert_array_equal(mirrored, draws[:, 2] < 0.5)
    assert set(y) == set(x) == set(range(offsets))


@pytest.mark.parametrize(
    ("height", "width", "kind", "resize"),
    [
        (375, 500, "jpeg", "paper"),
        (375, 500, "png", "caffe"),
        (500, 333, "png", "paper"),
        (500, 333, "jpeg", "caffe"),
        (900, 1400, "jpeg", "caffe"),
        (900, 1400, "png", "paper"),
        (2100, 2300, "jpeg", "paper"),
        (120, 150, "jpeg", "paper"),
    ],
)
def test_train_image_of_an_original_is_the_window_of_its_square(height, width, kind, resize):
    options = {"quality": 95} if kind == "jpeg" else {}
    image_bytes = encode(coordinates(height, width), kind, **options)
    square = eagerly(lambda b: preprocessing.square(b, resize), image_bytes)
    expected = np.stack([window(square, *draws) for draws in DRAWS]).astype(int)
    crops = train(eagerly, image_bytes, DRAWS, resize=resize)
    # A grey level is a pixel of the square (less along the side that "paper" cuts): windows are rounded to pixels.
    np.testing.assert_allclose(crops.astype(int), expected, rtol=0, atol=4 if height > 256 else 5)
    assert np.abs(crops - expected).mean(axis=(1, 2, 3)).max() < 1.2
    np.testing.assert_array_equal(crops, train(in_a_graph, image_bytes, DRAWS, resize=resize))


@BOTH_WAYS
@pytest.mark.parametrize("resize", ["paper", "caffe"])
@pytest.mark.parametrize(("height", "width"), [(500, 731), (180, 200)])
def test_train_image_of_a_png_is_antialiased_as_pillow_does(call, resize, height, width):
    image, expected = noisy(height, width), []
    for down, right, mirror in DRAWS:
        region = np.array([height, width] if resize == "caffe" else [min(height, width)] * 2)
        offsets = np.floor(np.array([down, right]) * 30)
        top, left = ((np.array([height, width]) - region) // 2 + offsets / 256 * region).round().astype(int)
        rows, columns = (region * 227 / 256).round().astype(int)
        box = PIL.Image.fromarray(image[top : top + rows, left : left + columns])
        assert box.size == (columns, rows)
        crop = np.asarray(box.resize((227, 227), PIL.Image.Resampling.BILINEAR)).astype(int)
        expected.append(crop[:, ::-1] if mirror < 0.5 else crop)
    crops = train(call, encode(image), DRAWS, resize=resize)
    np.testing.assert_allclose(crops.astype(int), expected, rtol=0, atol=1)


@BOTH_WAYS
@pytest.mark.parametrize(
    ("height", "width", "halved"),
    [
        (255, 255, 1),
        (400, 400, 1),
        (511, 511, 1),
        (512, 512, 2),
        (1023, 1023, 2),
        (1024, 1024, 4),
        (1700, 1700, 4),
        (2048, 2048, 8),
        (300, 1200, 1),
        (1200, 600, 2),
    ],
)
def test_train_image_of_a_large_jpeg_is_halved_while_both_sides_stay_large_enough(call, height, width, halved):
    image_bytes = encode(noisy(height, width)[..., 0], "jpeg")
    draft = PIL.Image.open(io.BytesIO(image_bytes))
    draft.draft("L", (width // halved, height // halved))  # The same scaling by the decoder.
    assert draft.size == (-(-width // halved), -(-height // halved))
    rows, columns = (round(side * 227 / 256 / halved) for side in (height, width))
    expected = np.repeat(np.asarray(draft)[:rows, :columns, None], 3, 2)
    if (rows, columns) != (227, 227):
        expected = tf.image.resize(expected, [227, 227])
    [crop] = train(call, image_bytes, [(0, 0, 0.9)], resize="caffe")
    np.testing.assert_allclose(crop, expected, rtol=0, atol=0.5)


def test_train_image_random_resized_takes_8_to_100_percent_at_an_aspect_of_3_to_4():
    draws = np.random.default_rng(0).random((600, 4))
    crops = corners_of(encode(coordinates(256, 256)), draws, 128, crop="random_resized").astype(int)
    height = crops[:, 1, 0, 0] - crops[:, 0, 0, 0] + 1.0
    width = np.abs(crops[:, 0, 1, 1] - crops[:, 0, 0, 1]) + 1.0
    area, aspect = height * width / 256**2, width / height
    # The outermost samples lie up to a source pixel inside the window.
    assert 0.07 < area.min() < 0.12 and 0.85 < area.max() <= 1
    assert 0.72 < aspect.min() < 0.80 and 1.25 < aspect.max() < 1.39
    assert 0.35 < area.mean() < 0.6
    np.testing.assert_array_equal(crops[:, 0, 0, 1] > crops[:, 0, 1, 1], draws[:, 2] < 0.5)
    assert len({(h, w) for h, w in zip(height, width)}) > 500  # Windows of their own, not of one seed.


@pytest.mark.parametrize("options", OPTIONS)
def test_train_image_reads_every_kind(options):
    for name, image_bytes in (PICTURES | READABLE).items():
        crops = train(eagerly, image_bytes, [(0, 0, 0), (NEARLY_ONE, NEARLY_ONE, 0.9)], 67, **options)
        assert crops.shape == (2, 67, 67, 3) and crops.dtype == np.uint8, name


NORMALS = np.random.default_rng(0).standard_normal((20_000, 3)).astype("float32")
PCA = {
    "of ImageNet": (architectures.IMAGENET_PCA_STDEVS, architectures.IMAGENET_PCA_VECTORS),
    "of no symmetry": ((1.0, 20.0, 300.0), ((0.1, -0.2, 0.3), (0.4, 0.5, -0.6), (0.7, 0.8, 0.9))),
}


@BOTH_WAYS
@pytest.mark.parametrize("pca", PCA)
def test_colour_noise_is_the_papers_formula(call, pca):
    stdevs, vectors = PCA[pca]
    noise = call(lambda n: augmentations.colour_noise(n, stdevs, vectors), NORMALS[:50])
    # Section 4.1: [p1 p2 p3] [a1 l1, a2 l2, a3 l3]^T, a = 0.1 * normal.
    expected = [
        [sum(0.1 * float(n[k]) * stdevs[k] * vectors[colour][k] for k in range(3)) for colour in range(3)]
        for n in NORMALS[:50]
    ]
    np.testing.assert_allclose(noise, expected, rtol=1e-5, atol=1e-5 * stdevs[2])
    assert noise.shape == (50, 3) and noise.dtype == np.float32
