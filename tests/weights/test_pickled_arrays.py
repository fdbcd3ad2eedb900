"""Tests of `pickled_arrays` and `restricted_pickle`: NumPy's and PyTorch's pickles are read, all others are refused."""

import io
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from alexnet_tf.weights import containers, pickled_arrays
from tests.helpers.pickles import Evil, npy, torch_zip

LAYERS = {
    "conv1": [np.arange(24, dtype="float32").reshape(2, 3, 4), np.ones(4, "float32")],
    "fc6": [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.zeros(3, ">f4")],
}


def tensor_pickle(shape=(2, 3), strides=(3, 1), offset=0, count=6, key="0", storage=b"torch\nFloatStorage\n"):
    """The pickle of {"w": tensor}, by hand, as torch.save writes it."""
    number = lambda value: b"\x8a\x08" + struct.pack("<q", value)  # noqa: E731
    text = lambda value: b"X" + struct.pack("<I", len(value)) + value.encode()  # noqa: E731
    sizes = lambda values: b"(" + b"".join(map(number, values)) + b"t"  # noqa: E731
    pid = b"(" + text("storage") + b"c" + storage + text(key) + text("cpu") + number(count) + b"tQ"
    return (
        b"\x80\x02}("
        + text("w")
        + b"ctorch._utils\n_rebuild_tensor_v2\n("
        + pid
        + number(offset)
        + sizes(shape)
        + sizes(strides)
        + b"\x89}tRu."
    )


@pytest.mark.parametrize("protocol", [1, 2, 3, 4])
def test_read_npy_reads_what_numpy_pickles(protocol):
    entries = pickled_arrays.read_npy(npy(np.array(LAYERS, dtype=object), protocol))
    assert list(entries) == ["conv1[0]", "conv1[1]", "fc6[0]", "fc6[1]"]
    for layer, arrays in LAYERS.items():
        for position, array in enumerate(arrays):
            assert np.array_equal(entries[f"{layer}[{position}]"], array)


def test_read_npy_reads_numpys_own_file_and_its_inverse():
    file = io.BytesIO()
    np.save(file, LAYERS)
    entries = pickled_arrays.read_npy(file.getvalue())
    file = io.BytesIO()
    pickled_arrays.write_npy(file, entries)
    file.seek(0)
    read = np.load(file, allow_pickle=True, encoding="bytes").item()
    assert all(np.array_equal(a, b) for layer in LAYERS for a, b in zip(LAYERS[layer], read[layer], strict=True))


def python2_array(dtype, byte_order, shape, content):
    """What Python 2 writes for an array under protocol 2: its str is bytes."""
    minus_one = b"J\xff\xff\xff\xff"
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R(K\x01"
        + shape
        + b"cnumpy\ndtype\nU"
        + bytes([len(dtype)])
        + dtype
        + b"K\0K\x01\x87R(K\x03U\x01"
        + byte_order
        + b"NNN"
        + minus_one * 2
        + b"K\0tb\x89"
        + content
        + b"tb"
    )


def test_read_npy_reads_what_python_2_wrote():
    values = np.array([[1, 2, 3], [250.5, -2, 0]], "<f4")
    array = python2_array(b"f4", b"<", b"K\x02K\x03\x86", b"T" + struct.pack("<I", 24) + values.tobytes())
    outer = python2_array(b"O8", b"|", b")", b"]}U\x05conv1]" + array + b"asa")
    entries = pickled_arrays.read_npy(npy(b"\x80\x02" + outer + b"."))
    assert np.array_equal(entries["conv1[0]"], values)


def test_read_npy_reads_caffe_tensorflows_dictionaries_and_plain_arrays():
    layer = {"weights": LAYERS["fc6"][0], "biases": LAYERS["fc6"][1]}
    entries = pickled_arrays.read_npy(npy(np.array({"fc8": layer}, dtype=object)))
    assert set(entries) == {"fc8[0]", "fc8[1]"}
    file = io.BytesIO()
    np.save(file, np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    assert np.array_equal(pickled_arrays.read_npy(file.getvalue()), np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize("protocol", [1, 2, 4, 5])
def test_no_code_of_a_pickle_is_run(protocol, tmp_path):
    evil = pickle.dumps({"conv1": Evil(tmp_path / "run")}, protocol)
    for read, content in ((pickled_arrays.read_npy, npy(evil)), (pickled_arrays.read_torch, torch_zip(evil))):
        with pytest.raises(containers.WeightFileError, match=r"asks for posix.mkdir.*Nothing was run|is damaged"):
            read(content)
    assert not (tmp_path / "run").exists()
    pickle.loads(evil)  # It would have been: the test can tell.
    assert (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "wanted",
    [
        b"builtins\neval",
        b"builtins\ngetattr",
        b"os\nsystem",
        b"numpy\nload",
        b"numpy.core.multiarray\nscalar",
        b"torch.storage\n_load_from_bytes",
        b"torch._utils\n_rebuild_qtensor",
    ],
)
def test_other_names_are_refused(wanted):
    with pytest.raises(containers.WeightFileError, match="asks for .* Nothing was run"):
        pickled_arrays.read_torch(torch_zip(b"\x80\x02c" + wanted + b"\n(X\x01\0\0\0atR."))


FOUR_GB = struct.pack("<I", 0xFFFFFFF0)
# A tuple of the same tuple twice, sixty times over: 2^60 leaves to whoever hashes, prints or compares it.
NESTED = b"K\x01K\x01\x86" + b"q\0h\0\x86" * 60
HUGE_SHAPE = b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", 1 << power) for power in (33, 30)) + b"t"
HOSTILE_PICKLES = {
    "4 GB of bytes": b"\x80\x03B" + FOUR_GB + b"x.",
    "huge bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.",
    "4 GB of text": b"\x80\x02X" + FOUR_GB + b"x.",
    "a frame of an exabyte": b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.",
    "a memo of 4 GB": b"\x80\x02Nr" + FOUR_GB + b".",
    "a huge array": b"\x80\x02" + python2_array(b"f4", b"<", HUGE_SHAPE, b"U\x04abcd") + b".",
    "a huge reconstruction": (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nJ\xff\xff\xff\x7f\x85U\x01b\x87R."
    ),
    "tuples as a key": b"\x80\x02}(" + NESTED + b"K\x01u.",
    "tuples as a shape": b"\x80\x02" + python2_array(b"f4", b"<", NESTED, b"U\x04abcd") + b".",
    "attributes of a function": b"\x80\x02ctorch._utils\n_rebuild_tensor\n}X\x01\0\0\0aK\x01sb.",
    "a million dictionaries": b"\x80\x02" + b"}" * 1_000_000,
    "a million marks": b"\x80\x02" + b"(" * 1_000_000,
    "nothing": b"",
    "only a stop": b".",
    "a mark without an end": b"\x80\x02(((((",
    "no pickle": b"\xff" * 100,
    "a number": b"\x80\x02K\x01.",
    "a list": b"\x80\x02].",
    "a dictionary of numbers": b"\x80\x02}X\x01\0\0\0aK\x01s.",
    "an object of a class": pickle.dumps(io.BytesIO),
    "text of protocol 0": pickle.dumps({"a": 1.5}, 0),
}


def refuse(read, content):
    """Reads a bad file; returns the error and the peak of memory."""
    tracemalloc.start()
    try:
        with pytest.raises(containers.WeightFileError) as caught:
            read(content)
        return str(caught.value), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", HOSTILE_PICKLES)
def test_hostile_pickles_end_in_an_error_within_little_memory(name):
    data = HOSTILE_PICKLES[name]
    for read, content in ((pickled_arrays.read_npy, npy(data)), (pickled_arrays.read_torch, torch_zip(data))):
        message, peak = refuse(read, content)
        assert message and len(message) < 500 and peak < 16 << 20, (message, peak)


def test_a_pickle_of_floats_is_read_where_hostile_ones_are_not():
    content = torch_zip(tensor_pickle(), {"0": np.arange(6, dtype="<f4").tobytes()})
    assert np.array_equal(pickled_arrays.read_torch(content)["w"], np.arange(6).reshape(2, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 1 << 30}, "declared as .* 4,294,967,296 bytes, and has 24"),
        ({"count": 5}, "declared as"),
        ({"count": -6}, "no possible shape"),
        ({"shape": (2, 4)}, "does not lie inside"),
        ({"offset": 1}, "does not lie inside"),
        ({"offset": -1}, "does not lie inside"),
        ({"strides": (0, 0)}, "does not lie inside"),
        ({"shape": (1 << 40, 1)}, "does not lie inside"),
        ({"shape": (-2, 3)}, "does not lie inside"),
        ({"strides": (-3, 1)}, "does not lie inside"),
        ({"strides": (1,)}, "does not lie inside"),
        ({"shape": (1 << 30, 1 << 30), "strides": (0, 0)}, "does not lie inside"),
        ({"key": "../x"}, "holds no archive/data/../x"),
        ({"storage": b"torch\nIntStorage\n"}, "asks for torch.IntStorage"),
    ],
)
def test_read_torch_refuses_absurd_tensors(arguments, message):
    content = torch_zip(tensor_pickle(**arguments), {"0": np.arange(6, dtype="<f4").tobytes()})
    said, peak = refuse(pickled_arrays.read_torch, content)
    assert peak < 1 << 20
    with pytest.raises(containers.WeightFileError, match=message):
        raise containers.WeightFileError(said)


def test_read_torch_reads_other_strides_and_half_and_double():
    values = np.arange(6)
    content = torch_zip(tensor_pickle(shape=(3, 2), strides=(1, 3)), {"0": values.astype("<f4").tobytes()})
    assert np.array_equal(pickled_arrays.read_torch(content)["w"], values.reshape(2, 3).T)
    for name, dtype in ((b"Half", "<f2"), (b"Double", "<f8")):
        data = tensor_pickle(storage=b"torch\n" + name + b"Storage\n")
        content = torch_zip(data, {"0": values.astype(dtype).tobytes()})
        assert np.array_equal(pickled_arrays.read_torch(content)["w"], values.reshape(2, 3))


def test_read_torch_refuses_a_compressed_member_before_it_is_unpacked():
    said, peak = refuse(
        pickled_arrays.read_torch,
        torch_zip(
            tensor_pickle(shape=(1 << 25,), strides=(1,), count=1 << 25), {"0": bytes(1 << 27)}, zipfile.ZIP_DEFLATED
        ),
    )
    assert "is compressed" in said and peak < 1 << 20


@pytest.mark.parametrize("part", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_truncated_files_are_refused(part):
    written = io.BytesIO()
    pickled_arrays.write_torch(written, {"a.weight": np.ones((20, 30), "float32"), "a.bias": np.ones(20, "float32")})
    saved = io.BytesIO()
    np.save(saved, LAYERS)
    for read, content in ((pickled_arrays.read_torch, written.getvalue()), (pickled_arrays.read_npy, saved.getvalue())):
        read(content)
        refuse(read, content[: int(len(content) * part)])


def test_read_torch_and_read_npy_say_what_a_foreign_file_is_not():
    for content in (b"<html>404</html>", b"x", bytes(1000), b"PK\3\4" + bytes(50)):
        assert (
            "torch.save" in refuse(pickled_arrays.read_torch, content)[0]
            or "zip" in refuse(pickled_arrays.read_torch, content)[0]
        )
        assert "not a .npy file" in refuse(pickled_arrays.read_npy, content)[0]


@pytest.mark.parametrize(
    "header",
    [
        {"descr": "<f4", "fortran_order": False, "shape": (1 << 30, 1 << 9)},
        {"descr": "<i4", "fortran_order": False, "shape": (1,)},
        {"descr": "<f4", "fortran_order": False, "shape": (-1,)},
    ],
)
def test_read_npy_refuses_absurd_headers(header):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, header)
    _, peak = refuse(pickled_arrays.read_npy, file.getvalue() + b"abcd")
    assert peak < 1 << 20


def test_every_single_flipped_byte_ends_in_an_error_or_in_arrays():
    """Nothing else than a WeightFileError comes out of a damaged file, and no code of it runs."""
    original = torch_zip(tensor_pickle(), {"0": np.arange(6, dtype="<f4").tobytes()})
    saved = io.BytesIO()
    np.save(saved, {"conv1": [np.arange(4, dtype="float32")]})
    for read, content in ((pickled_arrays.read_torch, original), (pickled_arrays.read_npy, saved.getvalue())):
        for place in range(len(content)):
            damaged = bytearray(content)
            damaged[place] ^= 0x55
            try:
                read(bytes(damaged))
            except containers.WeightFileError:
                pass
