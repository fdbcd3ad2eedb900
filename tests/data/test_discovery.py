"""Tests of `datasets`: every layout, what is said when something is missing, and what is where."""

import os
import pathlib
import shutil
import tempfile

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from alexnet_tf.data import class_folders, datasets, discovery, input_pipeline, synthetic, tfrecords
from alexnet_tf.runs.config import RunData
from alexnet_tf.support import errors
from tests.helpers.files import touch


def names_in(split, root):
    return [os.path.relpath(path, root) for path in split.paths]


def read(split, indices, block=3):
    """Returns the (image, label) that tf.data gives, and checks that what goes with an example comes back with it."""
    indices = tf.constant(indices, tf.int64)
    blocks = tf.data.Dataset.from_tensor_slices((indices, 2 * indices)).batch(block)
    examples = split.examples(blocks, lambda image_bytes, label, twice: (image_bytes, label, twice))
    assert examples.element_spec == (
        tf.TensorSpec([], tf.string),
        tf.TensorSpec([], tf.int32),
        tf.TensorSpec([], tf.int64),
    )
    read = list(examples.as_numpy_iterator())
    assert [twice for _, _, twice in read] == [2 * i for i in indices.numpy().tolist()]
    return [(image_bytes, int(label)) for image_bytes, label, _ in read]


def read_all(split):
    """Returns all (image, label), which are the same one by one and through tf.data."""
    examples = [(split.image_bytes(index), split.label(index)) for index in range(len(split))]
    assert read(split, range(len(split))) == examples
    return examples


def error_of(data_dir, *arguments):
    with pytest.raises(errors.DataError) as caught:
        discovery.find_dataset(str(data_dir), *arguments)
    return str(caught.value)


@pytest.mark.parametrize("validation", ["val", "valid", "validation", "test", "VAL"])
def test_find_train_and_validation_folders(tmp_path, validation):
    touch(
        tmp_path,
        "train/dog/1.jpg",
        "train/cat/2.JPG",
        "train/cat/1.Jpeg",
        "train/cat/deep/er/0.PNG",
        "train/cat/x.txt",
        "train/cat/y.gif",
        "train/empty/notes.txt",
        "train/stray.jpg",
        f"{validation}/dog/7.jpeg",
        f"{validation}/cat/8.png",
        "readme.md",
    )
    data = discovery.find_dataset(str(tmp_path))
    assert data.class_names == ("cat", "dog") and data.validation == validation.lower()
    assert names_in(data.splits["train"], tmp_path) == [
        "train/cat/1.Jpeg",
        "train/cat/2.JPG",
        "train/cat/deep/er/0.PNG",
        "train/dog/1.jpg",
    ]
    assert data.splits["train"].labels.tolist() == [0, 0, 0, 1] and data.splits["train"].labels.dtype == np.int32
    assert names_in(data.splits[validation.lower()], tmp_path) == [
        f"{validation}/cat/8.png",
        f"{validation}/dog/7.jpeg",
    ]
    assert data.splits[validation.lower()].labels.tolist() == [0, 1]
    assert data.name == tmp_path.name and data.directory == str(tmp_path)
    assert data.notes[-2:] == (
        f"Left out, being no JPEG or PNG files: 3, such as {tmp_path}/train/cat/x.txt.",
        f"Left out, being class folders without an image: 1: {tmp_path}/train/empty.",
    )


def test_find_prefers_val_and_keeps_test_apart(tmp_path):
    touch(tmp_path, *(f"{split}/{name}/1.jpg" for split in ("train", "val", "test") for name in "ab"))
    data = discovery.find_dataset(str(tmp_path))
    assert data.validation == "val" and list(data.splits) == ["train", "val", "test"] and data.notes == ()


def test_find_says_when_the_best_is_chosen_on_test(tmp_path):
    touch(tmp_path, *(f"{split}/{name}/1.jpg" for split in ("train", "test") for name in "ab"))
    [note] = discovery.find_dataset(str(tmp_path)).notes
    assert "best checkpoint is chosen on test" in note


def test_find_a_validation_folder_may_lack_a_class(tmp_path):
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg", "val/c/1.jpg")
    data = discovery.find_dataset(str(tmp_path))
    assert data.splits["val"].labels.tolist() == [2]


# By SHA-256 of the name: `printf img_0010.jpg | sha256sum | cut -c1-2` is hexadecimal for a multiple of ten.
HELD_OUT = [
    "img_0010.jpg",
    "img_0015.jpg",
    "img_0043.jpg",
    "img_0046.jpg",
    "img_0051.jpg",
    "n01440764_6.JPEG",
    "n01440764_28.JPEG",
    "猫 3.jpg",
]
NOT_HELD_OUT = [
    "img_0000.jpg",
    "img_0001.jpg",
    "img_0009.jpg",
    "img_0011.jpg",
    "n01440764_7.JPEG",
    "猫 1.jpg",
    "🐱.png",
    'it\'s "a" cat.jpg',
]


@pytest.mark.parametrize("name", HELD_OUT)
def test_is_held_out_for_ever(name):
    assert class_folders.is_held_out(name) and class_folders.is_held_out(f"/anywhere/else/{name}")


@pytest.mark.parametrize("name", NOT_HELD_OUT)
def test_is_not_held_out_for_ever(name):
    assert not class_folders.is_held_out(name) and not class_folders.is_held_out(f"/img_0010.jpg/{name}")


def test_is_held_out_takes_a_tenth():
    assert abs(np.mean([class_folders.is_held_out(f"{i}.png") for i in range(20_000)]) - 26 / 256) < 0.006


def test_find_class_folders_splits_by_name_and_adding_files_moves_none(tmp_path):
    touch(tmp_path, *(f"{label}/{name}" for label in "ab" for name in HELD_OUT + NOT_HELD_OUT))
    data = discovery.find_dataset(str(tmp_path), split_rule="file_name")
    assert data.class_names == ("a", "b") and data.validation == "validation"
    for split, names in (("validation", HELD_OUT), ("train", NOT_HELD_OUT)):
        assert names_in(data.splits[split], tmp_path) == [f"{label}/{name}" for label in "ab" for name in sorted(names)]
    assert data.splits["train"].labels.tolist() == [0] * len(NOT_HELD_OUT) + [1] * len(NOT_HELD_OUT)
    assert "90/10" in data.notes[0]

    touch(tmp_path, *(f"a/new {i}.jpg" for i in range(100)), "c/1.png")
    more = discovery.find_dataset(str(tmp_path), split_rule="file_name")
    for split in ("train", "validation"):
        assert set(data.splits[split].paths) < set(more.splits[split].paths)
    assert not set(more.splits["train"].paths) & set(more.splits["validation"].paths)


def test_find_reads_strange_names_and_ignores_hidden_files(tmp_path):
    touch(
        tmp_path,
        *(
            f"{split}/{name}/{image}"
            for split in ("train", "val")
            for name in ('it\'s "a" 猫', "two words", "🐕")
            for image in ("a b.jpg", "猫🐱.png", "quo\"te'.jpeg", ".hidden.jpg", "._1.jpg")
        ),
        "train/.cache/1.jpg",
        ".git/x/1.jpg",
        "val/.DS_Store",
    )
    data = discovery.find_dataset(str(tmp_path))
    assert data.class_names == ('it\'s "a" 猫', "two words", "🐕")
    for split in ("train", "val"):
        assert len(data.splits[split]) == 9
    path = data.splits["train"].paths[0]
    pathlib.Path(path).write_bytes(b"the image")
    split = data.splits["train"]
    assert split.describe(0) == path and (split.image_bytes(0), split.label(0)) == (b"the image", 0)
    assert read(split, [0]) == [(b"the image", 0)]
    touch(tmp_path, "train/🐕/note 猫.txt", 'train/no "image" 🦊/.hidden.jpg')
    assert discovery.find_dataset(str(tmp_path)).notes == (
        f"Left out, being no JPEG or PNG files: 1, such as {tmp_path}/train/🐕/note 猫.txt.",
        f'Left out, being class folders without an image: 1: {tmp_path}/train/no "image" 🦊.',
    )


def test_find_hidden_folders_inside_a_class_are_ignored(tmp_path):
    touch(
        tmp_path, "train/a/.thumbnails/1.jpg", *(f"{split}/{name}/1.jpg" for split in ("train", "val") for name in "ab")
    )
    assert len(discovery.find_dataset(str(tmp_path)).splits["train"]) == 2


def test_find_follows_links_to_class_folders(tmp_path):
    touch(tmp_path / "elsewhere", "a/1.jpg", "b/1.jpg")
    for split in ("train", "val"):
        for name in "ab":
            (tmp_path / "data" / split).mkdir(parents=True, exist_ok=True)
            (tmp_path / "data" / split / name).symlink_to(tmp_path / "elsewhere" / name)
    assert len(discovery.find_dataset(str(tmp_path / "data")).splits["train"]) == 2


LINK = "is left out: no folder, or a link that leads nowhere or back to a folder it is in."


@pytest.fixture
def two_classes(tmp_path):
    touch(tmp_path / "data", *(f"{split}/{name}/1.jpg" for split in ("train", "val") for name in "ab"))
    return tmp_path / "data"


@pytest.mark.parametrize("target", [".", "..", "../..", "/", "nowhere", "two", "../train/../../data/train"])
@pytest.mark.parametrize("name", ["link", 'it\'s "a" 猫 🐱'])
def test_find_leaves_out_links_that_lead_back_or_nowhere(two_classes, name, target):
    (two_classes / "train" / name).symlink_to(target)
    data = discovery.find_dataset(str(two_classes))
    assert data.class_names == ("a", "b") and data.notes == (f"{two_classes}/train/{name} {LINK}",)
    assert names_in(data.splits["train"], two_classes) == ["train/a/1.jpg", "train/b/1.jpg"]


@pytest.mark.parametrize("split", ["train", "val"])
def test_find_leaves_out_a_link_to_itself(two_classes, split):
    (two_classes / split / "self").symlink_to("self")
    data = discovery.find_dataset(str(two_classes))
    assert data.class_names == ("a", "b") and data.notes == (f"{two_classes}/{split}/self {LINK}",)


def test_find_does_not_follow_links_inside_a_class_to_folders(two_classes):
    for name, target in (("loop", "."), ("up", "../.."), ("self", "self"), ("other", "../b")):
        (two_classes / "train/a" / name).symlink_to(target)
    data = discovery.find_dataset(str(two_classes))
    assert len(data.splits["train"]) == 2
    assert data.notes == (f"Left out, being no JPEG or PNG files: 4, such as {two_classes}/train/a/loop.",)


def test_find_keeps_links_to_images_and_names_those_that_lead_nowhere_when_read(two_classes):
    (two_classes / "val/a/1.jpg").write_bytes(b"the image")
    for name, target in (("2.jpg", "../../val/a/1.jpg"), ("3.jpg", "gone"), ("4.jpg", "4.jpg")):
        (two_classes / "train/a" / name).symlink_to(target)
    data = discovery.find_dataset(str(two_classes))
    split = data.splits["train"]
    assert data.notes == () and len(data.fingerprint()) == 16
    assert names_in(split, two_classes) == [f"train/a/{i}.jpg" for i in range(1, 5)] + ["train/b/1.jpg"]
    assert split.image_bytes(1) == b"the image" and read(split, [1]) == [(b"the image", 0)]
    for index in (2, 3):
        with pytest.raises(OSError):
            split.image_bytes(index)
        with pytest.raises(tf.errors.OpError):
            read(split, [index])


def test_find_leaves_out_what_is_no_file(two_classes):
    os.mkfifo(two_classes / "train/a/x.jpg")  # To open it would wait for ever.
    data = discovery.find_dataset(str(two_classes))
    assert len(data.splits["train"]) == 2 and len(data.notes) == 1
    assert (
        data.notes[0].startswith("Left out, being no JPEG or PNG files: 1")
        and f"{two_classes}/train/a/x.jpg." in data.notes[0]
    )
    os.mkfifo(two_classes / "train/y.jpg")
    assert discovery.find_dataset(str(two_classes)).notes[0].startswith(f"{two_classes}/train/y.jpg is left out")


def test_find_leaves_out_a_link_to_what_is_no_file(two_classes):
    os.mkfifo(two_classes / "waits")
    (two_classes / "train/a/x.jpg").symlink_to("../../waits")
    (two_classes / "train/a/y.jpg").symlink_to("../b")
    assert len(discovery.find_dataset(str(two_classes)).splits["train"]) == 2


def test_find_notes_are_of_every_split_and_count_what_they_leave_out(two_classes):
    touch(two_classes, *(f"train/a/{i}.txt" for i in range(1200)), "val/b/z.gif", "val/b/y.gif", "val/c/deep/er/x.pdf")
    for i in range(10):
        (two_classes / f"train/empty{i}").mkdir()
    names = ", ".join(f"{two_classes}/train/empty{i}" for i in range(8))
    assert discovery.find_dataset(str(two_classes)).notes == (
        f"Left out, being no JPEG or PNG files: 1,200, such as {two_classes}/train/a/0.txt.",
        f"Left out, being class folders without an image: 10: {names} and 2 more.",
        f"Left out, being no JPEG or PNG files: 3, such as {two_classes}/val/b/y.gif.",
        f"Left out, being class folders without an image: 1: {two_classes}/val/c.",
    )


@pytest.mark.parametrize("is_whole", [False, True])
def test_find_notes_of_one_folder(tmp_path, is_whole):
    touch(tmp_path, *(f"{name}/{image}" for name in "ab" for image in HELD_OUT + NOT_HELD_OUT), "a/x.txt", "stray.txt")
    (tmp_path / "back").symlink_to("..")
    (tmp_path / "empty").mkdir()
    split_note = (
        () if is_whole else ("Split 90/10 in each class by a hash of class and path: the same for the same files.",)
    )
    assert discovery.find_dataset(str(tmp_path), is_whole=is_whole).notes == (
        *split_note,
        f"{tmp_path}/back {LINK}",
        f"Left out, being no JPEG or PNG files: 1, such as {tmp_path}/a/x.txt.",
        f"Left out, being class folders without an image: 1: {tmp_path}/empty.",
    )


@pytest.fixture
def ordinary():
    """Gives a folder that everybody may enter, and a function from which on the test is an ordinary user, not root."""
    directory = pathlib.Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    touch(directory, *(f"{split}/{name}/{i}.jpg" for split in ("train", "val") for name in "ab" for i in (1, 2)))
    user = os.geteuid()
    try:
        yield directory, lambda: os.seteuid(65534 if user == 0 else user)
    finally:
        os.seteuid(user)
        for folder, _, _ in os.walk(directory):
            os.chmod(folder, 0o755)
        shutil.rmtree(directory)


@pytest.mark.parametrize("unreadable", ["train", "train/b", "val/b"])
def test_find_names_a_folder_that_may_not_be_read(ordinary, unreadable):
    directory, become_ordinary = ordinary
    (directory / unreadable).chmod(0)
    become_ordinary()
    assert error_of(directory) == f"{directory / unreadable} cannot be read: Permission denied."


@pytest.mark.parametrize("data_dir", ["", "train"])
def test_find_in_a_folder_that_may_not_be_entered_says_so(ordinary, data_dir):
    directory, become_ordinary = ordinary
    directory.chmod(0)
    become_ordinary()
    assert "cannot be read: Permission denied." in error_of(directory / data_dir)


def test_find_lists_a_file_that_may_not_be_read_and_reading_it_is_an_error(ordinary):
    directory, become_ordinary = ordinary
    (directory / "train/b/1.jpg").chmod(0)
    become_ordinary()
    data = discovery.find_dataset(str(directory))
    split = data.splits["train"]
    assert len(split) == 4 and data.notes == ()
    with pytest.raises(PermissionError):
        split.image_bytes(2)
    with pytest.raises(input_pipeline.READ_ERRORS, match="Permission denied"):
        read(split, [0, 2])
    assert read(split, [0, 1, 3]) == [(b"", 0), (b"", 0), (b"", 1)]


def test_find_reads_names_that_are_not_utf_8(two_classes):
    with open(os.fsencode(two_classes / "train/a") + b"/\xff\xe9.jpg", "wb") as file:
        file.write(b"the image")
    split = discovery.find_dataset(str(two_classes)).splits["train"]
    assert split.image_bytes(1) == b"the image" and read(split, [1]) == [(b"the image", 0)]


def test_image_files_part_keeps_what_belongs_together(tmp_path):
    for i in range(7):
        (tmp_path / f"{i}").write_bytes(bytes([i]) * i + b"\0")
    split = datasets.ImageFiles(tuple(str(tmp_path / f"{i}") for i in range(7)), np.arange(7, dtype="int32") * 3)
    whole = read_all(split)
    assert whole == [(bytes([i]) * i + b"\0", 3 * i) for i in range(7)] and not split.is_square
    for indices in ([5, 0, 3], np.array([6, 6]), []):
        part = split.subset(indices)
        assert isinstance(part, datasets.ImageFiles) and len(part) == len(indices) and part.labels.dtype == np.int32
        assert [part.describe(i) for i in range(len(part))] == [str(tmp_path / f"{index}") for index in indices]
        assert not len(indices) or read_all(part) == [whole[index] for index in indices]


def test_find_expands_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    touch(tmp_path, *(f"pics/{split}/{name}/1.jpg" for split in ("train", "val") for name in "ab"))
    assert discovery.find_dataset("~/pics").directory == str(tmp_path / "pics")


def test_find_errors_say_what_is_wrong(tmp_path):
    text = error_of(tmp_path / "gone")
    assert f"--data_dir={tmp_path / 'gone'} does not exist" in text and "DIR/train/<class>/*.jpg" in text
    touch(tmp_path, "file")
    assert "is a file, not a directory" in error_of(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert "holds nothing to train on; there: nothing" in error_of(tmp_path / "empty")
    touch(tmp_path, "flat/1.jpg", "flat/2.jpg", "flat/notes/a.txt")
    assert "there: 1.jpg, 2.jpg, notes/" in error_of(tmp_path / "flat")
    touch(tmp_path, "one/cat/1.jpg")
    assert "at least two class folders with images; got ['cat']" in error_of(tmp_path / "one")
    touch(tmp_path, "few/cat/img_0000.jpg", "few/dog/img_0001.jpg")
    assert "too few images for a 90/10 split; 'validation' got none" in error_of(tmp_path / "few")


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (
            ["train/a/1.jpg", "train/b/1.jpg", "other/x"],
            "looked for val, valid, validation, test; there: other/, train/",
        ),
        (["train/a/1.jpg", "val/a/1.jpg"], "at least two class folders with images; got ['a']"),
        (["train/x.txt", "val/a/1.jpg"], "at least two class folders with images; got []; there: x.txt"),
        (["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "val/dog/1.jpg"], "classes that are not in"),
        (["train/a/1.jpg", "train/b/1.jpg", "val/a/1.txt"], "val holds no images in class folders (.jpg, .jpeg, .png)"),
    ],
)
def test_find_errors_of_splits_say_what_is_wrong(tmp_path, files, text):
    touch(tmp_path, *files)
    assert text in error_of(tmp_path)


def test_find_names_the_classes_that_train_lacks(tmp_path):
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "val/dog/1.jpg", "val/eel/1.jpg")
    text = error_of(tmp_path)
    assert "dog, eel" in text and "same folder names" in text


def test_summary_says_what_was_found(tmp_path):
    touch(tmp_path, *(f"train/c{i:02d}/{j}.jpg" for i in range(12) for j in range(100)), "test/c00/1.jpg")
    text = discovery.find_dataset(str(tmp_path)).summary()
    assert f"in {tmp_path}" in text and "12 classes: c00, c01, " in text and "and 4 more" in text
    assert "train: 1,200 images" in text and "test: 1 images" in text and "chosen on test" in text


@pytest.fixture
def folders(tmp_path):
    touch(
        tmp_path / "data", *(f"{split}/{name}/{i}.jpg" for split in ("train", "val") for name in "ab" for i in range(3))
    )
    return tmp_path / "data"


def test_fingerprint_is_the_same_after_moving(folders):
    before = discovery.find_dataset(str(folders)).fingerprint()
    moved = folders.rename(folders.parent / "other name")
    assert (
        discovery.find_dataset(str(moved)).fingerprint() == before == discovery.find_dataset(str(moved)).fingerprint()
    )
    assert len(before) == 16


@pytest.mark.parametrize(
    "change",
    [
        lambda root: touch(root, "train/a/9.jpg"),
        lambda root: touch(root, "val/b/9.jpg"),
        lambda root: (root / "train/b/1.jpg").unlink(),
        lambda root: (root / "val/b/1.jpg").unlink(),
        lambda root: (root / "train/b/1.jpg").rename(root / "train/b/8.jpg"),
        lambda root: (root / "train/b/1.jpg").rename(root / "val/b/8.jpg"),
        lambda root: (root / "train/b/2.jpg").rename(root / "train/a/3.jpg"),
        lambda root: [(root / split / "b").rename(root / split / "c") for split in ("train", "val")],
    ],
    ids=["add", "add val", "remove", "remove val", "rename", "move split", "move class", "rename class"],
)
def test_fingerprint_changes_with_the_files(folders, change):
    before = discovery.find_dataset(str(folders)).fingerprint()
    change(folders)
    assert discovery.find_dataset(str(folders)).fingerprint() != before


def run_data(data):
    return RunData(name=data.name, directory=data.directory, classes=tuple(data.class_names))


def test_find_again_where_it_was_and_elsewhere(folders):
    data = discovery.find_dataset(str(folders))
    assert discovery.load_run_dataset(run_data(data)).fingerprint() == data.fingerprint()
    moved = folders.rename(folders.parent / "moved")
    with pytest.raises(errors.DataError, match="no longer in .*data. Give their directory: --data_dir=DIR"):
        discovery.load_run_dataset(run_data(data))
    assert discovery.load_run_dataset(run_data(data), str(moved)).directory == str(moved)


def test_find_again_refuses_other_classes(folders):
    data = discovery.find_dataset(str(folders))
    touch(folders, "train/zebra/1.jpg")
    with pytest.raises(errors.DataError, match="other classes than the run: a, b, zebra there, a, b in the run"):
        discovery.load_run_dataset(run_data(data))
    assert discovery.load_run_dataset(run_data(data), any_classes=True).class_names == ("a", "b", "zebra")


IMAGES = {
    f"{split} {i}": tf.io.encode_jpeg(np.full((8, 9, 3), 10 * i + len(split), "uint8")).numpy()
    for split in ("train", "validation", "test")
    for i in range(23)
}


def write_tfds(data_dir, name="toy", splits=("train", "validation"), version="1.0.0", **options):
    """Writes a real TFDS data set of 23 examples a split: image i of class i % 3."""
    features = tfds.features.FeaturesDict(
        {
            "id": tfds.features.Scalar(np.int64),
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=["ant", "bee", "cow"]),
        }
    )

    def examples(split):
        return [(i, {"id": i, "image": decoded(IMAGES[f"{split} {i}"]), "label": i % 3}) for i in range(23)]

    def decoded(image_bytes):
        path = pathlib.Path(data_dir, f"{abs(hash(image_bytes))}.jpg")
        path.write_bytes(image_bytes)  # TFDS takes a file's bytes as they are.
        return str(path)

    pathlib.Path(data_dir).mkdir(exist_ok=True)
    tfds.dataset_builders.store_as_tfds_dataset(
        name, version, features, {split: examples(split) for split in splits}, data_dir=data_dir, **options
    )
    for path in pathlib.Path(data_dir).glob("*.jpg"):
        path.unlink()


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    write_tfds(directory)
    return directory


@pytest.mark.parametrize("where", [("", None), ("", "toy"), ("toy", None), ("toy/1.0.0", None)])
def test_find_tfds_reads_the_original_bytes(toy, where):
    data = discovery.find_dataset(str(toy / where[0]), where[1])
    assert data.name == "toy" and data.class_names == ("ant", "bee", "cow") and data.validation == "validation"
    assert data.directory == str(toy / "toy/1.0.0") and data.notes == ()
    for split in ("train", "validation"):
        expected = [(IMAGES[f"{split} {i}"], i % 3) for i in range(23)]
        assert sorted(read_all(data.splits[split])) == sorted(expected)


def test_find_tfds_in_the_order_of_tfds(toy):
    dataset = tfds.builder_from_directory(toy / "toy/1.0.0").as_dataset(
        split="train", decoders={"image": tfds.decode.SkipDecoding()}, shuffle_files=False
    )
    expected = [(example["image"], int(example["label"])) for example in tfds.as_numpy(dataset)]
    assert read_all(discovery.find_dataset(str(toy)).splits["train"]) == expected


def test_find_tfds_describes_a_record(toy):
    split = discovery.find_dataset(str(toy)).splits["train"]
    assert split.describe(0) == f"{toy}/toy/1.0.0/toy-train.tfrecord-00000-of-00001, the record at byte 12"
    assert split.describe(22) == f"{split.files[0]}, the record at byte {split.offsets[22]}" and not split.is_square


@pytest.mark.parametrize("indices", [[5, 0, 22], np.array([6, 6]), np.arange(23)[::-1]])
def test_find_tfds_part_keeps_what_belongs_together(toy, indices):
    split = discovery.find_dataset(str(toy)).splits["train"]
    whole, part = read_all(split), split.subset(indices)
    assert len(part) == len(indices) and read_all(part) == [whole[index] for index in indices]
    assert [part.describe(i) for i in range(len(part))] == [split.describe(index) for index in indices]


@pytest.fixture
def places(tmp_path):
    """Records in the middle of two files, their labels beside them, their ends zeros, their names by their places."""
    (tmp_path / "x").write_bytes(b"..one\0\0..three..")
    (tmp_path / "y").write_bytes(b"two\0.")
    return tfrecords.Records(
        (str(tmp_path / "x"), str(tmp_path / "y")),
        np.array([0, 1, 0], "int32"),
        np.array([2, 0, 9]),
        np.array([5, 4, 5]),
        np.array([10, 20, 30], "int32"),
        name_at=lambda path, offset: f"{path[-1]} at {offset}",
        is_square=True,
    )


def test_records_with_labels_and_names(places):
    whole = [(b"one\0\0", 10), (b"two\0", 20), (b"three", 30)]
    assert read_all(places) == whole
    assert places.describe(2) == f"{places.files[0]}, x at 9"
    for block in (1, 2, 5):
        assert read(places, [2, 2, 1, 0], block) == [whole[2], whole[2], whole[1], whole[0]]
    part = places.subset([1, 2])
    assert read_all(part) == whole[1:] and part.is_square
    assert [part.describe(i) for i in (0, 1)] == [places.describe(1), places.describe(2)]


def test_records_of_a_file_that_was_cut_or_is_gone_are_errors(places):
    os.truncate(places.files[0], 11)
    os.unlink(places.files[1])
    assert read(places, [0]) == [(b"one\0\0", 10)]
    with pytest.raises(OSError, match="the file is cut"):
        places.image_bytes(2)
    with pytest.raises(FileNotFoundError):
        places.image_bytes(1)
    for index in (1, 2):
        with pytest.raises(tf.errors.OpError):
            read(places, [index])


def test_find_tfds_fingerprint_is_the_same_after_moving(toy, tmp_path):
    shutil.copytree(toy, tmp_path / "elsewhere")
    assert (
        discovery.find_dataset(str(toy)).fingerprint()
        == discovery.find_dataset(str(tmp_path / "elsewhere")).fingerprint()
    )


def test_find_tfds_again_in_its_directory(toy):
    data = discovery.find_dataset(str(toy), "toy")
    assert discovery.load_run_dataset(run_data(data)).fingerprint() == data.fingerprint()


def test_find_tfds_that_is_not_prepared_says_download(toy, tmp_path):
    for directory in (tmp_path, toy):  # Also beside another one that is prepared.
        text = error_of(directory, "cifar10")
        assert "No prepared TFDS data set 'cifar10'" in text and "--download" in text


def test_find_imagenet_says_which_files_go_where(toy, tmp_path):
    for directory in (tmp_path, toy, tmp_path / "gone"):
        text = error_of(directory, "imagenet2012")
        assert "ILSVRC2012_img_train.tar" in text and "ILSVRC2012_img_val.tar" in text
        assert f"into {directory}, as they are, then type\n" in text and "https://image-net.org" in text
        assert f"  python -m alexnet_tf prepare --data_dir={directory} --output_dir=imagenet-256\n" in text
        assert "  python train.py --data_dir=imagenet-256\n" in text and "downloads/manual" not in text


def test_find_several_tfds_asks_which(toy, tmp_path):
    shutil.copytree(toy / "toy", tmp_path / "toy")
    write_tfds(tmp_path, "second", ("train", "test"))
    assert "choose with --dataset=NAME. There: second, toy." in error_of(tmp_path)
    data = discovery.find_dataset(str(tmp_path), "second")
    assert data.name == "second" and data.validation == "test"
    assert "best checkpoint is chosen on test" in data.notes[0]


def test_find_tfds_with_train_alone_holds_out_every_tenth(tmp_path):
    write_tfds(tmp_path, splits=("train",))
    data = discovery.find_dataset(str(tmp_path))
    train, held_out = read_all(data.splits["train"]), read_all(data.splits["validation"])
    whole = sorted((IMAGES[f"train {i}"], i % 3) for i in range(23))
    assert len(held_out) == 3 and len(train) == 20 and sorted(train + held_out) == whole
    assert "every tenth example is held out" in data.notes[0] and data.validation == "validation"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-30],
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data + b"\0" * 7,
        lambda data: data + data,
    ],
    ids=["cut", "cut in the checksum", "empty", "tail", "twice"],
)
def test_find_tfds_damaged_file_is_named(toy, tmp_path, damage):
    shutil.copytree(toy, tmp_path, dirs_exist_ok=True)
    [path] = (tmp_path / "toy/1.0.0").glob("*train*")
    path.write_bytes(damage(path.read_bytes()))
    text = error_of(tmp_path)
    assert f"{path} is damaged: 23 records were expected" in text and "Prepare the data set again" in text


def test_find_tfds_missing_file_is_an_error_for_a_person(toy, tmp_path):
    shutil.copytree(toy, tmp_path, dirs_exist_ok=True)
    [path] = (tmp_path / "toy/1.0.0").glob("*train*")
    path.unlink()
    assert path.name in error_of(tmp_path)


def test_find_tfds_without_train_or_images_says_so(tmp_path):
    write_tfds(tmp_path / "a", splits=("test",))
    assert "has no split 'train'; it has test" in error_of(tmp_path / "a")
    tfds.dataset_builders.store_as_tfds_dataset(
        "numbers",
        "1.0.0",
        tfds.features.FeaturesDict({"x": tfds.features.Scalar(np.int64)}),
        {"train": [(0, {"x": 1})]},
        data_dir=tmp_path / "b",
    )
    assert "numbers is no image classification set" in error_of(tmp_path / "b")


def test_drawn_writes_class_folders_of_jpeg_files_once(tmp_path, monkeypatch):
    data = discovery.synthetic_dataset(str(tmp_path / "set"), images_per_class=10)
    assert data.name == "demo" and data.class_names == synthetic.CLASSES and data.validation == "val"
    assert (len(data.splits["train"]), len(data.splits["val"])) == (50, 5)
    assert "no result" in data.notes[0]
    pictures = [np.asarray(PIL.Image.open(path)) for path in data.splits["train"].paths[:11]]
    assert {picture.shape for picture in pictures} == {(256, 256, 3)}
    assert all(pathlib.Path(path).read_bytes()[:3] == b"\xff\xd8\xff" for path in data.splits["train"].paths)
    contents = {pathlib.Path(path).read_bytes() for split in data.splits.values() for path in split.paths}
    assert len(contents) == 55  # No picture twice, also not between train and val.
    assert [path.name for path in tmp_path.iterdir()] == ["set"]

    monkeypatch.setattr(synthetic, "draw", lambda *_: pytest.fail("drawn again"))
    assert discovery.synthetic_dataset(str(tmp_path / "set"), images_per_class=10).fingerprint() == data.fingerprint()


def test_drawn_same_bytes_everywhere(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "draw", lambda name, rng: np.full((256, 256, 3), rng.integers(256), "uint8"))
    first, second = (discovery.synthetic_dataset(str(tmp_path / name), images_per_class=10) for name in "ab")
    for one, other in zip(first.splits["train"].paths, second.splits["train"].paths):
        assert pathlib.Path(one).read_bytes() == pathlib.Path(other).read_bytes()


@pytest.mark.parametrize(
    ("error", "raised"),
    [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "No space left on device"), errors.DataError)],
)
def test_drawn_interrupted_leaves_nothing(tmp_path, monkeypatch, error, raised):
    pictures = iter(range(20))

    def draw(name, rng):
        if next(pictures) == 7:
            raise error
        return np.zeros((256, 256, 3), "uint8")

    monkeypatch.setattr(synthetic, "draw", draw)
    with pytest.raises(raised) as caught:
        discovery.synthetic_dataset(str(tmp_path / "set"), images_per_class=10)
    assert list(tmp_path.iterdir()) == []
    if raised is errors.DataError:
        assert "cannot be written" in str(caught.value) and "No space left on device" in str(caught.value)


def test_drawn_in_the_cache_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(synthetic, "draw", lambda name, rng: np.zeros((256, 256, 3), "uint8"))
    data = discovery.synthetic_dataset(images_per_class=10)
    assert data.directory == str(tmp_path / "alexnet_tf" / "demo-v1-10")


def test_a_data_set_that_tfds_cannot_fetch_is_a_line(tmp_path):
    with pytest.raises(errors.DataError, match="TFDS could not prepare 'no_such_set' in .*"):
        discovery.find_dataset(str(tmp_path), "no_such_set", download=True)
