"""Tests of `checkpoints`: NumPy reads the files, and whatever damage is either harmless or found."""

import os
import zipfile

import numpy as np
import pytest

from alexnet_tf.runs import checkpoints

STATE = {"epoch": 2, "history": [{"loss": 0.1 + 0.2}]}


def arrays():
    rng = np.random.default_rng(0)
    return {
        "conv1/kernel": rng.normal(size=(3, 5)).astype("float32"),
        "conv1/bias": np.zeros(5, "float32"),
        "sgd/iteration": np.int64(2**40),
    }


@pytest.fixture
def path(tmp_path):
    checkpoints.write(tmp_path / "3.npz", arrays(), STATE)
    return tmp_path / "3.npz"


def test_numpy_and_other_programs_read_the_file(path):
    with np.load(path) as file:
        assert set(file.files) == {*arrays(), "state.json"}
        np.testing.assert_array_equal(file["conv1/kernel"], arrays()["conv1/kernel"])
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


def damaged(content, rng):
    """Returns a file with one of the damages that disks, copies and crashes do."""
    content, kind, place = bytearray(content), rng.integers(4), int(rng.integers(len(content)))
    if kind == 0:
        content[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        content[place : place + 16] = rng.bytes(16)
    elif kind == 2:
        del content[place:]
    else:
        content[place:place] = rng.bytes(int(rng.integers(1, 9)))
    return bytes(content)


# ALEXNET_FUZZ=50000 does as many.
def test_damage_is_never_used_and_never_raises_anything_else(path):
    rng, content = np.random.default_rng(1), path.read_bytes()
    for number in range(int(os.environ.get("ALEXNET_FUZZ", 1000))):
        path.write_bytes(damaged(content, rng))
        if path.read_bytes() != content:
            with pytest.raises(checkpoints.DamagedError):
                pytest.fail(f"{number}: {checkpoints.read(path)}")


def test_content_that_is_sound_but_not_what_was_written_is_found(path):
    """The archive's own CRC-32 fits: only the SHA-256 can tell."""
    digest = path.read_bytes()[-32:]
    np.savez(path, **arrays() | {"conv1/bias": np.ones(5, "float32")}, **{"state.json": np.frombuffer(b"{}", "uint8")})
    assert np.load(path)["conv1/bias"].sum() == 5
    for tail in (b"", digest):
        path.write_bytes(path.read_bytes() + tail)
        with pytest.raises(checkpoints.DamagedError, match="its SHA-256 is not the one that was written"):
            checkpoints.read(path)


def test_num_bytes_is_about_the_size_of_the_file(tmp_path):
    large = {"a": np.zeros((300, 1000), "float32"), "b": np.zeros(7, "int64")}
    checkpoints.write(tmp_path / "1.npz", large, STATE)
    size = (tmp_path / "1.npz").stat().st_size
    assert size <= checkpoints.num_bytes((array.shape, array.dtype) for array in large.values()) <= 1.01 * size
