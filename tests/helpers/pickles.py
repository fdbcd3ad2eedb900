"""Pickles as NumPy and PyTorch store them, and one that would run code."""

import io
import os
import pickle
import struct
import zipfile

import numpy as np


def npy(value, protocol=4):
    """Returns a .npy file of an object, or of what its pickle shall be."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    return file.getvalue() + (value if isinstance(value, bytes) else pickle.dumps(value, protocol))


def torch_zip(data, storages=None, compression=zipfile.ZIP_STORED):
    """Returns a .pth file of a pickle and of storages by name."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data)
        for name, content in (storages or {}).items():
            archive.writestr(f"archive/data/{name}", content)
    return file.getvalue()


def tensor_pickle(shape=(2, 3), strides=(3, 1), offset=0, count=6, key="0", storage=b"torch\nFloatStorage\n"):
    """Returns the pickle of {"w": tensor}, by hand, as torch.save writes it."""
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


def python2_array(dtype, byte_order, shape, content):
    """Returns what Python 2 writes for an array under protocol 2: its str is bytes."""
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


class Evil:
    """Leaves a directory behind, if it is unpickled as pickle does."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)
