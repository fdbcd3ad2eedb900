"""Reads state dictionaries that torch.save wrote, without PyTorch: the zip, and the format before PyTorch 1.6."""

import io
import zipfile

import numpy as np

from alexnet_tf.weights import formats, pickles

# Where training programs keep a network's weights beside the optimizer, the epoch and the like.
_WEIGHT_KEYS = ("state_dict", "model_state_dict", "model", "net", "weights")


def read(content: bytes) -> formats.WeightFile:
    """Reads the tensors of a state dictionary, or of a checkpoint that holds one.

    Raises:
        WeightFileError: If it holds anything else than named tensors.
    """
    checkpoint = _read_zip(content) if content.startswith(b"PK") else _read_old(content)
    if not isinstance(checkpoint, dict):
        raise formats.WeightFileError("It is not a dictionary. Save with torch.save(model.state_dict(), FILE).")
    inner = (checkpoint.get(key) for key in _WEIGHT_KEYS)
    tensors = next((each for each in inner if isinstance(each, dict) and each), checkpoint)
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, np.ndarray):
            raise formats.WeightFileError(
                f"{name} is not a tensor. Save the weights alone: torch.save(model.state_dict(), FILE)."
            )
    return formats.state_dict(tensors)


def _read_zip(content):
    archive = zipfile.ZipFile(io.BytesIO(content))
    [pickle] = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
    root = pickle.removesuffix("data.pkl")
    return pickles.load(
        io.BytesIO(archive.read(pickle)), lambda dtype, key, _: (dtype, archive.read(f"{root}data/{key}"))
    )


def _read_old(content):
    """Reads five pickles (magic number, protocol, the machine's integers, tensors, keys), then each key's values."""
    file, storages = io.BytesIO(content), {}

    def storage(dtype, key, count):
        return storages.setdefault(key, (dtype, bytearray(count * np.dtype(dtype).itemsize)))

    for _ in range(3):
        pickles.load(file)
    tensors, keys = pickles.load(file, storage), pickles.load(file)
    for key in keys:
        file.seek(8, io.SEEK_CUR)  # The number of values.
        if file.readinto(storages[key][1]) != len(storages[key][1]):
            raise formats.WeightFileError("It lacks the values of some tensors: truncated.")
    if set(keys) != set(storages):
        raise formats.WeightFileError("It lacks the values of some tensors.")
    return tensors
