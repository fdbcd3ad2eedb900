"""Tests of `containers`: what safetensors and Keras write is read; links, compression, absurd sizes are refused."""

import io
import json
import struct
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
import safetensors.numpy

from alexnet_tf.weights import containers, conversion
from tests.helpers.files import zipped


def test_read_bytes_names_what_is_wrong(tmp_path):
    with pytest.raises(containers.WeightFileError, match="absent.npy cannot be read: No such file"):
        containers.read_bytes(tmp_path / "absent.npy")
    (tmp_path / "empty").touch()
    with pytest.raises(containers.WeightFileError, match="is empty"):
        containers.read_bytes(tmp_path / "empty")
    with open(tmp_path / "huge", "wb") as file:  # Sparse: it takes no room.
        file.truncate(1 << 42)
    with pytest.raises(containers.WeightFileError, match="4,398,046,511,104 bytes"):
        containers.read_bytes(tmp_path / "huge")
    with pytest.raises(containers.WeightFileError, match="not a regular file"):
        containers.read_bytes(tmp_path)


@pytest.mark.parametrize("shape", [(2, 4), (1 << 40,), (-1,), (2.0, 3), ((2,), 3), (1,) * 9 + (6,), ("6",)])
def test_array_of_refuses_another_number_of_values(shape):
    with pytest.raises(containers.WeightFileError, match="declared as|no possible shape"):
        containers.array_of(bytes(24), "<f4", shape, "w")


def test_safetensors_round_trip_with_metadata():
    arrays = {"a": np.arange(6, dtype="float32").reshape(2, 3), "b": np.ones(2, "float16")}
    file = io.BytesIO()
    containers.write_safetensors(file, arrays, {"mean": "1 2 3"})
    read, metadata = containers.read_safetensors(file.getvalue())
    assert metadata == {"mean": "1 2 3"} and all(np.array_equal(read[name], arrays[name]) for name in arrays)


def header(value, length=None):
    text = json.dumps(value).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        bytes(1000),
        header({}, 4 << 30),
        header({"a": {"dtype": "F32", "shape": [1 << 30], "data_offsets": [0, 4 << 30]}}),
        header({"a": {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 4]}}) + b"abcd",
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}) + b"abcd",
        header({"a": {"dtype": "I32", "shape": [1], "data_offsets": [0, 4]}}) + b"abcd",
        header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}) + b"abcd",
        header([1, 2]),
        header("x"),
    ],
)
def test_hostile_safetensors_end_in_an_error_within_a_megabyte(content):
    tracemalloc.start()
    try:
        with pytest.raises(containers.WeightFileError):
            containers.read_safetensors(content)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def h5(fill):
    """An HDF5 file as Keras lays it out, with what `fill` puts where conv1's variables are."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        fill(file.create_group("layers/conv2d/vars"))
        file["layers/conv2d/vars"].attrs["name"] = "conv1"
    return content.getvalue()


def plain(group):
    group["0"], group["1"] = np.ones((3, 4), "float32"), np.zeros(4, "float32")


def test_read_keras_reads_kernel_and_bias_by_the_layers_name():
    arrays, model_config = containers.read_keras(h5(plain))
    assert {name: array.shape for name, array in arrays.items()} == {"conv1/kernel": (3, 4), "conv1/bias": (4,)}
    assert model_config == {}


def a_compressed_one(group):
    group.create_dataset("0", (1 << 15, 1 << 15), "float32", compression="gzip", chunks=True)


def a_huge_one_never_written(group):
    group.create_dataset("0", (1 << 20, 1 << 20), "float32")


def a_file_outside(group):
    group.create_dataset("0", (4,), "float32", external=[("/etc/hostname", 0, 16)])


def a_link_outside(group):
    group["0"] = h5py.ExternalLink("/etc/hostname", "/x")


def a_virtual_one(group):
    layout = h5py.VirtualLayout((4,), "float32")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    group.create_virtual_dataset("0", layout)


def integers(group):
    group["0"] = np.ones(4, "int32")


@pytest.mark.parametrize(
    "fill", [a_compressed_one, a_huge_one_never_written, a_file_outside, a_link_outside, a_virtual_one, integers]
)
def test_read_keras_refuses_what_is_not_plainly_in_the_file(fill):
    content = h5(fill)
    assert len(content) < 20_000
    tracemalloc.start()
    try:
        with pytest.raises(containers.WeightFileError, match="declared as|may lead anywhere|not a Keras weight file"):
            containers.read_keras(content)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "content",
    [
        b"\x89HDF\r\n\x1a\n" + bytes(100),
        h5(plain)[:1000],
        bytes(100),
        b"<html>",
        zipped({}),
        zipped({"model.weights.h5": h5(plain)}),
        zipped({"model.weights.h5": h5(plain), "config.json": "[" * 5000}),
        zipped({"model.weights.h5": h5(plain), "config.json": "{}"}),
        zipped({"model.weights.h5": bytes(1 << 24), "config.json": "{}"}, zipfile.ZIP_DEFLATED),
    ],
)
def test_read_keras_refuses_damaged_files(content):
    with pytest.raises(containers.WeightFileError):
        containers.read_keras(content)


def test_every_single_flipped_byte_ends_in_an_error_or_in_arrays():
    content = safetensors.numpy.save({"a": np.ones(4, "float32")})
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        try:
            containers.read_safetensors(bytes(damaged))
        except containers.WeightFileError:
            pass


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 244408911\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (POINTER, r"\(\d+ bytes\) is a pointer of Git LFS.*git lfs pull"),
        (b"<!DOCTYPE html><html><title>Virus scan warning</title></html>", "is a web page that was saved instead"),
        (b"\n<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a web page that was saved instead"),
    ],
)
@pytest.mark.parametrize("ending", [".pth", ".npy", ".caffemodel", ".keras"])
def test_what_a_failed_download_leaves_is_named(tmp_path, content, expected, ending):
    path = tmp_path / f"weights{ending}"
    path.write_bytes(content)
    with pytest.raises(containers.WeightFileError, match=expected):
        conversion.import_run(path, tmp_path / "run")
