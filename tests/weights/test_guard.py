"""Tests of `guard` and of all readers alike: bad files end in one line, within bounded memory and time."""

import hashlib
import io
import json
import os
import pickle
import struct
import zipfile

import h5py
import numpy as np
import pytest
import safetensors.numpy

from alexnet_tf.weights import formats, guard
from tests.helpers import onnx
from tests.helpers.caffe import blob, caffemodel_bytes, field, number_field, varint
from tests.helpers.files import zipped
from tests.helpers.pickles import Evil, npy, python2_array, tensor_pickle, torch_zip

FLOATS = np.arange(6, dtype="<f4")
WEIGHTS = {"conv1": (np.arange(48, dtype="float32").reshape(4, 3, 2, 2), np.arange(4, dtype="float32"))}


def saved(write, *arguments, **keywords):
    file = io.BytesIO()
    write(file, *arguments, **keywords)
    return file.getvalue()


def h5(fill):
    """An HDF5 file as Keras lays it out, with what `fill` puts where conv1's variables are."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        fill(file.create_group("layers/conv2d/vars"))
        file["layers/conv2d/vars"].attrs["name"] = "conv1"
    return content.getvalue()


def plain(group):
    group["0"], group["1"] = np.ones((3, 4), "float32"), np.zeros(4, "float32")


NORMALIZE = {"name": "normalize", "config": {"mean": [1, 2, 3], "scale": [1, 1, 1]}}

# Small good files of every kind, by the key of the format.
GOOD = [
    ("caffe", caffemodel_bytes("conv1 relu1 norm1 pool1", WEIGHTS)),
    ("caffe", caffemodel_bytes("conv1 relu1 norm1 pool1", WEIGHTS, is_old=True)),
    ("caffe", blob(np.ones((3, 2, 2)), is_old=True)),
    ("numpy", saved(np.save, {"conv1": [FLOATS]})),
    ("numpy", saved(np.savez, a=FLOATS)),
    ("torch", torch_zip(tensor_pickle(), {"0": FLOATS.tobytes()})),
    ("safetensors", safetensors.numpy.save({"a": np.ones(4, "float32")}, {"mean": "1 2 3"})),
    ("keras", h5(plain)),
    (
        "keras",
        zipped(
            {
                "model.weights.h5": h5(plain),
                "config.json": json.dumps({"config": {"name": "x", "layers": [NORMALIZE]}}),
            }
        ),
    ),
    ("onnx", onnx.model([onnx.CONV], [onnx.tensor("k", WEIGHTS["conv1"][0])], classes='["a"]')),
]


@pytest.mark.parametrize("index", range(len(GOOD)))
def test_every_single_flipped_byte_ends_in_an_error_or_in_arrays(index):
    """Nothing else than a WeightFileError comes out of a damaged file; cut files too."""
    name, content = GOOD[index]
    assert guard.parse(name, content).arrays
    for place in range(0, len(content), 1 + len(content) // 500):
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        for each in (bytes(damaged), content[:place]):
            try:
                arrays = guard.parse(name, each).arrays
            except formats.WeightFileError as error:
                assert "\n" not in str(error) and len(str(error)) < 500
            else:
                assert all(array.dtype == "float32" for array in arrays.values())


def written(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def refused(path):
    with pytest.raises(formats.WeightFileError) as caught:
        guard.read(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "Traceback" not in message
    return message.removeprefix(str(path))


def test_what_the_child_found_arrives(tmp_path):
    arrays = {"conv1.weight": np.linspace(0, 1, 12, dtype="<f8").reshape(3, 4).T, "conv1.bias": np.float16([0.1])}
    stated = {"architecture": "x", "mean": "1 2 3.5", "scale": "1 1 1", "classes": '["\\udc80", "\\u00e4"]'}
    content = safetensors.numpy.save({name: np.ascontiguousarray(each) for name, each in arrays.items()}, stated)
    file, sha256 = guard.read(written(tmp_path, "a.SafeTensors", content))
    assert sha256 == hashlib.sha256(content).hexdigest()
    assert file.arrays.keys() == arrays.keys() and file.layout == "stages" and file.steps is None
    for name, array in arrays.items():
        assert np.array_equal(file.arrays[name], array.astype("float32")) and file.arrays[name].dtype == "float32"
    assert (file.architecture, file.mean, file.scale) == ("x", [1, 2, 3.5], [1, 1, 1])
    assert file.class_names == ["\udc80", "ä"]


def test_what_is_not_a_readable_file_is_named(tmp_path):
    with open(tmp_path / "huge.npy", "wb") as file:  # Sparse: it takes no room.
        file.truncate(1 << 42)
    os.mkfifo(tmp_path / "pipe.caffemodel")
    (tmp_path / "zero.npy").symlink_to("/dev/zero")
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "empty.npy").touch()
    for name, message in {
        "absent.npy": " cannot be read: No such file",
        "huge.npy": ": It has 4,398,046,511,104 bytes",
        "empty.npy": ": It is empty.",
        "a.txt": ": Its name ends in none of .caffemodel, .binaryproto, .npy",
        **dict.fromkeys(("pipe.caffemodel", "zero.npy", "folder.npy"), ": It is not a regular file"),
    }.items():
        assert refused(tmp_path / name).startswith(message)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 244408911\n"


@pytest.mark.parametrize("name", formats.FORMATS)
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (POINTER, r"\(\d+ bytes\) is a pointer of Git LFS.*git lfs pull"),
        (b"<!DOCTYPE html><html><title>Virus scan warning</title></html>", "is a web page that was saved instead"),
        (b"\n<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a web page that was saved instead"),
        (b"x", "It is damaged, or not a .* file"),
        (bytes(1000), "It is damaged, or not a .* file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(900), "It is damaged, or not a .* file"),
        (b"PK\3\4" + bytes(50), "It is damaged, or not a .* file"),
    ],
)
def test_other_kinds_of_files_are_refused(name, content, expected):
    with pytest.raises(formats.WeightFileError, match=expected):
        guard.parse(name, content)


@pytest.mark.parametrize("protocol", [1, 2, 4, 5])
def test_no_code_of_a_pickle_is_run(protocol, tmp_path):
    evil = pickle.dumps({"conv1": Evil(tmp_path / "run")}, protocol)
    for name, content in (("a.npy", npy(evil)), ("a.pth", torch_zip(evil)), ("old.pth", evil)):
        assert "It asks for posix.mkdir, which arrays do not need" in refused(written(tmp_path, name, content))
    assert not (tmp_path / "run").exists()
    pickle.loads(evil)  # It would have been: the test can tell.
    assert (tmp_path / "run").exists()


FOUR_GB = struct.pack("<I", 0xFFFFFFF0)
# A tuple of the same tuple twice, sixty times over: 2^60 leaves to whoever hashes, prints or compares it.
NESTED = b"K\x01K\x01\x86" + b"q\0h\0\x86" * 60


def bomb(member, start=b""):
    """A zip file of 320 MB of zeros."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open(member, "w", force_zip64=True) as content:
            content.write(start)
            for _ in range(80):
                content.write(bytes(1 << 22))
    return file.getvalue()


def declared(count):
    return saved(np.lib.format.write_array_header_1_0, {"descr": "<f4", "fortran_order": False, "shape": (count,)})


GREEDY = {
    "memo-of-64-GB.pth": lambda: torch_zip(b"\x80\x02Nr" + FOUR_GB + b"."),
    "bomb.npz": lambda: bomb("conv1.npy", declared(1 << 28)),
    "bomb.pth": lambda: bomb("archive/data.pkl"),
    "4-TB.weights.h5": lambda: h5(lambda group: group.create_dataset("0", (1 << 20, 1 << 20), "float32")),
    "a-tensor-of-4-GB.pth": lambda: torch_zip(tensor_pickle(shape=(1 << 30,), strides=(0,)), {"0": FLOATS.tobytes()}),
    "4-GB-in-old.pth": lambda: pickle.dumps(1, 2) * 3 + tensor_pickle(count=1 << 30) + pickle.dumps(["0"], 2),
    "empty-layers.caffemodel": lambda: field(100, b"") * 10_000_000,
}


@pytest.mark.parametrize("name", GREEDY)
def test_what_needs_more_memory_than_a_weight_file_is_refused(name, tmp_path):
    message = refused(written(tmp_path, name, GREEDY[name]()))
    assert message == ": It needs more memory than a weight file of its size may." or "alloc failed" in message


def test_what_takes_too_long_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "_SECONDS", 1)
    path = written(tmp_path, "tuples-as-a-key.pth", torch_zip(b"\x80\x02}(" + NESTED + b"K\x01u."))
    assert refused(path) == ": Reading it takes longer than 1 s: it was given up."


def test_a_reader_that_dies_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(guard.sys, "executable", written(tmp_path, "python", b"#!/bin/sh\nkill -SEGV $$\n"))
    os.chmod(tmp_path / "python", 0o700)
    assert "ended its reader (status -11)" in refused(written(tmp_path, "a.npy", b"x"))


def layer_with(blob_bytes):
    return field(100, field(1, "conv1") + field(2, "Convolution") + field(7, blob_bytes))


def dims(*sizes):
    return field(7, field(1, b"".join(varint(size & (1 << 64) - 1) for size in sizes)))


def header(value, length=None):
    text = json.dumps(value).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text


def tensor_header(dtype="F32", shape=(1,), end=4):
    return header({"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}) + b"abcd"


def virtual(group):
    layout = h5py.VirtualLayout((4,), "float32")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    group.create_virtual_dataset("0", layout)


DATA = field(5, bytes(16))
HUGE_SHAPE = b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", 1 << power) for power in (33, 30)) + b"t"
PICKLES = [
    b"\x80\x03B" + FOUR_GB + b"x.",  # 4 GB of bytes,
    b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.",  # an exabyte,
    b"\x80\x02X" + FOUR_GB + b"x.",  # 4 GB of text,
    b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.",  # in a frame of an exabyte.
    b"\x80\x02" + python2_array(b"f4", b"<", HUGE_SHAPE, b"U\x04abcd") + b".",
    b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nJ\xff\xff\xff\x7f\x85U\x01b\x87R.",
    b"\x80\x02ctorch._utils\n_rebuild_tensor\n}X\x01\0\0\0aK\x01sb.",  # Attributes of a function.
    b"\x80\x02" + b"}" * 1_000_000,
    b"\x80\x02" + b"(" * 1_000_000,
    b"",
    b".",
    b"\xff" * 100,
    b"\x80\x02K\x01.",
    b"\x80\x02].",
    b"\x80\x02}X\x01\0\0\0aK\x01s.",
    pickle.dumps(io.BytesIO),
    pickle.dumps({"a": 1.5}, 0),
    *(
        b"\x80\x02c" + wanted + b"\n(X\x01\0\0\0atR."
        for wanted in (
            b"builtins\neval",
            b"builtins\ngetattr",
            b"os\nsystem",
            b"numpy\nload",
            b"numpy.core.multiarray\nscalar",
            b"torch.storage\n_load_from_bytes",
            b"torch._utils\n_rebuild_qtensor",
        )
    ),
]
HOSTILE = [
    *(("numpy", npy(each)) for each in PICKLES),
    *(("torch", torch_zip(each)) for each in PICKLES),
    *(
        ("torch", torch_zip(tensor_pickle(**arguments), {"0": FLOATS.tobytes()}))
        for arguments in (
            {"shape": (2, 4)},
            {"offset": 1},
            {"offset": -1},
            {"shape": (1 << 40, 1)},
            {"shape": (-2, 3)},
            {"strides": (-3, 1)},
            {"strides": (1,)},
            {"shape": (1 << 30, 1 << 30)},
            {"key": "../x"},
            {"storage": b"torch\nIntStorage\n"},
            {"storage": b"torch\nLongStorage\n", "count": 3, "shape": (3,), "strides": (1,)},
        )
    ),
    ("numpy", declared(1 << 39) + b"abcd"),
    ("numpy", declared(-1) + b"abcd"),
    ("numpy", saved(np.save, np.zeros(3, "int32"))),
    ("numpy", saved(np.savez, a=np.array({"a": 1}, object))),
    ("caffe", field(1, "net")),
    ("caffe", b'name: "AlexNet"\nlayer {'),
    ("caffe", varint(100 << 3 | 2) + varint(0xFFFFFFF0) + bytes(900)),  # 4 GB of layers,
    ("caffe", layer_with(dims(1 << 30) + varint(5 << 3 | 2) + varint(4 << 30) + bytes(900))),  # of floats.
    *(("caffe", layer_with(dims(*sizes) + DATA)) for sizes in ((1 << 30,), (1 << 62, 4, 1 << 62), (-4, -1), [1] * 300)),
    ("caffe", layer_with(b"".join(number_field(i, n) for i, n in enumerate((1 << 15, 1 << 15, 1, 1), 1)) + DATA)),
    ("caffe", layer_with(dims(4))),
    ("caffe", layer_with(dims(4) + field(5, bytes(15)))),
    ("caffe", layer_with(field(7, field(1, bytes(1_000_000))))),
    ("caffe", b"\x08" + b"\x80" * 10 + b"\x01"),  # A number of eleven bytes,
    ("caffe", b"\x08" + b"\xff" * 1_000_000),  # one without an end.
    ("caffe", b"\x0b" * 500),
    ("caffe", b"\x07" * 20),
    ("safetensors", header({}, 4 << 30)),
    ("safetensors", tensor_header(shape=[1 << 30], end=4 << 30)),
    ("safetensors", tensor_header(shape=[1 << 62, 4])),
    ("safetensors", tensor_header(shape=[2])),
    ("safetensors", tensor_header("I32")),
    ("safetensors", tensor_header(shape=[-1])),
    ("safetensors", header([1, 2])),
    ("safetensors", header("x")),
    ("safetensors", safetensors.numpy.save({"a": np.zeros(2)}, {"mean": "red green blue"})),
    ("safetensors", safetensors.numpy.save({"a": np.zeros(2)}, {"scale": "1 2 nan"})),
    ("keras", h5(lambda group: group.create_dataset("0", (4,), "float32", external=[("/etc/hostname", 0, 16)]))),
    ("keras", h5(virtual)),
    ("keras", h5(lambda group: group.__setitem__("0", np.ones(4, "int32")))),
    ("keras", zipped({})),
    ("keras", zipped({"model.weights.h5": h5(plain)})),
    ("keras", zipped({"model.weights.h5": h5(plain), "config.json": "[" * 5000})),
    ("keras", zipped({"model.weights.h5": h5(plain), "config.json": "{}"})),
    (
        "onnx",
        onnx.model([onnx.CONV], [number_field(1, 1 << 30) + number_field(2, 1) + field(8, "k") + field(9, b"ab")]),
    ),
    ("onnx", varint(7 << 3 | 2) + varint(0xFFFFFFF0) + bytes(900)),
]


@pytest.mark.parametrize("index", range(len(HOSTILE)), ids=lambda index: f"{HOSTILE[index][0]}{index}")
def test_hostile_files_end_in_one_line(index):
    with pytest.raises(formats.WeightFileError) as caught:
        guard.parse(*HOSTILE[index])
    assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)


def test_links_of_hdf5_do_not_lead_out_of_the_file():
    def links(group):
        plain(group)
        group["2"] = h5py.ExternalLink("/etc/hostname", "/x")
        group["3"] = h5py.SoftLink("/nowhere")

    assert guard.parse("keras", h5(links)).arrays.keys() == {"conv1/kernel", "conv1/bias"}
