"""Tests of `png_depth`: 16-bit PNG images that hold 12-bit values are noted once, and the advice works when pasted."""

import shlex
import sys

import numpy as np
import PIL.Image
import pytest

from alexnet_tf.data import discovery, png_depth
from alexnet_tf.network import architectures
from tests.helpers import commands
from tests.helpers.networks import SMALL


def write(directory, largest, dtype="uint16", count=6):
    """Writes grey PNG files of two classes with values up to `largest`."""
    rng = np.random.default_rng(0)
    for name in ("cells", "none"):
        (directory / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, largest + 1, (9, 8)).astype(dtype)
            pixels[0, 0] = largest
            PIL.Image.fromarray(pixels).save(directory / name / f"{number}.png")
    return directory


def notes(directory, **options):
    return [note for note in discovery.find_dataset(str(directory), **options).notes if "bits" in note]


@pytest.mark.parametrize(("largest", "bits"), [(4095, 12), (1023, 10), (2500, 12), (16_383, 14)])
def test_unused_upper_bits_are_noted_once(tmp_path, largest, bits):
    [note] = notes(write(tmp_path, largest))
    assert f"only the lower {bits} are used (values below {2**bits:,})" in note and "almost black" in note


@pytest.mark.parametrize(("largest", "dtype"), [(65_535, "uint16"), (40_000, "uint16"), (0, "uint16"), (255, "uint8")])
def test_ordinary_images_are_not(tmp_path, largest, dtype):
    assert notes(write(tmp_path, largest, dtype)) == []


def test_images_that_cannot_be_read_are_left_to_be_reported_later(tmp_path):
    write(tmp_path, 65_535)
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:40])
    assert notes(tmp_path) == []


def test_the_advice_works_when_it_is_pasted_and_may_run_twice(tmp_path, monkeypatch):
    [note] = notes(write(tmp_path / "it's here", 4095))
    before = np.asarray(PIL.Image.open(tmp_path / "it's here/none/3.png"))
    python, option, code, *arguments = shlex.split(note.split("\n", 1)[1])
    assert (python, option) == ("python", "-c")
    monkeypatch.setattr(sys, "argv", [option, *arguments])
    for _ in range(2):
        exec(code, {})  # noqa: S102
        after = np.asarray(PIL.Image.open(tmp_path / "it's here/none/3.png"))
        np.testing.assert_array_equal(after, before * 16)
        assert notes(tmp_path / "it's here") == []


def predict(small_run, *images):
    """Returns the lines on standard output and what stands on standard error."""
    status, out, err = commands.call("-m", "alexnet_tf", "predict", f"--workdir={small_run}", "--json", *images)
    assert status == 0
    return out.splitlines(), err


def test_predict_notes_unused_upper_bits_once_and_the_advice_works(small_run, tmp_path, monkeypatch):
    monkeypatch.setitem(architectures.ARCHITECTURES, "small", SMALL)
    folder = write(tmp_path / "it's here", 4095) / "cells"
    lines, err = predict(small_run, folder)
    assert len(lines) == 6 and all("classes" in line for line in lines)
    assert err.count("only the lower 12 are used (values below 4,096)") == 1 == err.count("images are almost black")
    command = err.split("in a copy of the directory:\n")[1].removesuffix(
        "\nThe factor must be that of the training images.\n"
    )
    _, option, code, *arguments = shlex.split(command)
    monkeypatch.setattr(sys, "argv", [option, *arguments])
    exec(code, {})  # noqa: S102
    assert "bits" not in predict(small_run, folder)[1]


def test_predict_gives_no_command_for_images_of_several_folders(small_run, tmp_path, monkeypatch):
    monkeypatch.setitem(architectures.ARCHITECTURES, "small", SMALL)
    write(tmp_path, 1000)
    _, err = predict(small_run, tmp_path / "cells" / "0.png", tmp_path / "none" / "0.png")
    assert "almost black. Stretch the values first: multiply them by 64." in err and "python" not in err


@pytest.mark.parametrize(("largest", "dtype"), [(65_535, "uint16"), (0, "uint16"), (255, "uint8")])
def test_predict_says_nothing_of_ordinary_images(small_run, tmp_path, monkeypatch, largest, dtype):
    monkeypatch.setitem(architectures.ARCHITECTURES, "small", SMALL)
    write(tmp_path, largest, dtype, count=2)
    assert "bits" not in predict(small_run, tmp_path)[1]


def test_only_so_many_images_are_decoded_twice_and_none_that_is_very_large(tmp_path, monkeypatch):
    watch, decoded = png_depth.Watch(), []
    largest_value = png_depth._largest_value
    monkeypatch.setattr(png_depth, "_largest_value", lambda content: decoded.append(1) or largest_value(content))
    content = (write(tmp_path, 4095, count=1) / "cells" / "0.png").read_bytes()
    for number in range(40):
        watch.look(f"{number}.png", content)
    assert len(decoded) == 16 and largest_value(content) == 4095
    monkeypatch.setattr(png_depth, "_MAX_BYTES", 2 * 9 * 8 - 1)
    assert largest_value(content) == 0
