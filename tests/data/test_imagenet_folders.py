"""Tests of `imagenet_folders`: ImageNet as people unpack it and as Kaggle packs it."""

import pytest

from alexnet_tf.data import discovery
from alexnet_tf.support import errors

# Classes of the first validation images, as everybody's scripts list them.
WORDNET_IDS = {1: "n01751748", 2: "n09193705", 3: "n02105855", 4: "n04263257", 5: "n03125729", 6: "n01735189"}


def unpack(root, known=range(1, 7), number_of_images=6):
    """Writes empty files as ImageNet's are called: a training image of each known class, and validation images."""
    for number in known:
        folder = root / "train" / WORDNET_IDS[number]
        folder.mkdir(parents=True)
        (folder / f"{WORDNET_IDS[number]}_{number}.JPEG").write_bytes(b"")
    (root / "val").mkdir()
    for number in range(1, number_of_images + 1):
        (root / "val" / f"ILSVRC2012_val_{number:08d}.JPEG").write_bytes(b"")


@pytest.mark.parametrize("inner", ["", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "CLS-LOC"])
def test_flat_validation_images_get_their_labels(tmp_path, inner):
    unpack(tmp_path / inner)
    (tmp_path / inner / "test").mkdir()
    (tmp_path / inner / "test/ILSVRC2012_test_00000001.JPEG").write_bytes(b"")
    (tmp_path / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n")  # Kaggle's, beside ILSVRC.
    data = discovery.find_dataset(str(tmp_path))
    assert data.class_names == tuple(sorted(WORDNET_IDS.values())) and data.validation == "val"
    names = [data.class_names[label] for label in data.splits["val"].labels]
    assert names == list(WORDNET_IDS.values())
    assert [path[-5 - 8 : -5] for path in data.splits["val"].paths] == [f"{number:08d}" for number in WORDNET_IDS]
    assert all(
        data.class_names[label] in path for path, label in zip(data.splits["train"].paths, data.splits["train"].labels)
    )
    assert any("test is left out: its images have no labels" in note for note in data.notes)


def test_validation_images_of_other_classes_are_left_out(tmp_path):
    unpack(tmp_path, known=(2, 5))
    data = discovery.find_dataset(str(tmp_path))
    assert [data.class_names[label] for label in data.splits["val"].labels] == [WORDNET_IDS[2], WORDNET_IDS[5]]
    assert any(note.startswith("4 validation images are left out") for note in data.notes)


def test_without_any_image_of_the_classes_it_is_an_error(tmp_path):
    unpack(tmp_path, known=(5, 6), number_of_images=3)
    with pytest.raises(errors.DataError, match="holds no image of the 2 classes"):
        discovery.find_dataset(str(tmp_path))


def test_validation_images_that_were_sorted_into_folders_are_class_folders(tmp_path):
    unpack(tmp_path, number_of_images=0)
    for wordnet_id in WORDNET_IDS.values():
        (tmp_path / "val" / wordnet_id).mkdir()
        (tmp_path / "val" / wordnet_id / "1.JPEG").write_bytes(b"")
    data = discovery.find_dataset(str(tmp_path))
    assert len(data.splits["val"]) == 6 and not any("numbered" in note for note in data.notes)
