"""Tests of `npz_stream`: NumPy reads what it writes; of what others write nothing is believed, run or allocated."""

import io
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from alexnet_tf.evaluation import npz_stream
from tests.helpers.files import zipped

ARRAYS = {
    "features": np.random.default_rng(0).normal(size=(3000, 40)).astype("float32"),
    "names": np.array([f"image {i} ü \udcff" for i in range(3000)]),
    "labels": np.arange(3000, dtype="int32"),
    "layer": np.array("fc7"),
    "epoch": np.int64(8),
    "classes": np.array([], "<U1"),
}


@pytest.fixture
def path(tmp_path):
    with open(tmp_path / "a.npz", "wb") as file:
        parts = np.array_split(ARRAYS["features"], 7)
        npz_stream.write(file, ARRAYS | {"features": npz_stream.Stream("<f4", (3000, 40), parts)})
    return tmp_path / "a.npz"


def test_write_is_what_numpy_reads_without_pickle(path):
    with np.load(path, allow_pickle=False) as read:
        assert list(read) == list(ARRAYS)
        for name, array in ARRAYS.items():
            assert read[name].dtype == array.dtype and np.array_equal(read[name], array)


def test_reader_reads_what_numpy_writes(tmp_path):
    np.savez(tmp_path / "a.npz", **ARRAYS)
    with npz_stream.Reader(tmp_path / "a.npz") as file:
        np.testing.assert_array_equal(
            np.concatenate([block for _, block in file.blocks("features")]), ARRAYS["features"]
        )
        assert (
            file.text("layer") == "fc7"
            and file.whole("epoch", "i", 0) == 8
            and file.whole("classes", "U", 1).shape == (0,)
        )


@pytest.mark.parametrize("block_bytes", [1, 160, 161, 100_000, 1 << 30])
def test_reader_blocks_are_the_rows_in_order(path, monkeypatch, block_bytes):
    monkeypatch.setattr(npz_stream, "BLOCK_BYTES", block_bytes)
    with npz_stream.Reader(path) as file:
        blocks = list(file.blocks("features"))
        for first, block in blocks:
            np.testing.assert_array_equal(block, ARRAYS["features"][first : first + len(block)])
        assert sum(len(block) for _, block in blocks) == 3000
        assert all(block.nbytes <= max(block_bytes, 160) for _, block in blocks)
        assert file.values("names", [[2999, 0], [7, 7]]) == {i: ARRAYS["names"][i] for i in (0, 7, 2999)}


def test_write_and_read_need_little_memory(tmp_path):
    row, count = np.ones((100, 1000), "float32"), 600  # 240 MB.
    tracemalloc.start()
    try:
        with open(tmp_path / "a.npz", "wb") as file:
            npz_stream.write(file, {"a": npz_stream.Stream("<f4", (100 * count, 1000), (row for _ in range(count)))})
        with npz_stream.Reader(tmp_path / "a.npz") as file:
            assert sum(block.sum(dtype="float64") for _, block in file.blocks("a")) == 1e5 * count
        assert tracemalloc.get_traced_memory()[1] < 2e7
    finally:
        tracemalloc.stop()


def npz(members, compression=zipfile.ZIP_STORED):
    return zipped({f"{name}.npy": content for name, content in members.items()}, compression)


def npy(header, content=b"", version=b"\1\0"):
    header = header.encode() + b"\n"
    return b"\x93NUMPY" + version + len(header).to_bytes(2, "little") + header + content


def floats(shape, descr="<f4", order="False"):
    return f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}"


class Evil:
    def __reduce__(self):
        return print, ("run",)


OBJECTS = io.BytesIO()
np.save(OBJECTS, np.array([Evil()], object), allow_pickle=True)

HOSTILE = {
    "empty": (b"", "damaged, or no .npz"),
    "text": (b"no zip" * 99, "damaged, or no .npz: File is not a zip file"),
    "pickle": (pickle.dumps(Evil()), "damaged, or no .npz"),
    "objects": (npz({"a": OBJECTS.getvalue()}), "no array of numbers"),
    "compressed": (npz({"a": npy(floats("(1000000,)"), bytes(4_000_000))}, zipfile.ZIP_DEFLATED), "'a' is compressed"),
    "vast": (
        npz({"a": npy(floats("(1000000000000, 4096)"), bytes(99))}),
        r"declared as \(1000000000000, 4096\), 16,3.* and has 99",
    ),
    "short": (npz({"a": npy(floats("(25,)"), bytes(99))}), "100 bytes, and has 99"),
    "long": (npz({"a": npy(floats("(24,)"), bytes(99))}), "96 bytes, and has 99"),
    "negative": (npz({"a": npy(floats("(-1, -1)"), bytes(4))}), "no array of numbers"),
    "nested": (npz({"a": npy(floats("(" * 3000 + ")" * 3000), bytes(4))}), "no array of numbers"),
    "code": (npz({"a": npy(floats("(print('run'),)"), bytes(4))}), "no array of numbers"),
    "wide": (npz({"a": npy(floats("(1,)", "<U999999"), bytes(4))}), "declared as .* and has 4"),
    "fortran": (npz({"a": npy(floats("(1,)", order="True"), bytes(4))}), "no array of numbers"),
    "version": (npz({"a": npy(floats("(1,)"), bytes(4), b"\3\0")}), "no array of numbers"),
    "no header": (npz({"a": b"\x93NUMPY\1\0\xff\xff"}), "no array of numbers"),
    "foreign": (npz({"weights": npy(floats("(1,)"), bytes(4))}), "has no array 'a'; it has weights"),
    "another kind": (
        npz({"a": npy(floats("(1,)", "<i4"), bytes(4))}),
        "must have 1 dimensions of kind 'f'; it is int32",
    ),
    "another rank": (npz({"a": npy(floats("(1, 1)"), bytes(4))}), r"it is float32 \(1, 1\)"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_reader_refuses_what_is_no_such_file_in_a_line_and_in_little_memory(tmp_path, name, capsys):
    content, message = HOSTILE[name]
    (tmp_path / "a.npz").write_bytes(content)
    tracemalloc.start()
    try:
        with (
            pytest.raises(npz_stream.ArrayFileError, match=message) as caught,
            npz_stream.Reader(tmp_path / "a.npz") as file,
        ):
            file.shape("a", "f", 1)
        assert tracemalloc.get_traced_memory()[1] < 3e6
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500 and not capsys.readouterr().out


def declaring(content, field, value):
    """A zip whose list of contents gives a member another size; `field` is its place in the entry."""
    start = content.index(b"PK\1\2")
    return content[: start + field] + value.to_bytes(4, "little") + content[start + field + 4 :]


def test_reader_refuses_a_size_beyond_the_end_of_the_file(tmp_path):
    vast = npz({"a": npy(floats("(250000000,)"), bytes(100))})
    size = int.from_bytes(vast[vast.index(b"PK\1\2") + 24 :][:4], "little") - 100 + 1_000_000_000
    (tmp_path / "a.npz").write_bytes(declaring(declaring(vast, 20, size), 24, size))
    with (
        pytest.raises(npz_stream.ArrayFileError, match="truncated or damaged"),
        npz_stream.Reader(tmp_path / "a.npz") as file,
    ):
        file.whole("a", "f", 1)


def test_reader_finds_a_flipped_bit(path):
    content = bytearray(path.read_bytes())
    content[content.index(ARRAYS["features"].tobytes()[:64]) + 200_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(npz_stream.ArrayFileError, match="'features' is damaged, or no .npz: Bad CRC-32"):
        with npz_stream.Reader(path) as file:
            for _ in file.blocks("features"):
                pass


@pytest.mark.parametrize("part", np.linspace(0, 0.999, 12).round(3))
def test_reader_refuses_a_file_that_was_cut(path, part):
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(npz_stream.ArrayFileError, match="damaged, or no .npz"):
        npz_stream.Reader(path)


def damaged(content, rng):
    """Returns a file with one kind of damage: bytes changed, a piece lost, doubled, moved or zeroed."""
    content, (first, second) = bytearray(content), sorted(rng.integers(0, len(content), 2))
    kind = rng.integers(6)
    if kind < 2:
        for place in rng.integers(0, len(content), rng.integers(1, 4)):
            content[place] ^= 1 << rng.integers(8)
    elif kind == 2:  # In the list of contents and the headers, where a wrong value may look right.
        marks = [
            place
            for mark in (b"PK", b"NUMPY", b"descr", b"shape")
            for place in range(len(content))
            if content.startswith(mark, place)
        ]
        content[min(len(content) - 1, rng.choice(marks) + rng.integers(0, 60))] = rng.integers(256)
    elif kind == 3:
        del content[first:second]
    elif kind == 4:
        content[first:first] = content[first : min(second, first + 64)]
    else:
        content[first:second] = bytes(second - first)
    return bytes(content)


def read_all(path):
    with npz_stream.Reader(path) as file:
        return {
            "features": np.concatenate([block for _, block in file.blocks("features")]),
            "names": file.values("names", np.arange(5)),
            "labels": file.whole("labels", "i", 1),
            "layer": file.text("layer"),
            "epoch": file.whole("epoch", "i", 0),
        }


def test_damaged_files_are_refused_or_read_right(tmp_path):
    rng, path, refused = np.random.default_rng(0), tmp_path / "a.npz", 0
    arrays = {
        "features": rng.normal(size=(5, 4)).astype("float32"),
        "names": np.array(list("abcde")),
        "labels": np.arange(5, dtype="int32"),
        "layer": np.array("fc7"),
        "epoch": np.int64(8),
    }
    with open(path, "wb") as file:
        npz_stream.write(file, arrays)
    whole, expected = path.read_bytes(), read_all(path)
    for _ in range(400):
        path.write_bytes(damaged(whole, rng))
        try:
            found = read_all(path)
        except npz_stream.ArrayFileError:
            refused += 1
            continue
        for name, value in expected.items():
            np.testing.assert_array_equal(
                list(found[name].items()) if name == "names" else found[name],
                list(value.items()) if name == "names" else value,
            )
            assert getattr(found[name], "dtype", None) == getattr(value, "dtype", None)
    assert 200 < refused < 400


def test_reader_says_that_there_is_no_file(tmp_path):
    with pytest.raises(npz_stream.ArrayFileError, match="a.npz does not exist"):
        npz_stream.Reader(tmp_path / "a.npz")
    with pytest.raises(npz_stream.ArrayFileError, match="Is a directory"):
        npz_stream.Reader(tmp_path)
