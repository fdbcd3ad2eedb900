"""Tests of `synthetic`: pictures are reproducible, and no linear classifier of thumbnails can tell them apart."""

import pathlib

import numpy as np
import PIL.Image
import pytest

from alexnet_tf.data import discovery, synthetic
from alexnet_tf.support import errors
from tests.helpers.layouts import sizes


def picture(name, *seed):
    return synthetic.draw(name, np.random.default_rng(seed))


def test_draw_gives_the_pictures_that_the_documents_numbers_were_measured_on():
    pictures = [picture(name, 1, 2) for name in synthetic.CLASSES]
    assert {each.shape for each in pictures} == {(256, 256, 3)} and {each.dtype for each in pictures} == {
        np.dtype("uint8")
    }
    np.testing.assert_allclose([each.mean() for each in pictures], [88.86, 85.63, 88.79, 90.24, 88.82], atol=0.02)
    np.testing.assert_array_equal(pictures[0], picture(synthetic.CLASSES[0], 1, 2))


@pytest.mark.parametrize("name", synthetic.CLASSES)
def test_draw_pictures_of_a_class_differ(name):
    pictures = np.stack([picture(name, seed) for seed in range(4)]).astype(int)
    differences = [np.abs(a - b).mean() for i, a in enumerate(pictures) for b in pictures[:i]]
    assert min(differences) > 10
    assert pictures.std(axis=(1, 2)).min() > 3  # No empty picture.


def thumbnails(split, images_per_class):
    """Returns ([n, 192] means of 32 x 32 pixels in [0, 1], labels)."""
    images = [
        picture(name, split, label, number).reshape(8, 32, 8, 32, 3).mean(axis=(1, 3)).ravel() / 255
        for label, name in enumerate(synthetic.CLASSES)
        for number in range(images_per_class)
    ]
    return np.stack(images), np.repeat(np.arange(len(synthetic.CLASSES)), images_per_class)


def linear_errors(x, labels, x_validation, labels_validation):
    """Returns the validation errors of ridge regression of many strengths."""
    x, x_validation = (np.c_[a, np.ones(len(a))] for a in (x, x_validation))
    targets = np.eye(labels.max() + 1)[labels]
    left, singular, right = np.linalg.svd(x, full_matrices=False)
    for strength in 10.0 ** np.arange(-3, 5):
        weights = right.T @ ((singular / (singular**2 + strength))[:, None] * (left.T @ targets))
        yield ((x_validation @ weights).argmax(axis=1) != labels_validation).mean()


def test_draw_thumbnails_do_not_tell_the_class_to_a_linear_classifier():
    (x, labels), (x_validation, labels_validation) = thumbnails(0, 60), thumbnails(1, 30)
    grey, grey_validation = (a.reshape(len(a), 64, 3).mean(axis=2) for a in (x, x_validation))
    found = [
        *linear_errors(x, labels, x_validation, labels_validation),
        *linear_errors(grey, labels, grey_validation, labels_validation),
    ]
    # Chance is 0.8; a network gets below 0.2.
    assert min(found) >= 0.6, sorted(found)[:3]


def test_linear_classifier_of_this_test_can_learn():
    # Otherwise the test above would say nothing: a class that shifts the colour is found at once.
    rng = np.random.default_rng(0)
    labels = np.arange(500) % 5
    x = rng.normal(0, 1, (500, 192))
    x[np.arange(500), labels] += 4
    assert min(linear_errors(x[:400], labels[:400], x[400:], labels[400:])) < 0.1


def test_the_demo_is_written_once_as_class_folders_of_jpeg_files(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(synthetic, "IMAGES_PER_CLASS", {"train": 10, "val": 1})
    data = discovery.synthetic_dataset()
    assert data.name == "demo" and data.class_names == synthetic.CLASSES and data.validation == "val"
    assert sizes(data) == {"train": 50, "val": 5} and "no result" in data.notes[0]
    assert data.directory == str(tmp_path / "alexnet_tf" / "demo-v1-400")
    contents = {pathlib.Path(path).read_bytes() for split in data.splits.values() for path in split.paths}
    assert len(contents) == 55  # No picture twice, also not between train and val.
    assert all(content[:3] == b"\xff\xd8\xff" for content in contents)
    with PIL.Image.open(data.splits["train"].paths[11]) as image:
        drawn = synthetic.draw(synthetic.CLASSES[1], np.random.default_rng([False, 1, 1]))
        assert np.abs(np.asarray(image).astype(int) - drawn).mean() < 10  # JPEG's loss.
    monkeypatch.setattr(synthetic, "draw", lambda *_: pytest.fail("drawn again"))
    assert discovery.synthetic_dataset().fingerprint() == data.fingerprint()


@pytest.mark.parametrize(
    ("error", "raised"),
    [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "No space left on device"), errors.DataError)],
)
def test_an_interrupted_demo_leaves_nothing(tmp_path, monkeypatch, error, raised):
    pictures = iter(range(20))

    def draw(name, rng):
        if next(pictures) == 7:
            raise error
        return np.zeros((256, 256, 3), "uint8")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(synthetic, "draw", draw)
    with pytest.raises(raised, match="cannot be written to .*No space left" if raised is errors.DataError else None):
        discovery.synthetic_dataset()
    assert list((tmp_path / "alexnet_tf").glob("demo*")) == []
