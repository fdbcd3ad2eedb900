"""Tests of `png_depth`: 16-bit PNG images that hold 12-bit values are noted once."""

import numpy as np
import PIL.Image
import pytest

from alexnet_tf.data import discovery, first_look, png_depth
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


def notes(directory):
    return [note for note in first_look.notes(discovery.find_dataset(str(directory))) if "bits" in note]


@pytest.mark.parametrize(("largest", "bits"), [(4095, 12), (1023, 10), (2500, 12), (16_383, 14)])
def test_unused_upper_bits_are_noted_once(tmp_path, largest, bits):
    [note] = notes(write(tmp_path, largest))
    assert f"only the lower {bits} are used (values below {2**bits:,})" in note and "almost black" in note
    assert note.endswith(f"multiply them by {2 ** (16 - bits)}.")


@pytest.mark.parametrize(("largest", "dtype"), [(65_535, "uint16"), (40_000, "uint16"), (0, "uint16"), (255, "uint8")])
def test_ordinary_images_are_not(tmp_path, largest, dtype):
    assert notes(write(tmp_path, largest, dtype)) == []


def test_images_that_cannot_be_read_are_left_to_be_reported_later(tmp_path):
    write(tmp_path, 65_535)
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:40])
    assert notes(tmp_path) == []


def predict(small_run, *images):
    """Returns the lines on standard output and what stands on standard error."""
    status, out, err = commands.call("-m", "alexnet_tf", "predict", f"--workdir={small_run}", "--json", *images)
    assert status == 0
    return out.splitlines(), err


def test_predict_notes_unused_upper_bits_once(small_run, tmp_path, monkeypatch):
    monkeypatch.setitem(architectures.ARCHITECTURES, "small", SMALL)
    lines, err = predict(small_run, write(tmp_path, 4095) / "cells")
    assert len(lines) == 6 and all("classes" in line for line in lines)
    assert err.count("only the lower 12 are used (values below 4,096)") == 1 == err.count("images are almost black")
    assert "multiply them by 16.\nThe factor must be that of the training images." in err


def test_only_so_many_images_are_decoded_twice_and_none_that_is_very_large(tmp_path, monkeypatch):
    watch, decoded = png_depth.Watch(), []
    largest_value = png_depth._largest_value
    monkeypatch.setattr(png_depth, "_largest_value", lambda content: decoded.append(1) or largest_value(content))
    content = (write(tmp_path, 4095, count=1) / "cells" / "0.png").read_bytes()
    for number in range(40):
        watch.look(f"{number}.png", content)
    assert len(decoded) == 16 and largest_value(content) == 4095
    monkeypatch.setattr(png_depth, "_MAX_PIXELS", 9 * 8 - 1)
    watch = png_depth.Watch()
    watch.look("0.png", content)
    assert watch.notes() == () and len(decoded) == 16
