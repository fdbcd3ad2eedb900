"""Tests of `imagenet`: tars in ImageNet's own form, and unpacked; what `tarfile` extracts and TFDS's labels judge."""

import io
import os
import pathlib
import shutil
import tarfile

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.datasets.imagenet2012 import imagenet_common

from alexnet_tf.data import imagenet, prepare
from tests.helpers.files import touch
from tests.helpers.layouts import class_of, error_of, find, sizes

# Classes of the first validation images, in the order of their numbers.
VALIDATION_IDS = tfds.core.tfds_path("datasets/imagenet2012/validation_labels.txt").read_text().split()[:8]
CLASSES = sorted(VALIDATION_IDS)


def jpeg(number):
    """Returns a picture of one grey that says which it is, as JPEG of a length of its own."""
    file = io.BytesIO()
    image = PIL.Image.new("L", (20 + number % 7, 16), 5 * number + 10)
    image.save(file, "jpeg", comment=bytes([number]) * (1 + number * 37 % 600))
    return file.getvalue()


def tar_of(members, kind=tarfile.GNU_FORMAT, directory=None):
    """Returns a tar file of {name: bytes}, as `tar -cf` makes it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
        if directory:
            folder = tarfile.TarInfo(directory)
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def train_members(classes=CLASSES, images=3):
    """Returns {wnid.tar: bytes}: image i of class c is `jpeg(3 c + i)`; neither classes nor images come sorted."""
    members = {}
    for name in [*classes[3:], *classes[:3]]:
        numbers = [images * classes.index(name) + i for i in range(images)]
        members[f"{name}.tar"] = tar_of({f"{name}_{1000 - 7 * number}.JPEG": jpeg(number) for number in numbers})
    return members


def validation_members(numbers):
    """Returns {name: bytes}: image n is `jpeg(n + 30)`."""
    return {f"ILSVRC2012_val_{number:08d}.JPEG": jpeg(number + 30) for number in numbers}


# As in ImageNet's file, not in the order of their numbers.
ORDER = (5, 1, 8, 2, 7, 3, 6, 4)


def write(directory, train=None, validation=None):
    directory = pathlib.Path(directory)
    directory.mkdir(exist_ok=True)
    (directory / imagenet.TRAIN).write_bytes(tar_of(train_members()) if train is None else train)
    (directory / imagenet.VALIDATION).write_bytes(
        tar_of(validation_members(ORDER)) if validation is None else validation
    )
    return directory


@pytest.fixture(scope="module")
def tars(tmp_path_factory):
    return write(tmp_path_factory.mktemp("imagenet"))


def extracted(directory):
    """Returns {name: bytes} of what `tarfile` takes out of both files."""
    found = {"train": {}, "validation": {}}
    with tarfile.open(directory / imagenet.TRAIN) as outer:
        for member in filter(tarfile.TarInfo.isreg, outer):
            with tarfile.open(fileobj=outer.extractfile(member)) as inner:
                found["train"] |= {each.name: inner.extractfile(each).read() for each in inner if each.isreg()}
    with tarfile.open(directory / imagenet.VALIDATION) as archive:
        found["validation"] = {each.name: archive.extractfile(each).read() for each in archive if each.isreg()}
    return found


def read_all(split):
    """Returns {name: (bytes, label)} by the descriptions."""
    found = {}
    for index in range(len(split)):
        path, name = split.describe(index).split(", ")
        assert path == split.files[split.file_of[index]] and name not in found
        found[name] = split.image_bytes(index), split.label(index)
    return found


def check_images(directory):
    """Finds what `tarfile` extracts, with TFDS's labels; returns the data set."""
    data = find(directory)
    assert list(data.splits) == ["train", "validation"] and data.notes == () and data.validation == "validation"
    for name, expected in extracted(directory).items():
        split = data.splits[name]
        found = read_all(split)
        assert {each: image for each, (image, _) in found.items()} == expected
        assert (split.labels.dtype, split.offsets.dtype) == ("int32", "int64") and not split.is_square
        assert split.files == (str(directory / f"ILSVRC2012_img_{'train' if name == 'train' else 'val'}.tar"),)
        # In the order of the file, which is read forwards.
        assert (np.diff(split.offsets) > 0).all() and len(split) == (24 if name == "train" else 8)
        names = {each: data.class_names[label] for each, (_, label) in found.items()}
        if name == "train":
            assert all(each.startswith(f"{wordnet_id}_") for each, wordnet_id in names.items())
        else:
            expected = imagenet_common.get_validation_labels(str(directory / imagenet.VALIDATION))
            assert names.items() <= expected.items()
    assert (data.name, data.class_names) == ("imagenet2012", tuple(CLASSES)) and len(set(CLASSES)) == 8
    return data


def test_the_tars_hold_what_tarfile_extracts_with_the_labels_of_tfds(tars):
    assert check_images(tars).directory == str(tars)
    assert find(tars, dataset="imagenet2012").fingerprint() == find(tars).fingerprint()
    assert "No prepared TFDS data set 'cifar10'" in error_of(tars, dataset="cifar10")


def test_the_tars_are_prepared(tars, tmp_path):
    preparation, _ = prepare.prepare(find(tars), tmp_path / "out")
    assert preparation["validation"] == "validation" and preparation["classes"] == CLASSES
    builder = tfds.builder_from_directory(tmp_path / "out")
    for name, split in find(tars).splits.items():
        found = tfds.as_numpy(builder.as_dataset(split=name))
        assert {each["file_name"].decode(): each["label"] for each in found} == {
            split.describe(index).removeprefix(f"{tars}/"): split.label(index) for index in range(len(split))
        }


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_other_forms_of_tar_and_folders_inside(tmp_path, kind):
    train = tar_of({f"./train/{name}": data for name, data in train_members().items()}, kind, "./train")
    validation = tar_of({f"{name}": data for name, data in validation_members(ORDER).items()}, kind, "val")
    check_images(write(tmp_path, train, validation))


def test_offsets_beyond_four_gibibytes(tmp_path):
    """With a hole in the file, in front of the last class: 32 bits would not reach."""
    write(tmp_path, train=tar_of(train_members(CLASSES[:-1])))
    path, gap = tmp_path / imagenet.TRAIN, 5 * 2**30
    filler = tarfile.TarInfo("n00000000.tar")
    filler.size = gap
    last = tar_of({f"{CLASSES[-1]}.tar": tar_of({f"{CLASSES[-1]}_1.JPEG": jpeg(50)})})
    body = path.read_bytes()[: max(member.offset_data + member.size for member in members_of(path))]
    with open(path, "wb") as file:
        file.write(body + filler.tobuf(tarfile.GNU_FORMAT))
        file.seek(gap, os.SEEK_CUR)
        file.write(last)
    data = find(tmp_path)
    train = data.splits["train"]
    assert data.class_names == tuple(CLASSES)
    assert train.offsets.max() > gap and train.image_bytes(len(train) - 1) == jpeg(50)


@pytest.mark.parametrize("missing", [imagenet.TRAIN, imagenet.VALIDATION])
def test_one_that_is_missing_is_named(tars, tmp_path, missing):
    shutil.copytree(tars, tmp_path, dirs_exist_ok=True)
    (tmp_path / missing).unlink()
    text = error_of(tmp_path)
    assert f"{tmp_path / missing} is missing" in text and imagenet.TRAIN in text and imagenet.VALIDATION in text


def members_of(path):
    with tarfile.open(path) as archive:
        return archive.getmembers()


# The place of a cut, from the tar's members in their order.
CUTS = {
    "in the first header": lambda members: 300,
    "in an image": lambda members: members[3].offset_data + members[3].size - 1,
    "before a header": lambda members: members[4].offset,
    "before the end's mark": lambda members: members[-1].offset_data + -(-members[-1].size // 512) * 512,
}


def without_a_header(path):
    """Damages a header in the middle: `tarfile` takes it for the end, and half of the images would be missing."""
    content, start = path.read_bytes(), members_of(path)[4].offset + 100
    return content[:start] + b"\xff" * 50 + content[start + 50 :]


DAMAGES = {name: lambda path, cut=cut: path.read_bytes()[: cut(members_of(path))] for name, cut in CUTS.items()} | {
    "header": without_a_header,
    "nothing": lambda path: b"",
    "no tar": lambda path: b"<html>404</html>" * 100,
    "compressed": lambda path: b"\x1f\x8b" + bytes(range(256)) * 9,
}


@pytest.mark.parametrize("name", [imagenet.TRAIN, imagenet.VALIDATION])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_cut_or_damaged_file_is_an_error(tars, tmp_path, name, damage):
    shutil.copytree(tars, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).write_bytes(DAMAGES[damage](tars / name))
    text = error_of(tmp_path)
    assert f"{tmp_path / name} is cut or damaged" in text and "Download it again" in text


@pytest.mark.parametrize("damage", ["in an image", "before a header", "header", "nothing", "no tar"])
def test_a_damaged_class_is_an_error(tmp_path, damage):
    members = train_members(images=6)
    inner = tmp_path / "inner.tar"
    inner.write_bytes(members[f"{CLASSES[4]}.tar"])
    write(tmp_path, train=tar_of(members | {f"{CLASSES[4]}.tar": DAMAGES[damage](inner)}))
    assert f"{tmp_path / imagenet.TRAIN} is cut or damaged" in error_of(tmp_path)


@pytest.mark.parametrize(
    ("part", "name", "expected"),
    [
        *(("train", name, "n01440764.tar") for name in ("n0144076.tar", "n01440764.tar.gz")),
        *(
            ("val", name, "ILSVRC2012_val_00050000.JPEG")
            for name in ("ILSVRC2012_val_00050001.JPEG", "ILSVRC2012_val_00000001.JPEG.txt")
        ),
    ],
)
def test_names_what_does_not_belong(tmp_path, part, name, expected):
    members = {"train": train_members(), "val": validation_members(ORDER)}
    members[part][name] = b"1"
    write(tmp_path, tar_of(members["train"]), tar_of(members["val"]))
    text = error_of(tmp_path)
    assert f"ILSVRC2012_img_{part}.tar holds {name}" in text and expected in text


def test_validation_images_of_other_classes_are_left_out_and_counted(tmp_path):
    classes = sorted(VALIDATION_IDS[:3])
    data = find(write(tmp_path, train=tar_of(train_members(classes))))
    assert data.class_names == tuple(classes)
    assert data.notes == ("5 validation images are left out: their classes are not in train.",)
    found = read_all(data.splits["validation"])
    assert {name: classes[label] for name, (_, label) in found.items()} == {
        f"ILSVRC2012_val_{i + 1:08d}.JPEG": VALIDATION_IDS[i] for i in range(3)
    }


def test_validation_images_of_other_classes_alone_are_an_error(tmp_path):
    train = tar_of(train_members(sorted(VALIDATION_IDS[2:])))
    write(tmp_path, train, tar_of(validation_members([1, 2])))
    assert "ILSVRC2012_img_val.tar holds no image of the 6 classes of train." in error_of(tmp_path)


def test_fingerprint_changes_with_the_labels(tars, tmp_path):
    numbers = (5, 1, 8, 2, 7, 3, 4, 6)  # Files of the same names and sizes, but another order.
    other = write(tmp_path, validation=tar_of(validation_members(numbers)))
    assert find(other).fingerprint() != find(tars).fingerprint()


# Unpacked.


def unpack(root, known=VALIDATION_IDS, images=8):
    """Writes empty files as ImageNet's are called: a training image of each known class, and validation images."""
    touch(root, *(f"train/{each}/{each}_1.JPEG" for each in known))
    touch(root, *(f"val/ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, images + 1)))


@pytest.mark.parametrize("inner", ["", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "CLS-LOC"])
def test_flat_validation_images_get_their_labels(tmp_path, inner):
    unpack(tmp_path / inner)
    touch(tmp_path / inner, "test/ILSVRC2012_test_00000001.JPEG")
    (tmp_path / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n")  # Kaggle's, beside ILSVRC.
    data = find(tmp_path)
    assert data.class_names == tuple(CLASSES) and sizes(data) == {"train": 8, "val": 8} and data.validation == "val"
    assert list(class_of(data, "val").items()) == [
        (f"ILSVRC2012_val_{number:08d}.JPEG", wordnet_id) for number, wordnet_id in enumerate(VALIDATION_IDS, 1)
    ]
    assert all(name.startswith(f"{wordnet_id}_") for name, wordnet_id in class_of(data, "train").items())
    assert any("test is left out: its images have no labels" in note for note in data.notes)


def test_validation_images_that_were_sorted_into_folders_are_class_folders(tmp_path):
    unpack(tmp_path, images=0)
    touch(tmp_path, *(f"val/{each}/1.JPEG" for each in VALIDATION_IDS))
    data = find(tmp_path, dataset="imagenet2012")
    assert len(data.splits["val"]) == 8 and not any("numbered" in note for note in data.notes)


# Words for WordNet ids.

WORDS = "n00001740\tentity\nn01443537\tgoldfish, Carassius auratus\nn01629819\tfire salamander\n"
CRANES = ("n02012849", "n03126707")  # The bird and the machine.


@pytest.mark.parametrize(
    ("classes", "words", "expected"),
    [
        (("n01443537", "n01629819"), WORDS, ("goldfish", "fire salamander")),
        (CRANES, "n02012849\tcrane\r\nn03126707\tcrane, lifter\r\n", tuple(f"crane ({each})" for each in CRANES)),
        (("crane", "n01443537"), WORDS + "crane\tbird\n", ("crane", "goldfish")),
        (("goldfish", "n01443537"), WORDS, ("goldfish", "goldfish (n01443537)")),
        (CRANES, "n02012849\nn03126707\t \n", CRANES),
    ],
)
def test_classes_are_the_words_of_wordnet_ids_and_stay_distinct(tmp_path, classes, words, expected):
    touch(
        tmp_path,
        *(
            f"{split}/{each}/images/{number}.JPEG"
            for split in ("train", "val")
            for each in classes
            for number in range(2)
        ),
    )
    touch(tmp_path, "words.txt", content=words.encode())
    assert find(tmp_path).class_names == find(tmp_path / "train").class_names == expected


def test_where_nothing_is_it_says_which_files_go_where(tmp_path):
    text = error_of(tmp_path, dataset="imagenet2012")
    assert imagenet.TRAIN in text and imagenet.VALIDATION in text and "https://image-net.org" in text
    assert f"into {tmp_path}, as they are, then type\n" in text
    assert f"  python -m alexnet_tf prepare --data_dir={tmp_path} --output_dir=imagenet-256\n" in text
    assert "  python train.py --data_dir=imagenet-256\n" in text
