"""Tests of `preprocessing`: Pillow and NumPy are the oracles, coordinate-coded images show where a crop came from."""

import io
import re
import struct

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from alexnet_tf import config, preprocessing


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
    y, x = np.mgrid[0:1:height * 1j, 0:1:width * 1j]
    rng = np.random.default_rng(seed)
    waves = [np.sin(2 * np.pi * (a * x + b * y) + c) for a, b, c in rng.uniform(-3, 3, (3, 3))]
    return (127.5 + 110 * np.stack(waves, -1)).astype("uint8")


def noisy(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), "uint8")


def pillow_square(image_bytes, warp=False):
    image = PIL.Image.open(io.BytesIO(image_bytes)).convert("RGB")
    if not warp:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    return np.asarray(image.resize((256, 256), PIL.Image.Resampling.BILINEAR))


def png_header(height, width):
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", width, height, 8, 2, 0, 0, 0, 0)


def jpeg_that_declares(height, width):
    image_bytes = bytearray(encode(smooth(16, 16), "jpeg"))
    frame = image_bytes.index(b"\xff\xc0")
    image_bytes[frame + 5:frame + 9] = struct.pack(">HH", height, width)
    return bytes(image_bytes)


def in_tf_data(function, *arguments):
    """Returns what a function of tensors gives inside tf.data's graph."""
    dataset = tf.data.Dataset.from_tensors(tuple(tf.constant(a) for a in arguments)).map(function)
    return next(iter(dataset)).numpy()


def eagerly(function, *arguments):
    return function(*(tf.constant(a) for a in arguments)).numpy()


BOTH_WAYS = pytest.mark.parametrize("call", [eagerly, in_tf_data])


@pytest.mark.parametrize("kind", ["jpeg", "png"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (10, 2000), (300, 200), (256, 256)])
def test_image_shape_is_height_and_width(kind, height, width):
    image_bytes = encode(np.zeros((height, width, 3), "uint8"), kind)
    assert [int(n) for n in preprocessing.image_shape(tf.constant(image_bytes))] == [height, width]


@pytest.mark.parametrize("image", [PIL.Image.new(mode, (30, 20)) for mode in ("L", "CMYK", "RGB")])
def test_image_shape_of_jpeg_does_not_depend_on_the_colours(image):
    height, width = preprocessing.image_shape(tf.constant(encode(image, "jpeg", progressive=True)))
    assert (int(height), int(width)) == (20, 30)


def test_image_shape_needs_only_the_header():
    height, width = preprocessing.image_shape(tf.constant(png_header(70, 9000)[:26]))
    assert (int(height), int(width)) == (70, 9000)


BROKEN = [
    (b"", "neither a JPEG nor a PNG image; it has 0 bytes"),
    (b"GIF89a and so on", "neither a JPEG nor a PNG image; it has 16 bytes"),
    (b"<html>not found</html>", "neither a JPEG nor a PNG"),
    (encode(smooth(40, 40))[:20], "damaged|neither a JPEG nor a PNG image; it has 20 bytes"),
    (encode(smooth(40, 40))[:10], "damaged|neither a JPEG nor a PNG image; it has 10 bytes"),
    (encode(smooth(40, 40), "jpeg")[:12], "damaged"),
    (b"\xff\xd8\xff", "damaged"),
    (png_header(30_000, 30_000), "the header declares 30000 x 30000 pixels; at most 100000000 are read"),
    (jpeg_that_declares(30_000, 30_000), "the header declares 30000 x 30000 pixels; at most 100000000"),
    (png_header(20_000, 5_001), "declares 5001 x 20000 pixels"),
    (png_header(65_536, 65_536), "declares 65536 x 65536 pixels"),
    (png_header(0, 10), "declares 10 x 0 pixels"),
    (png_header(2**31 + 5, 10), "the header declares"),
]


def train_crop(image_bytes):
    return preprocessing.train_image(image_bytes, [0, 0], image_size=32)


@pytest.mark.parametrize(("image_bytes", "text"), BROKEN, ids=range(len(BROKEN)))
def test_broken_headers_are_refused_with_the_reason(image_bytes, text):
    for call in (eagerly, in_tf_data):
        for function in (preprocessing.square, train_crop):
            with pytest.raises(tf.errors.InvalidArgumentError) as caught:
                call(function, image_bytes)
            assert re.search(text, preprocessing.reason(caught.value)), call
            assert "{" not in preprocessing.reason(caught.value)


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_square_of_a_file_cut_in_the_middle_is_an_error(kind):
    image_bytes = encode(noisy(300, 300), kind)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        preprocessing.square(tf.constant(image_bytes[:len(image_bytes) // 2]))
    assert preprocessing.reason(caught.value) == "the image data is damaged or of an unsupported kind"


def test_reason_of_a_missing_file_names_it(tmp_path):
    with pytest.raises(tf.errors.NotFoundError) as caught:
        tf.io.read_file(str(tmp_path / "gone.jpg"))
    assert preprocessing.reason(caught.value) == "No such file or directory"


PICTURES = {
    "grey JPEG": encode(smooth(300, 400)[..., 0], "jpeg"),
    "colour JPEG": encode(smooth(300, 400), "jpeg"),
    "progressive JPEG": encode(smooth(300, 400), "jpeg", progressive=True),
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


@pytest.mark.parametrize("name", PICTURES)
def test_square_equals_pillow(name):
    for resize in ("paper", "caffe"):
        image = preprocessing.square(tf.constant(PICTURES[name]), resize)
        assert image.shape == (256, 256, 3) and image.dtype == tf.uint8
        # Rounding, and decoders that place the chroma of a JPEG a little differently.
        np.testing.assert_allclose(
            image.numpy().astype(int), pillow_square(PICTURES[name], resize == "caffe").astype(int),
            rtol=0, atol=6 if "JPEG" in name else 1, err_msg=resize)


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


def test_square_reads_cmyk():
    image_bytes = encode(PIL.Image.fromarray(smooth(300, 400)).convert("CMYK"), "jpeg", quality=95)
    image = preprocessing.square(tf.constant(image_bytes)).numpy()
    assert image.shape == (256, 256, 3)
    np.testing.assert_allclose(image.astype(int), pillow_square(image_bytes), rtol=0, atol=6)


@BOTH_WAYS
@pytest.mark.parametrize("resize", ["paper", "caffe"])
def test_square_leaves_a_256_pixel_image_as_decoded(call, resize):
    pixels = noisy(256, 256)
    jpeg = encode(pixels, "jpeg")
    np.testing.assert_array_equal(call(lambda b: preprocessing.square(b, resize), encode(pixels)), pixels)
    np.testing.assert_array_equal(
        call(lambda b: preprocessing.square(b, resize), jpeg), tf.io.decode_jpeg(jpeg, channels=3))


def test_square_paper_keeps_the_centre_and_caffe_the_whole():
    pixels = np.zeros((256, 768, 3), "uint8")
    pixels[:, :256, 0], pixels[:, 256:512, 1], pixels[:, 512:, 2] = 250, 250, 250
    image_bytes = tf.constant(encode(pixels))
    paper, caffe = preprocessing.square(image_bytes).numpy(), preprocessing.square(image_bytes, "caffe").numpy()
    np.testing.assert_array_equal(paper, pixels[:, 256:512])
    assert [caffe[128, x].argmax() for x in (0, 80, 90, 128, 165, 175, 255)] == [0, 0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(("size", "start"), [(227, 14), (224, 16), (256, 0), (1, 127)])
def test_center_crop_offset_rounds_down(size, start):
    image = coordinates(256, 256)
    crop = preprocessing.center_crop(tf.constant(image), size)
    np.testing.assert_array_equal(crop, image[start:start + size, start:start + size])


def test_center_crop_227_is_rows_14_to_240():
    crop = preprocessing.center_crop(tf.constant(coordinates(256, 256)), 227).numpy()
    assert crop[0, 0].tolist() == [14, 14, 128] and crop[-1, -1].tolist() == [240, 240, 128]


@BOTH_WAYS
def test_ten_crops_are_the_papers(call):
    image = coordinates(256, 256)
    crops = call(lambda i: preprocessing.ten_crops(i, 227), image)
    places = [(0, 0), (0, 29), (29, 0), (29, 29), (14, 14)]
    plain = [image[y:y + 227, x:x + 227] for y, x in places]
    np.testing.assert_array_equal(crops, np.stack(plain + [np.fliplr(crop) for crop in plain]))


@pytest.mark.parametrize("options", [
    {}, {"crop": "random_resized"}, {"resize": "caffe"},
    {"pca_stdevs": config.IMAGENET_PCA_STDEVS, "pca_vectors": config.IMAGENET_PCA_VECTORS}])
@pytest.mark.parametrize("image_bytes", [encode(noisy(300, 400)), encode(noisy(600, 500), "jpeg")])
def test_train_image_same_seed_same_pixels(image_bytes, options):
    def image(image_bytes, seed):
        return preprocessing.train_image(image_bytes, seed, image_size=64, **options)

    first = eagerly(image, image_bytes, [3, 4])
    np.testing.assert_array_equal(first, eagerly(image, image_bytes, [3, 4]))
    # The sum's last bit is the graph optimiser's.
    np.testing.assert_allclose(
        first, in_tf_data(image, image_bytes, [3, 4]), rtol=0, atol=2e-5 if "pca_stdevs" in options else 0)
    assert first.shape == (64, 64, 3)
    assert first.dtype == ("float32" if "pca_stdevs" in options else "uint8")
    assert (first != eagerly(image, image_bytes, [3, 5])).mean() > 0.5


def crop_place(crop, size=227):
    """Returns (row, column, mirrored) of a crop of the coordinate-coded square."""
    mirrored = crop[0, 0, 1] > crop[0, -1, 1]
    return int(crop[0, 0, 0]), int(crop[0, -1 if mirrored else 0, 1]), bool(mirrored)


def places(image_bytes, seeds, **options):
    """Returns [seeds, 3]: rows, columns, mirrored, of training crops."""
    def corners(seed):
        image = preprocessing.train_image(image_bytes, tf.stack([seed, 5]), image_size=227, **options)
        return image[::226, ::226]

    dataset = tf.data.Dataset.range(seeds).map(corners, num_parallel_calls=2)
    return np.array([crop_place(crop) for crop in dataset.as_numpy_iterator()])


def test_train_image_is_a_window_of_the_square_or_its_mirror_image():
    image = coordinates(256, 256)
    image[..., 2] = noisy(256, 256)[..., 2]
    image_bytes, mirrored_seen = tf.constant(encode(image)), set()
    for seed in range(8):
        crop = preprocessing.train_image(image_bytes, [seed, 0], image_size=227).numpy()
        y, x, mirrored = crop_place(crop)
        window = image[y:y + 227, x:x + 227]
        np.testing.assert_array_equal(crop, np.fliplr(window) if mirrored else window)
        mirrored_seen.add(mirrored)
    assert mirrored_seen == {False, True}


def test_train_image_every_offset_comes_equally_often_and_half_is_mirrored():
    y, x, mirrored = places(encode(coordinates(256, 256)), 3000).T
    for offsets in (y, x):
        counts = np.bincount(offsets)
        assert len(counts) == 30 and counts.min() > 0  # 0 to 29, both ends.
        assert ((counts - 100) ** 2 / 100).sum() < 58.3  # Chi square, 29 degrees of freedom, p = 0.001.
    assert abs(mirrored.mean() - 0.5) < 3.3 * 0.5 / 3000 ** 0.5
    assert np.abs(np.corrcoef([y, x, mirrored]) - np.eye(3)).max() < 3.3 / 3000 ** 0.5


def test_train_image_of_the_whole_square_only_mirrors():
    image = noisy(256, 256)
    for seed in range(4):
        crop = preprocessing.train_image(tf.constant(encode(image)), [seed, 0], image_size=256).numpy()
        assert (crop == image).all() or (crop == image[:, ::-1]).all()


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_train_image_of_an_original_of_512_is_the_window_of_its_record(kind):
    # 4:4:4, so that the ramps survive the JPEG.
    options = {"quality": 100, "subsampling": 0} if kind == "jpeg" else {}
    original, record = encode(coordinates(512, 512), kind, **options), encode(coordinates(256, 256))
    for seed in range(6):
        np.testing.assert_allclose(
            preprocessing.train_image(tf.constant(original), [seed, 1], image_size=227).numpy().astype(int),
            preprocessing.train_image(tf.constant(record), [seed, 1], image_size=227).numpy().astype(int),
            rtol=0, atol=2)


@pytest.mark.parametrize(("height", "width", "kind", "resize"), [
    (375, 500, "jpeg", "paper"), (375, 500, "png", "caffe"), (500, 333, "png", "paper"), (500, 333, "jpeg", "caffe"),
    (900, 1400, "jpeg", "caffe"), (900, 1400, "png", "paper"), (2100, 2300, "jpeg", "paper"),
    (120, 150, "jpeg", "paper")])
def test_train_image_of_an_original_is_the_window_of_its_square(height, width, kind, resize):
    options = {"quality": 95} if kind == "jpeg" else {}
    image_bytes = tf.constant(encode(coordinates(height, width), kind, **options))
    square = tf.constant(encode(preprocessing.square(image_bytes, resize).numpy()))
    for seed in range(2):
        from_original, from_square = (
            preprocessing.train_image(b, [seed, 2], image_size=227, resize=resize).numpy().astype(int)
            for b in (image_bytes, square))
        # A grey level is a pixel of the square (less along the side that "paper" cuts): windows are rounded to pixels.
        np.testing.assert_allclose(from_original, from_square, rtol=0, atol=4)
        assert np.abs(from_original - from_square).mean() < 1.2


def test_train_image_random_resized_takes_8_to_100_percent_at_an_aspect_of_3_to_4():
    def corners(seed):
        image = preprocessing.train_image(
            image_bytes, tf.stack([seed, 5]), image_size=128, crop="random_resized")
        return image[::127, ::127]

    image_bytes = encode(coordinates(256, 256))
    crops = tf.data.Dataset.range(600).map(corners, num_parallel_calls=2).as_numpy_iterator()
    crops = np.array(list(crops), int)
    height = crops[:, 1, 0, 0] - crops[:, 0, 0, 0] + 1.0
    width = np.abs(crops[:, 0, 1, 1] - crops[:, 0, 0, 1]) + 1.0
    area, aspect = height * width / 256**2, width / height
    # The outermost samples lie up to a source pixel inside the window.
    assert 0.07 < area.min() < 0.12 and 0.85 < area.max() <= 1
    assert 0.72 < aspect.min() < 0.80 and 1.25 < aspect.max() < 1.39
    assert 0.35 < area.mean() < 0.6
    mirrored = crops[:, 0, 0, 1] > crops[:, 0, 1, 1]
    assert abs(mirrored.mean() - 0.5) < 0.07


@pytest.mark.parametrize("crop", ["window", "random_resized"])
def test_train_image_reads_every_kind(crop):
    for name, image_bytes in PICTURES.items():
        image = preprocessing.train_image(tf.constant(image_bytes), [1, 2], image_size=67, crop=crop)
        assert image.shape == (67, 67, 3) and image.dtype == tf.uint8, name


def noise_of(seeds, stdevs, vectors):
    seeds = tf.stack([tf.range(seeds), tf.zeros([seeds], tf.int32)], 1)
    return tf.function(lambda: tf.map_fn(
        lambda seed: preprocessing.colour_noise(seed, stdevs, vectors), seeds, fn_output_signature=tf.float32)
    )().numpy()


def test_colour_noise_is_the_papers_formula():
    # Section 4.1: [p1 p2 p3] [a1 l1, a2 l2, a3 l3]^T; unit components reveal the a.
    a = noise_of(50, (1.0, 1.0, 1.0), np.eye(3))
    p, l = np.array(config.IMAGENET_PCA_VECTORS), np.array(config.IMAGENET_PCA_STDEVS)
    expected = [p @ (a_ * l) for a_ in a]
    np.testing.assert_allclose(
        noise_of(50, config.IMAGENET_PCA_STDEVS, config.IMAGENET_PCA_VECTORS), expected, rtol=1e-5, atol=1e-4)


def test_colour_noise_has_a_tenth_of_the_stdevs_along_the_components():
    p, l = np.array(config.IMAGENET_PCA_VECTORS), np.array(config.IMAGENET_PCA_STDEVS)
    noise = noise_of(20_000, config.IMAGENET_PCA_STDEVS, config.IMAGENET_PCA_VECTORS)
    np.testing.assert_allclose((noise @ p).std(axis=0), 0.1 * l, rtol=0.02, atol=0)
    np.testing.assert_allclose(
        np.cov(noise.T), p @ np.diag((0.1 * l) ** 2) @ p.T, rtol=0, atol=0.02 * (0.1 * l[2]) ** 2)
    np.testing.assert_allclose(noise.mean(axis=0), 0, rtol=0, atol=0.3)


@pytest.mark.parametrize("grey", [0, 255])
def test_train_image_colour_noise_is_constant_over_the_image_and_unclipped(grey):
    image_bytes = tf.constant(encode(np.full((256, 256, 3), grey, "uint8")))
    images = np.array([preprocessing.train_image(
        image_bytes, [seed, 0], image_size=32, pca_stdevs=config.IMAGENET_PCA_STDEVS,
        pca_vectors=config.IMAGENET_PCA_VECTORS) for seed in range(20)])
    assert images.dtype == "float32"
    np.testing.assert_array_equal(images, np.broadcast_to(images[:, :1, :1], images.shape))
    assert images.min() < grey < images.max()


def test_train_image_colour_noise_leaves_crop_and_mirror_alone():
    image_bytes = tf.constant(encode(noisy(256, 256)))
    plain = preprocessing.train_image(image_bytes, [9, 9], image_size=227).numpy()
    noise = preprocessing.train_image(
        image_bytes, [9, 9], image_size=227, pca_stdevs=(10.0, 10.0, 10.0), pca_vectors=np.eye(3)).numpy() - plain
    np.testing.assert_allclose(noise, np.broadcast_to(noise[:1, :1], noise.shape), rtol=0, atol=1e-4)
    assert np.abs(noise[0, 0]).min() > 0.01
