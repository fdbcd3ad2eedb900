"""Tests of `input_pipeline`: who comes when. Images of one colour carry their index, so batches can be read."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from alexnet_tf.data import augmentations, datasets, discovery, input_pipeline, preprocessing
from alexnet_tf.network import recipes
from alexnet_tf.support import errors

EXAMPLES = 23
PLAIN = recipes.Recipe(batch_size=5, colour_noise=False)
PCA = ((10.0, 20.0, 60.0), np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0].tolist())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Image i has the colour (i, i, i) and the label i % 7."""
    directory = tmp_path_factory.mktemp("files")
    for i in range(EXAMPLES):
        image = tf.io.encode_jpeg(np.full((256, 256, 3), i, "uint8"), quality=100)  # Which keeps an even grey.
        tf.io.write_file(str(directory / f"{i:02d}.jpg"), image)
    paths = tuple(str(directory / f"{i:02d}.jpg") for i in range(EXAMPLES))
    return datasets.ImageFiles(paths, np.arange(EXAMPLES, dtype="int32") % 7)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """The same in a TFDS data set; TFDS shuffles what it writes."""
    directory = tmp_path_factory.mktemp("records")
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(256, 256, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(num_classes=7),
        }
    )
    examples = [(i, {"image": np.full((256, 256, 3), i, "uint8"), "label": i % 7}) for i in range(EXAMPLES)]
    tfds.dataset_builders.store_as_tfds_dataset(
        "toy", "1.0.0", features, {"train": examples, "validation": examples[:2]}, data_dir=directory
    )
    return discovery.find_dataset(str(directory)).splits["train"]


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
def test_make_train_dataset_visits_every_example_exactly_once(source, request):
    [batch] = order(train(request.getfixturevalue(source), recipes.Recipe(batch_size=EXAMPLES, colour_noise=False)))
    assert sorted(batch) == list(range(EXAMPLES))


def test_make_train_dataset_order_depends_on_seed_and_epoch_alone(files):
    orders = {
        (seed, epoch): str(order(train(files, seed=seed, epoch=epoch))) for seed in (0, 2**40 + 1) for epoch in (0, 1)
    }
    assert len(set(orders.values())) == 4
    assert orders[2**40 + 1, 1] == str(order(train(files, seed=2**40 + 1, epoch=1)))
    assert all(str(list(range(5)))[1:-1] not in text for text in orders.values())


def batches_of(dataset, threads=None):
    """Returns the batches as lists of arrays: images, noise if there is some, labels."""
    if threads:
        options = tf.data.Options()
        options.threading.private_threadpool_size = threads
        dataset = dataset.with_options(options)
    return [tf.nest.flatten(batch) for batch in dataset.as_numpy_iterator()]


def assert_same(first, second):
    assert len(first) == len(second)
    for arrays, others in zip(first, second):
        for array, other in zip(arrays, others, strict=True):
            np.testing.assert_array_equal(array, other)


@pytest.mark.parametrize(
    ("recipe", "pca"),
    [
        (PLAIN, None),
        (PLAIN, PCA),
        (recipes.Recipe(batch_size=5, crop="random_resized"), None),
        (recipes.Recipe(batch_size=5, resize="caffe"), None),
    ],
    ids=["plain", "noise", "random_resized", "caffe"],
)
def test_make_train_dataset_resumes_bit_for_bit(pictures, recipe, pca):
    whole = batches_of(train(pictures, recipe, seed=3, epoch=2, colour_pca=pca))
    for first_step in (1, 3):
        assert_same(
            whole[first_step:],
            batches_of(train(pictures, recipe, seed=3, epoch=2, first_step=first_step, colour_pca=pca)),
        )
    assert batches_of(train(pictures, recipe, seed=3, epoch=2, first_step=4)) == []


@pytest.mark.parametrize("recipe", [PLAIN, recipes.Recipe(batch_size=4, crop="random_resized")], ids=["5", "4"])
def test_make_train_dataset_of_several_epochs_is_one_after_the_other(pictures, recipe):
    def epochs(epoch, **options):
        return batches_of(train(pictures, recipe, seed=3, epoch=epoch, colour_pca=PCA, **options))

    assert_same(epochs(2, num_epochs=3, first_step=1), [*epochs(2, first_step=1), *epochs(3), *epochs(4)])


def test_make_train_dataset_is_the_same_on_any_number_of_threads(pictures):
    one, many = (batches_of(train(pictures, colour_pca=PCA), threads) for threads in (1, 16))
    assert_same(one, many)


def test_make_train_dataset_does_not_read_what_went_before(pictures, tmp_path):
    whole = train(pictures, PLAIN)
    first = [int(input_pipeline._order(tf.constant(i, tf.int64), 0, 0, EXAMPLES)) for i in range(5)]
    paths = tuple(str(tmp_path / "gone") if i in first else path for i, path in enumerate(pictures.paths))
    rest = train(datasets.ImageFiles(paths, pictures.labels), PLAIN, first_step=1)
    assert_same(batches_of(whole)[1:], batches_of(rest))


def test_make_train_dataset_keeps_pixels_uint8_and_gives_the_noise_beside_them(pictures):
    dataset = train(pictures, colour_pca=PCA)
    shapes_and_types = [(each.shape, each.dtype) for each in tf.nest.flatten(dataset.element_spec)]
    assert shapes_and_types == [((5, 32, 32, 3), tf.uint8), ((5, 3), tf.float32), ((5,), tf.int32)]
    assert_same([[images, labels] for images, _, labels in batches_of(dataset)], batches_of(train(pictures)))


def test_make_train_dataset_draws_the_noise_of_the_paper_anew_for_each_image_and_epoch(files):
    many = files.subset(np.resize(np.arange(EXAMPLES), 1000))
    batches = [
        batch
        for epoch in (0, 1)
        for batch in batches_of(train(many, recipes.Recipe(batch_size=50), epoch=epoch, image_size=8, colour_pca=PCA))
    ]
    noise = np.concatenate([noise for _, noise, _ in batches])
    assert len(np.unique(noise, axis=0)) == 2000
    stdevs, vectors = np.array(PCA[0]), np.array(PCA[1])
    components = noise @ vectors  # The vectors are orthonormal.
    np.testing.assert_allclose(components.std(axis=0), 0.1 * stdevs, rtol=0.08)
    np.testing.assert_allclose(components.mean(axis=0) / stdevs, 0, atol=0.01)
    np.testing.assert_allclose(np.corrcoef(components.T), np.eye(3), atol=0.08)


def test_add_noise_is_the_same_colour_at_every_pixel_and_is_not_clipped():
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), "uint8")
    noise = np.array([[1.5, -300, 0], [0, 300, 2]], "float32")
    result = augmentations.add_noise(images, noise).numpy()
    np.testing.assert_array_equal(result, images.astype("float32") + noise.reshape(2, 1, 1, 3))
    assert result.min() < -40 and result.max() > 300


def test_make_train_dataset_draws_offsets_and_mirrors_independently_and_evenly(tmp_path):
    for i in range(16):  # Red is the row, green the column, blue the image.
        image = np.stack([*np.mgrid[0:256, 0:256], np.full((256, 256), i)], -1).astype("uint8")
        tf.io.write_file(str(tmp_path / f"{i:02d}.png"), tf.io.encode_png(image))
    split = datasets.ImageFiles(tuple(str(tmp_path / f"{i:02d}.png") for i in range(16)), np.zeros(16, "int32"))
    many, found = split.subset(np.resize(np.arange(16), 800)), []
    for epoch in (0, 1):
        for images, _ in batches_of(train(many, recipes.Recipe(batch_size=16), image_size=227, epoch=epoch)):
            mirrored = images[:, 0, 0, 1] > images[:, 0, -1, 1]
            left = np.where(mirrored, images[:, 0, -1, 1], images[:, 0, 0, 1])
            found.append(np.stack([images[:, 0, 0, 0], left, mirrored, images[:, 0, 0, 2]]))
    top, left, mirrored, index = np.concatenate(found, axis=1).astype(int)
    for offsets in (top, left):
        assert offsets.min() == 0 and offsets.max() == 29
        assert (np.abs(np.bincount(offsets, minlength=30) / 1600 - 1 / 30) < 0.02).all()
    assert abs(mirrored.mean() - 0.5) < 0.05
    np.testing.assert_allclose(np.corrcoef(np.stack([top, left, mirrored, index])), np.eye(4), atol=0.1)
    assert (top[:800] == top[800:]).mean() < 0.1 and (left[:800] == left[800:]).mean() < 0.1  # Anew each epoch.


@pytest.mark.parametrize(
    ("source", "batch_size", "num_workers"),
    [("files", 20, 2), ("records", 6, 3), ("pictures", 6, 2), ("pictures", 6, 3)],
)
def test_make_train_dataset_divides_each_batch_among_the_workers(source, batch_size, num_workers, request):
    split, recipe = request.getfixturevalue(source), recipes.Recipe(batch_size=batch_size)
    whole = batches_of(train(split, recipe, seed=2, colour_pca=PCA))
    for first_step in (0, len(whole) - 1):
        parts = [
            batches_of(
                train(
                    split, recipe, seed=2, colour_pca=PCA, first_step=first_step, worker=worker, num_workers=num_workers
                )
            )
            for worker in range(num_workers)
        ]
        together = [[np.concatenate(arrays) for arrays in zip(*batches)] for batches in zip(*parts)]
        assert_same(whole[first_step:], together)


def test_make_train_dataset_worker_reads_nothing_of_the_others(files, tmp_path):
    indices = input_pipeline.batch_indices(files, recipes.Recipe(batch_size=22), seed=0, epoch=0, step=0)
    paths = [str(tmp_path / "gone") if i in indices[11:] else path for i, path in enumerate(files.paths)]
    split = datasets.ImageFiles(tuple(paths), files.labels)
    [batch] = order(train(split, recipes.Recipe(batch_size=22), worker=0, num_workers=2))
    assert batch == indices[:11]


def test_make_train_dataset_refuses_workers_that_do_not_divide_the_batch(files):
    with pytest.raises(errors.UserError, match="got 5 and 2"):
        train(files, PLAIN, num_workers=2)


@pytest.mark.parametrize("source", ["files", "records"])
@pytest.mark.parametrize("batch_size", [1, 5, 23])
def test_batch_indices_are_those_of_the_data_set(source, batch_size, request):
    split, recipe = request.getfixturevalue(source), recipes.Recipe(batch_size=batch_size)
    batches = [labels for _, labels in batches_of(train(split, recipe, seed=4, epoch=1))]
    for step, labels in enumerate(batches):
        indices = input_pipeline.batch_indices(split, recipe, seed=4, epoch=1, step=step)
        assert [split.label(index) for index in indices] == labels.tolist()


def test_make_train_dataset_puts_the_next_readable_image_in_the_place_of_a_skipped_one(files):
    plain = sum(order(train(files, seed=1)), [])
    skipped = {plain[3], plain[7], 22, 21}
    expected = []
    for index in plain:
        while index in skipped:
            index = (index + 1) % EXAMPLES
        expected.append(index)
    assert sum(order(train(files, seed=1, skipped=skipped)), []) == expected
    assert input_pipeline.batch_indices(files, PLAIN, seed=1, epoch=0, step=1, skipped=skipped) == expected[5:10]


def test_make_train_dataset_of_a_million_images_starts_anywhere_without_reading_or_remembering(records):
    many = records.subset(np.resize(np.arange(EXAMPLES), 1_281_167))
    recipe = recipes.Recipe(batch_size=128)
    steps = input_pipeline.steps_per_epoch(many, 128)
    [(_, last)] = batches_of(train(many, recipe, epoch=1, first_step=steps - 1))
    indices = input_pipeline.batch_indices(many, recipe, seed=0, epoch=1, step=steps - 1)
    assert last.tolist() == [many.label(index) for index in indices] and len(set(indices)) == 128


def evaluation(split, **options):
    return list(
        input_pipeline.evaluation_batches(split, **{"batch_size": 8, "image_size": 32, "resize": "paper"} | options)
    )


@pytest.mark.parametrize("source", ["files", "records"])
@pytest.mark.parametrize("batch_size", [8, 23, 100])
def test_evaluation_batches_visit_every_example_once(source, batch_size, request):
    batches = [
        (images.numpy(), labels.numpy())
        for images, labels in evaluation(request.getfixturevalue(source), batch_size=batch_size)
    ]
    assert [len(labels) for _, labels in batches] == {8: [8, 8, 7], 23: [23], 100: [23]}[batch_size]
    assert all(images.shape[1:] == (1, 32, 32, 3) and images.dtype == np.uint8 for images, _ in batches)
    indices = np.concatenate([images[:, 0, 0, 0, 0] for images, _ in batches])
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), indices % 7)
    assert sorted(indices) == list(range(EXAMPLES))
    if source == "files":
        assert indices.tolist() == list(range(EXAMPLES))


@pytest.mark.parametrize("resize", ["paper", "caffe"])
def test_evaluation_batches_have_the_crops_of_the_square(pictures, resize):
    square = preprocessing.square(tf.io.read_file(pictures.paths[9]), resize).numpy()
    for ten_crop, count in ((False, 1), (True, 10)):
        images, _ = evaluation(pictures, batch_size=10, image_size=227, resize=resize, ten_crop=ten_crop)[0]
        assert images.shape == (10, count, 227, 227, 3)
        np.testing.assert_array_equal(images[9, 4 if ten_crop else 0], square[14:241, 14:241])
    np.testing.assert_array_equal(images[9, 8], square[29:, :28:-1])


def test_steps_per_epoch_says_what_to_type(files):
    with pytest.raises(errors.DataError, match=r"got batch_size=24 and 23 images. Use --batch_size=11 or less"):
        input_pipeline.steps_per_epoch(files, 24)
    with pytest.raises(errors.DataError, match="got batch_size=24"):
        train(files, recipes.Recipe(batch_size=24))


WHOLE_JPEG = tf.io.encode_jpeg(np.random.default_rng(0).integers(0, 256, (300, 300, 3), "uint8")).numpy()


def broken(files, tmp_path, bad):
    """Returns the split with other bytes in some places; None is a missing file."""
    paths = list(files.paths)
    for index, image_bytes in bad.items():
        paths[index] = str(tmp_path / f"猫 broken {index}.jpg")
        if image_bytes is not None:
            tf.io.write_file(paths[index], image_bytes)
    return datasets.ImageFiles(tuple(paths), files.labels)


@pytest.mark.parametrize("batch_size", [1, 8, 23])
def test_evaluation_batches_skip_what_cannot_be_read_and_nothing_else(files, tmp_path, capsys, batch_size):
    bad = {0: b"", 7: None, 8: WHOLE_JPEG[:2000], 22: b"GIF89a......"}
    split, skipped = broken(files, tmp_path, bad), {}
    for _ in range(2):  # The second time they are known.
        batches = evaluation(split, batch_size=batch_size, on_bad_image="skip", skipped=skipped)
        indices = np.concatenate([images[:, 0, 0, 0, 0] for images, _ in batches]).tolist()
        assert indices == [i for i in range(EXAMPLES) if i not in bad]
    assert sorted(skipped) == sorted(bad)
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines) == sorted(f"Skipped: {skipped[index]}" for index in bad)
    assert skipped[7] == f"{split.paths[7]}: No such file or directory"


def test_bad_images_stop_when_they_are_more_than_a_tenth(files, tmp_path):
    split = broken(files, tmp_path, {index: b"" for index in range(12)})
    with pytest.raises(errors.DataError, match="11 of 23 images cannot be read"):
        evaluation(split, batch_size=23, on_bad_image="skip")


def test_bad_images_lets_other_errors_through(files):
    error = tf.errors.InvalidArgumentError(None, None, "something else")
    with pytest.raises(tf.errors.InvalidArgumentError, match="something else"):
        input_pipeline.bad_images(files, range(EXAMPLES), error, "skip", {})
