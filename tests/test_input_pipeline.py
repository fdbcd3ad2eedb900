"""Tests of `input_pipeline`: who comes when. Images of one colour carry their index, so batches can be read."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from alexnet_tf import config, datasets, input_pipeline, preprocessing

EXAMPLES = 23
PLAIN = config.Recipe(batch_size=5, colour_noise=False)
NOISY = config.Recipe(batch_size=5, colour_noise=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Image i has the colour (i, i, i) and the label i % 7."""
    directory = tmp_path_factory.mktemp("files")
    for i in range(EXAMPLES):
        tf.io.write_file(str(directory / f"{i:02d}.png"), tf.io.encode_png(np.full((256, 256, 3), i, "uint8")))
    paths = tuple(str(directory / f"{i:02d}.png") for i in range(EXAMPLES))
    return datasets.ImageFiles(paths, np.arange(EXAMPLES, dtype="int32") % 7)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """The same in a TFDS data set; TFDS shuffles what it writes."""
    directory = tmp_path_factory.mktemp("records")
    features = tfds.features.FeaturesDict({
        "image": tfds.features.Image(shape=(256, 256, 3), encoding_format="png"),
        "label": tfds.features.ClassLabel(num_classes=7)})
    examples = [(i, {"image": np.full((256, 256, 3), i, "uint8"), "label": i % 7}) for i in range(EXAMPLES)]
    tfds.dataset_builders.store_as_tfds_dataset(
        "toy", "1.0.0", features, {"train": examples, "validation": examples[:2]}, data_dir=directory)
    return datasets.find(str(directory)).splits["train"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Images with detail, larger than the square, JPEG: every augmentation shows."""
    directory, paths = tmp_path_factory.mktemp("pictures"), []
    for i in range(EXAMPLES):
        pixels = np.random.default_rng(i).integers(0, 256, (280, 300 + i, 3), "uint8")
        paths.append(str(directory / f"{i}.jpg"))
        tf.io.write_file(paths[-1], tf.io.encode_jpeg(pixels))
    return datasets.ImageFiles(tuple(paths), np.arange(EXAMPLES, dtype="int32") % 7)


def train(split, recipe=PLAIN, **options):
    options = {"image_size": 32, "seed": 0, "epoch": 0} | options
    return input_pipeline.make_train_dataset(split, recipe, **options)


def order(dataset):
    """Returns the examples' indices, batch by batch."""
    batches = []
    for images, labels in dataset.as_numpy_iterator():
        indices = images[:, 0, 0, 0].astype(int)
        np.testing.assert_array_equal(labels, indices % 7)
        np.testing.assert_array_equal(images, np.broadcast_to(indices[:, None, None, None], images.shape))
        batches.append(indices.tolist())
    return batches


@pytest.mark.parametrize("source", ["files", "records"])
@pytest.mark.parametrize("epoch", [0, 7])
def test_make_train_dataset_visits_each_example_at_most_once_and_drops_the_remainder(source, epoch, request):
    batches = order(train(request.getfixturevalue(source), epoch=epoch))
    assert [len(batch) for batch in batches] == [5, 5, 5, 5]
    assert len({index for batch in batches for index in batch}) == 20


@pytest.mark.parametrize("source", ["files", "records"])
def test_make_train_dataset_visits_every_example_exactly_once(source, request):
    [batch] = order(train(request.getfixturevalue(source), config.Recipe(batch_size=EXAMPLES, colour_noise=False)))
    assert sorted(batch) == list(range(EXAMPLES))


def test_make_train_dataset_leaves_out_others_every_epoch(files):
    seen = set()
    for epoch in range(5):
        seen |= set(range(EXAMPLES)) - {index for batch in order(train(files, epoch=epoch)) for index in batch}
    assert len(seen) > 6


def test_make_train_dataset_order_depends_on_seed_and_epoch_alone(files):
    orders = {(seed, epoch): str(order(train(files, seed=seed, epoch=epoch)))
              for seed in (0, 12345) for epoch in (0, 1)}
    assert len(set(orders.values())) == 4
    assert orders[12345, 1] == str(order(train(files, seed=12345, epoch=1)))
    assert all(str(list(range(5)))[1:-1] not in text for text in orders.values())


@pytest.mark.parametrize("seed", [0, 2**31 - 1, 2**40])
def test_make_train_dataset_takes_any_seed(files, seed):
    assert len(order(train(files, seed=seed))) == 4


def batches_of(dataset, threads=None):
    if threads:
        options = tf.data.Options()
        options.threading.private_threadpool_size = threads
        dataset = dataset.with_options(options)
    return [(images, labels) for images, labels in dataset.as_numpy_iterator()]


def assert_same(first, second):
    assert len(first) == len(second)
    for (images, labels), (other_images, other_labels) in zip(first, second):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)


@pytest.mark.parametrize("recipe", [PLAIN, NOISY, config.Recipe(batch_size=5, crop="random_resized"),
                                    config.Recipe(batch_size=5, resize="caffe")],
                         ids=["plain", "noise", "random_resized", "caffe"])
def test_make_train_dataset_resumes_bit_for_bit(pictures, recipe):
    whole = batches_of(train(pictures, recipe, seed=3, epoch=2))
    for first_step in (1, 3):
        assert_same(whole[first_step:], batches_of(train(pictures, recipe, seed=3, epoch=2, first_step=first_step)))
    assert batches_of(train(pictures, recipe, seed=3, epoch=2, first_step=4)) == []


def test_make_train_dataset_is_the_same_on_any_number_of_threads(pictures):
    one, many = (batches_of(train(pictures, NOISY), threads) for threads in (1, 16))
    assert_same(one, many)


def test_make_train_dataset_does_not_read_what_went_before(pictures, tmp_path):
    whole = train(pictures, PLAIN)
    first = [int(input_pipeline._order(tf.constant(i, tf.int64), 0, 0, EXAMPLES)) for i in range(5)]
    paths = tuple(str(tmp_path / "gone") if i in first else path for i, path in enumerate(pictures.paths))
    rest = train(datasets.ImageFiles(paths, pictures.labels), PLAIN, first_step=1)
    assert_same(batches_of(whole)[1:], batches_of(rest))


def test_make_train_dataset_augments_anew_each_epoch(pictures):
    by_label = [{int(images.sum()) for images, _ in batches_of(train(pictures, config.Recipe(
        batch_size=EXAMPLES, colour_noise=False), epoch=epoch))} for epoch in (0, 1)]
    assert by_label[0] != by_label[1]


@pytest.mark.parametrize(("recipe", "add", "dtype"), [
    (PLAIN, True, "uint8"), (NOISY, True, "float32"), (NOISY, False, "uint8")])
def test_make_train_dataset_is_float_only_with_noise(pictures, recipe, add, dtype):
    dataset = train(pictures, recipe, add_colour_noise=add)
    images, labels = dataset.element_spec
    assert images.shape == (5, 32, 32, 3) and images.dtype == dtype
    assert labels.shape == (5,) and labels.dtype == tf.int32
    assert int(dataset.cardinality()) == 4


def test_make_train_dataset_switching_the_noise_off_leaves_the_rest_alone(pictures):
    for (noisy, labels), (plain, other_labels) in zip(
            batches_of(train(pictures, NOISY)), batches_of(train(pictures, NOISY, add_colour_noise=False))):
        np.testing.assert_array_equal(labels, other_labels)
        noise = noisy - plain
        np.testing.assert_allclose(noise, np.broadcast_to(noise[:, :1, :1], noise.shape), rtol=0, atol=1e-4)
        assert len(np.unique(noise[:, 0, 0].round(3))) == 15  # Every image and channel has its own.


@pytest.mark.parametrize("source", ["files", "records"])
@pytest.mark.parametrize("batch_size", [8, 23, 100])
def test_make_evaluation_dataset_visits_every_example_once(source, batch_size, request):
    dataset = input_pipeline.make_evaluation_dataset(
        request.getfixturevalue(source), batch_size=batch_size, image_size=32, resize="paper")
    batches = [(images, labels) for images, labels in dataset.as_numpy_iterator()]
    assert [len(labels) for _, labels in batches] == {8: [8, 8, 7], 23: [23], 100: [23]}[batch_size]
    assert all(images.shape[1:] == (1, 32, 32, 3) and images.dtype == np.uint8 for images, _ in batches)
    indices = np.concatenate([images[:, 0, 0, 0, 0] for images, _ in batches])
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), indices % 7)
    assert sorted(indices) == list(range(EXAMPLES))
    if source == "files":
        assert indices.tolist() == list(range(EXAMPLES))


@pytest.mark.parametrize("resize", ["paper", "caffe"])
def test_make_evaluation_dataset_has_the_crops_of_the_square(pictures, resize):
    square = preprocessing.square(tf.io.read_file(pictures.paths[9]), resize).numpy()
    for ten_crop, count in ((False, 1), (True, 10)):
        dataset = input_pipeline.make_evaluation_dataset(
            pictures, batch_size=10, image_size=227, resize=resize, ten_crop=ten_crop)
        images, _ = next(dataset.as_numpy_iterator())
        assert images.shape == (10, count, 227, 227, 3)
        np.testing.assert_array_equal(images[9, 4 if ten_crop else 0], square[14:241, 14:241])
    np.testing.assert_array_equal(images[9, 8], square[29:, :28:-1])


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 23), (5, 4), (22, 1), (23, 1)])
def test_steps_per_epoch_counts_whole_batches(files, batch_size, steps):
    assert input_pipeline.steps_per_epoch(files, batch_size) == steps


def test_steps_per_epoch_says_what_to_type(files):
    with pytest.raises(datasets.DataError, match=r"got batch_size=24 and 23 images. Use --batch_size=11 or less"):
        input_pipeline.steps_per_epoch(files, 24)
    with pytest.raises(datasets.DataError, match="got batch_size=24"):
        train(files, config.Recipe(batch_size=24))


def test_epoch_order_is_the_order_of_the_data_set(files):
    batches = order(train(files, seed=4, epoch=1))
    indices = list(input_pipeline.epoch_order(files, seed=4, epoch=1))
    assert sorted(indices) == list(range(EXAMPLES)) and indices[:20] == sum(batches, [])
    assert list(input_pipeline.epoch_order(files, seed=4, epoch=1, first_example=15)) == indices[15:]


def bad_image(split, recipe, *, seed=0, epoch=0, first_step=0):
    """Runs an epoch; returns what is said about the image that stops it."""
    with pytest.raises(datasets.DataError) as caught:
        with input_pipeline.naming_bad_images(split, lambda: input_pipeline.epoch_order(
                split, seed=seed, epoch=epoch, first_example=first_step * recipe.batch_size)):
            list(train(split, recipe, seed=seed, epoch=epoch, first_step=first_step))
    return str(caught.value)


def test_naming_bad_images_lets_other_errors_through(files, records):
    for split in (files, records):
        with input_pipeline.naming_bad_images(split, lambda: pytest.fail("looked for a bad image")):
            pass
        with pytest.raises(tf.errors.ResourceExhaustedError):
            with input_pipeline.naming_bad_images(split, lambda: range(EXAMPLES)):
                raise tf.errors.ResourceExhaustedError(None, None, "no memory")


WHOLE_JPEG = tf.io.encode_jpeg(np.random.default_rng(0).integers(0, 256, (300, 300, 3), "uint8")).numpy()


@pytest.mark.parametrize(("image_bytes", "reason"), [
    (b"", "neither a JPEG nor a PNG image; it has 0 bytes"),
    (b"GIF89a....", "neither a JPEG nor a PNG image; it has 10 bytes"),
    (b"\x89PNG\r\n\x1a\n\0\0\0", ""),
    (WHOLE_JPEG[:2000], "the image data is damaged or of an unsupported kind"), (None, "No such file or directory")],
    ids=["empty", "gif", "short", "cut", "missing"])
def test_naming_bad_images_names_the_file_and_the_reason(files, tmp_path, image_bytes, reason):
    path = tmp_path / "猫 broken.jpg"
    if image_bytes is not None:
        path.write_bytes(image_bytes)
    split = datasets.ImageFiles(files.paths[:11] + (str(path),) + files.paths[12:], files.labels)
    text = bad_image(split, config.Recipe(batch_size=EXAMPLES, colour_noise=False))
    assert f"{path}: " in text and reason in text and "\n" not in text


def test_naming_bad_images_finds_the_first_from_the_step_on(files, tmp_path):
    indices, paths = list(input_pipeline.epoch_order(files, seed=4, epoch=1)), list(files.paths)
    for position in (3, 17):
        paths[indices[position]] = str(tmp_path / f"{position}.jpg")
    split = datasets.ImageFiles(tuple(paths), files.labels)
    assert "/3.jpg" in bad_image(split, PLAIN, seed=4, epoch=1)
    assert "/17.jpg" in bad_image(split, PLAIN, seed=4, epoch=1, first_step=1)


def test_naming_bad_images_names_what_stops_random_resized_crops(tmp_path, files):
    # A tall photograph cut at its end: the central square is whole, but the crops reach the missing part.
    pixels = np.random.default_rng(0).integers(0, 256, (900, 200, 3), "uint8")
    image_bytes = tf.io.encode_jpeg(pixels).numpy()
    (tmp_path / "cut.jpg").write_bytes(image_bytes[:len(image_bytes) * 9 // 10])
    split = datasets.ImageFiles((str(tmp_path / "cut.jpg"),) * 50, np.zeros(50, "int32"))
    assert "cut.jpg" in bad_image(split, config.Recipe(batch_size=50, crop="random_resized"))
