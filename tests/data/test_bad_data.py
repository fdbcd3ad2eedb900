"""Images as people really have them, through train.py, prepare, evaluate and predict as a person types them."""

import io
import json
import os
import pathlib

import numpy as np
import PIL.Image
import pytest

from alexnet_tf.network import architectures
from tests.helpers import commands, encoded_images
from tests.helpers.encoded_images import declare_jpeg
from tests.helpers.networks import narrow_dense


def picture(mode="RGB", size=(300, 280), kind="jpeg"):
    """Returns a picture of a mode of Pillow's as encoded bytes."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1] // 20 + 1, size[0] // 20 + 1, 3), "uint8")
    image = PIL.Image.fromarray(pixels).resize(size)
    image = (
        PIL.Image.fromarray(np.asarray(image.convert("L")).astype("uint16") * 256)
        if mode == "I;16"
        else image.convert(mode)
    )
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


# What cannot be read, and what a person is told; a string is where a link leads.
BAD = {
    "truncated.jpg": (picture()[:-3000], "the image data is cut short, damaged or of an unsupported kind"),
    "empty.jpg": (b"", "the file is empty"),
    "zeros.jpg": (bytes(1000), "it is not an image of a known format; it has 1000 bytes"),
    "text.jpg": (b"This is no picture.", "it is not an image of a known format; it has 19 bytes"),
    "page.jpg": (b"<html>not found</html>", "it is an HTML page or an SVG image"),
    "bomb.jpg": (
        declare_jpeg(picture(size=(16, 16)), 30_000, 30_000),
        "the header declares too many pixels; at most 100,000,000 are read",
    ),
    "bomb.png": (
        encoded_images.black_png(30_000, 30_000),
        "the header declares too many pixels; at most 100,000,000 are read",
    ),
    "nowhere.jpg": ("gone", "No such file or directory"),
    "to itself.jpg": ("to itself.jpg", "Too many levels of symbolic links"),
}
# What looks odd and is read.
GOOD = {
    "a gif.jpg": picture("P", kind="gif"),
    "a photo.webp": picture(kind="webp"),
    "a png.jpg": picture(kind="png"),
    "cmyk.jpg": picture("CMYK"),
    "grey.jpg": picture("L"),
    "16 bits.png": picture("I;16", kind="png"),
    "alpha.png": picture("RGBA", kind="png"),
    "one pixel.png": picture(size=(1, 1), kind="png"),
    "panorama.jpg": picture(size=(20_000, 10)),
    "tower.jpg": picture(size=(10, 20_000)),
    'it\'s "quoted", 猫 🐈.JPEG': picture(),
    " spaces .jpg": picture(),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """42 training images of two classes, nine of them bad, and a validation split with one bad image."""
    root = tmp_path_factory.mktemp("images") / "with spaces & 猫"
    for split, count in (("train", 21), ("val", 4)):
        for name in ("plain", "strange"):
            (root / split / name).mkdir(parents=True)
        for number in range(count):
            (root / split / "plain" / f"{number}.jpg").write_bytes(picture(size=(256, 256)))
    for name, content in {**{name: content for name, (content, _) in BAD.items()}, **GOOD}.items():
        if isinstance(content, str):
            (root / "train" / "strange" / name).symlink_to(content)
        else:
            (root / "train" / "strange" / name).write_bytes(content)
    (root / "val" / "strange" / "truncated.jpg").write_bytes(picture()[:-3000])
    (root / "val" / "strange" / "fine.jpg").write_bytes(picture())
    (root / "train" / "without images").mkdir()
    (root / "train" / "loop").symlink_to("..")
    os.mkfifo(root / "train" / "strange" / "pipe.jpg")
    return root


@pytest.fixture(scope="module", autouse=True)
def _narrow_paper():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(architectures.ARCHITECTURES, "paper", narrow_dense(architectures.PAPER, 32))
        yield


def call(*arguments):
    """Runs a command; returns (exit status, what it printed)."""
    status, out, err = commands.call(*arguments)
    return status, out + err


@pytest.fixture(scope="module")
def run(images, tmp_path_factory):
    """A run that was trained on the images, skipping, and what was printed."""
    path = tmp_path_factory.mktemp("runs") / "run"
    status, out = call(
        "train.py", f"--data_dir={images}", f"--workdir={path}", "--batch_size=8", "--epochs=1", "--on_bad_image=skip"
    )
    assert status == 0 and "Done: 1 epoch" in out, out
    return path, out


@pytest.fixture(scope="module")
def prepared(images, tmp_path_factory):
    path = tmp_path_factory.mktemp("prepared") / "out"
    status, out = call(
        "-m",
        "alexnet_tf",
        "prepare",
        f"--data_dir={images}",
        f"--output_dir={path}",
        "--on_bad_image=skip",
        "--processes=1",
    )
    assert status == 0 and "train: 33 images" in out and "9 skipped" in out, out
    return path, out


@pytest.fixture(scope="module")
def evaluated(images, run):
    status, out = call("-m", "alexnet_tf", "evaluate", f"--workdir={run[0]}", "--split=train", "--on_bad_image=skip")
    assert status == 0 and "train: 33 images (9 skipped)" in out, out
    return out


@pytest.fixture(scope="module")
def predicted(images, run):
    """What predict said, by file."""
    paths = sorted((images / "train" / "strange").glob("*.[jpw]*[gp]")) + sorted(
        (images / "train" / "strange").glob("*.JPEG")
    )
    paths = [path for path in paths if not path.is_fifo()]
    status, out = call("-m", "alexnet_tf", "predict", f"--workdir={run[0]}", "--json", *paths)
    assert status == 1
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return {pathlib.Path(line["file"]).name: line for line in lines}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_is_named_with_the_reason_by_every_command(name, images, run, prepared, evaluated, predicted):
    line = f"Skipped: {images / 'train' / 'strange' / name}: {BAD[name][1]}\n"
    assert run[1].count(line) == 1
    assert evaluated.count(line) == 1
    assert prepared[1].count(line) == 1
    assert predicted[name]["error"] == BAD[name][1]


@pytest.mark.parametrize("name", GOOD)
def test_an_odd_image_is_read_by_every_command(name, images, run, prepared, evaluated, predicted):
    assert "error" not in predicted[name] and len(predicted[name]["classes"]) == 2
    for out in (run[1], prepared[1], evaluated):
        assert f"{name}:" not in out


def test_what_is_left_out_of_the_folders_is_told(images, run, prepared):
    for _, out in (run, prepared):
        assert f"{images / 'train' / 'loop'} is left out: it is not a folder, or is a link that leads nowhere" in out
        assert f"Left out, as class folders without an image: 1: {images / 'train' / 'without images'}." in out
        assert f"such as {images / 'train' / 'strange' / 'pipe.jpg'}." in out
        assert "2 classes: plain, strange" in out and "train: 42 images" in out


def test_the_validation_leaves_out_its_bad_image(images, run):
    assert run[1].count(f"Skipped: {images / 'val' / 'strange' / 'truncated.jpg'}: ") == 1


@pytest.mark.parametrize(
    "command",
    [
        ("train.py", "--batch_size=42"),
        ("-m", "alexnet_tf", "prepare", "--output_dir={out}", "--processes=1"),
        ("-m", "alexnet_tf", "evaluate", "--split=train", "--workdir={run}"),
    ],
    ids=lambda command: command[2] if len(command) > 2 else command[0],
)
def test_without_skipping_the_first_bad_image_stops_with_what_to_do(command, images, run, tmp_path):
    arguments = [part.format(out=tmp_path / "out", run=run[0]) for part in command]
    if command[0] == "train.py":
        arguments.append(f"--workdir={tmp_path / 'run'}")
    status, out = call(*arguments, f"--data_dir={images}")
    assert status == 1
    [line] = [line for line in out.splitlines() if line.startswith("Error: An image cannot be read: ")]
    assert any(line.endswith(f"strange/{name}: {reason}.") for name, (_, reason) in BAD.items()), line
    assert "--on_bad_image=skip" in out and not (tmp_path / "out").exists()


@pytest.mark.parametrize("experiment", ["table", "figure4"])
def test_a_command_that_cannot_skip_does_not_name_the_flag(experiment, images, run, tmp_path):
    status, out = call("-m", "alexnet_tf", "reproduce", experiment, f"--workdir={run[0]}", f"--output={tmp_path}")
    assert status == 1 and "Error: An image cannot be read: " in out and "\nRemove or replace it.\n" in out
