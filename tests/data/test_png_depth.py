"""Tests of `png_depth`: 16-bit PNG images that hold 12-bit values are noted once, and the advice works when pasted."""

import shlex
import sys

import numpy as np
import PIL.Image
import pytest

from alexnet_tf.data import discovery


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
@pytest.mark.parametrize("for_prepare", [False, True])
def test_unused_upper_bits_are_noted_once(tmp_path, largest, bits, for_prepare):
    [note] = notes(write(tmp_path, largest), for_prepare=for_prepare)
    assert f"only the lower {bits} are used (values below {2 ** bits:,})" in note and "almost black" in note


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
