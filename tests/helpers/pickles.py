"""Pickles as NumPy and PyTorch store them, and one that would run code."""

import io
import os
import pickle
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


class Evil:
    """Leaves a directory behind, if it is unpickled as pickle does."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)
