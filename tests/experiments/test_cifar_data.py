import numpy as np
import pytest

from alexnet_tf.data import discovery
from alexnet_tf.experiments import cifar_data
from alexnet_tf.support import errors
from tests.helpers import files


@pytest.fixture(scope="module")
def images():
    return cifar_data.synthetic(train=40, test=20)


def test_an_epoch_is_a_permutation_and_the_same_for_the_same_seed(images):
    def epoch(**arguments):
        return [labels for _, labels in cifar_data.train_batches(images.train, 8, 32, **arguments)]

    first = np.concatenate(epoch(seed=1, epoch=0))
    np.testing.assert_array_equal(np.sort(first), np.sort(images.train.labels))
    np.testing.assert_array_equal(first, np.concatenate(epoch(seed=1, epoch=0)))
    assert any((first != np.concatenate(epoch(seed=seed, epoch=number))).any() for seed, number in ((2, 0), (1, 1)))


def test_windows_are_parts_of_their_images_or_mirrored(images):
    marked = np.arange(40 * 32 * 32 * 3).reshape(40, 32, 32, 3).astype("int32")
    split = cifar_data.Split(marked, images.train.labels)
    mirrored, starts = 0, set()
    for windows, _ in cifar_data.train_batches(split, 8, 24, seed=0, epoch=0):
        for window in windows:
            if window[0, 0, 0] > window[0, -1, 0]:
                window, mirrored = window[:, ::-1], mirrored + 1
            number, top, left, _ = np.unravel_index(window[0, 0, 0], marked.shape)
            starts.add((top, left))
            np.testing.assert_array_equal(window, marked[number, top : top + 24, left : left + 24])
    assert 8 < mirrored < 32 and len(starts) > 20
    assert {max(axis) for axis in zip(*starts)} <= set(range(9))


def test_views_are_the_authors_nine(images):
    views = cifar_data.views(images.test.images, 24)
    assert views.shape == (20, 9, 24, 24, 3)
    np.testing.assert_array_equal(views[:, 0], images.test.images[:, :24, :24])
    np.testing.assert_array_equal(views[:, 4], images.test.images[:, 4:28, 4:28])
    np.testing.assert_array_equal(views[:, 5], images.test.images[:, 4:28, 8:])
    np.testing.assert_array_equal(cifar_data.views(images.test.images, 32)[:, 0], images.test.images)


def test_mean_image_is_that_of_the_windows_centre(images):
    mean = images.mean_image(24)
    np.testing.assert_allclose(mean, images.train.images[:, 4:28, 4:28].astype("float64").mean(axis=0), rtol=1e-6)


def test_load_reads_both_splits_of_class_folders(tmp_path):
    names = [f"class{number}" for number in range(10)]
    files.write_folders(tmp_path, names, train=2, test=1)
    with pytest.raises(errors.DataError, match="images of 32 x 32 pixels"):
        cifar_data.load(discovery.find_dataset(str(tmp_path)))
