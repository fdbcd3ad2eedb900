"""Tests of `discovery`: the table of layouts, errors that hold for all, fingerprints, finding a run's images again."""

import os
import pathlib
import shutil
import tempfile
import unicodedata

import pytest

from alexnet_tf.data import discovery
from alexnet_tf.data.options import ExampleOptions
from alexnet_tf.runs.config import RunData
from alexnet_tf.support import errors
from tests.helpers.files import touch
from tests.helpers.layouts import class_of, error_of, find, sizes


def test_every_layout_is_asked_and_the_error_lists_them(tmp_path):
    text = error_of(tmp_path)
    assert text.startswith(f"{tmp_path} holds nothing to train on; there: nothing.\nExpected one of\n")
    for name, entry in discovery.SOURCES.items():
        assert entry.load().find(tmp_path, ExampleOptions()) is None, name
        assert f"\n  {entry.purpose}\n" in text


def test_errors_of_the_directory(tmp_path):
    assert f"--data_dir={tmp_path / 'gone'} does not exist.\nExpected one of\n" in error_of(tmp_path / "gone")
    touch(tmp_path, "file")
    assert "is a file, not a directory" in error_of(tmp_path / "file")
    touch(tmp_path, "flat/1.jpg", "flat/2.jpg", "flat/notes/a.txt")
    assert "there: 1.jpg, 2.jpg, notes/" in error_of(tmp_path / "flat")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"download": True}, "--download needs --dataset=NAME"),
        ({"label_column": "x"}, "holds no file of labels, such as labels.csv. Name it: --labels=FILE"),
        ({"dataset": "cifar10"}, "No prepared TFDS data set 'cifar10' in .* --download to let TFDS fetch cifar10"),
        ({"dataset": "no_such_set", "download": True}, "TFDS could not prepare 'no_such_set' in "),
    ],
)
def test_options_that_cannot_be_met(tmp_path, options, message):
    with pytest.raises(errors.UserError, match=f"(?s){message}"):
        find(tmp_path, **options)


def test_the_home_directory_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    touch(tmp_path, *(f"pics/{split}/{name}/1.jpg" for split in ("train", "val") for name in "ab"))
    assert find("~/pics").directory == str(tmp_path / "pics")


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


@pytest.mark.parametrize(
    ("unreadable", "data_dir"), [("train", ""), ("train/b", ""), ("val/b", ""), ("", ""), ("", "train")]
)
def test_a_folder_that_may_not_be_read_is_named(ordinary, unreadable, data_dir):
    directory, become_ordinary = ordinary
    (directory / unreadable).chmod(0)
    become_ordinary()
    text = error_of(directory / data_dir)
    assert text.startswith(str(directory / unreadable)) and text.endswith(" cannot be read: Permission denied.")


@pytest.fixture
def folders(tmp_path):
    names = (f"{split}/{name}/{i}.jpg" for split in ("train", "val") for name in "ab" for i in range(3))
    touch(tmp_path / "data", *names)
    return tmp_path / "data"


def test_fingerprint_is_the_same_after_moving(folders):
    before = find(folders).fingerprint()
    moved = folders.rename(folders.parent / "other name")
    assert find(moved).fingerprint() == before and len(before) == 16


@pytest.mark.parametrize(
    "change",
    [
        lambda root: touch(root, "train/a/9.jpg"),
        lambda root: (root / "train/b/1.jpg").rename(root / "train/b/8.jpg"),
        lambda root: (root / "train/b/1.jpg").rename(root / "val/b/8.jpg"),
        lambda root: (root / "train/b/2.jpg").rename(root / "train/a/3.jpg"),
        lambda root: [(root / split / "b").rename(root / split / "c") for split in ("train", "val")],
    ],
    ids=["add", "rename", "move split", "move class", "rename class"],
)
def test_fingerprint_changes_with_the_files(folders, change):
    before = find(folders).fingerprint()
    change(folders)
    assert find(folders).fingerprint() != before


def run_data(data):
    return RunData(data.class_names, data.name, data.directory, options=dict(data.options))


def test_a_runs_images_are_found_where_they_were_and_elsewhere(folders):
    data = find(folders)
    assert discovery.load_run_dataset(run_data(data)).fingerprint() == data.fingerprint()
    moved = folders.rename(folders.parent / "moved")
    with pytest.raises(errors.DataError, match="no longer in .*data. Give their directory: --data_dir=DIR"):
        discovery.load_run_dataset(run_data(data))
    assert discovery.load_run_dataset(run_data(data), str(moved)).directory == str(moved)
    with pytest.raises(errors.DataError, match="has no images. Give some: --data_dir=DIR"):
        discovery.load_run_dataset(RunData(data.class_names))


def test_one_folder_of_classes_elsewhere_stays_whole_and_the_runs_own_is_divided(tmp_path):
    for name in ("own", "other"):
        touch(tmp_path / name, *(f"{label}/{i}.jpg" for label in "ab" for i in range(10)))
    data = find(tmp_path / "own")
    for data_dir in (None, data.directory):
        assert discovery.load_run_dataset(run_data(data), data_dir).fingerprint() == data.fingerprint()
    assert sizes(discovery.load_run_dataset(run_data(data), str(tmp_path / "other"))) == {"all": 20}


def test_a_runs_options_are_used_again(tmp_path):
    touch(tmp_path, *(f"{i}.jpg" for i in range(20)))
    (tmp_path / "mine.csv").write_text("".join(f"{i}.jpg,7,{'ab'[i % 2]}\n" for i in range(20)))
    data = find(tmp_path, labels="mine.csv", label_column="2")
    assert data.options == {"labels": str(tmp_path / "mine.csv"), "label_column": "2"}
    assert discovery.load_run_dataset(run_data(data)).fingerprint() == data.fingerprint()


def test_other_classes_than_the_runs_are_refused(folders):
    data = find(folders)
    touch(folders, "train/zebra/1.jpg")
    with pytest.raises(errors.DataError, match="classes that the run does not have: zebra; the run's are a, b. To"):
        discovery.load_run_dataset(run_data(data))
    assert discovery.load_run_dataset(run_data(data), any_classes=True).class_names == ("a", "b", "zebra")


def test_images_of_one_of_the_runs_classes_are_measured_on(tmp_path):
    touch(tmp_path, "b/1.jpg", "b/2.jpg")
    data = discovery.load_run_dataset(RunData(("a", "b")), str(tmp_path))
    assert data.splits["all"].labels.tolist() == [1, 1]


def test_images_of_some_of_the_runs_classes_get_its_labels_and_a_warning_counts_them(folders, caplog):
    data = discovery.load_run_dataset(RunData(("c", "b", "a")), str(folders))
    assert data.class_names == ("c", "b", "a") and set(data.splits["val"].labels) == {1, 2}
    assert class_of(data, "train").keys() == class_of(find(folders), "train").keys()
    assert [record.getMessage() for record in caplog.records] == [f"{folders} has images of 2 of the run's 3 classes."]


@pytest.mark.parametrize("classes", [("n01443537", "n03126707", "n02012849"), ("crane", "goldfish", "cup")])
def test_a_run_may_know_classes_as_wordnet_ids_or_as_words(tmp_path, classes):
    names = ("n01443537", "n02012849")
    touch(tmp_path, *(f"{name}/{number}.jpg" for name in names for number in range(4)))
    touch(tmp_path, "words.txt", content=b"n01443537\tgoldfish, fish\nn02012849\tcrane\n")
    data = discovery.load_run_dataset(RunData(classes), str(tmp_path))
    assert data.class_names == classes and set(data.splits["all"].labels) == {
        classes.index(each) for each in classes if each in (*names, "goldfish", "crane")
    }
    assert discovery.load_run_dataset(RunData(classes), str(tmp_path), any_classes=True).class_names == (
        "goldfish",
        "crane",
    )


APART, COMPOSED = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFD", "NFC"))


@pytest.mark.parametrize(("of_run", "there"), [(APART, COMPOSED), (COMPOSED, APART), ("b", "b")])
def test_classes_in_another_order_are_matched_by_name_with_accents_in_any_form(tmp_path, of_run, there):
    touch(tmp_path, *(f"{split}/{name}/1.jpg" for split in ("train", "val") for name in (there, "cafz")))
    of_run = RunData(("cafz", of_run))
    data = discovery.load_run_dataset(of_run, str(tmp_path))
    assert data.class_names == of_run.classes
    for path, label in zip(data.splits["val"].paths, data.splits["val"].labels.tolist()):
        folder = unicodedata.normalize("NFC", pathlib.Path(path).parent.name)
        assert folder == unicodedata.normalize("NFC", of_run.classes[label])
