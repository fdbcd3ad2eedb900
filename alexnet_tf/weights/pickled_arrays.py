"""NumPy's .npy dictionaries and PyTorch's .pth files, read and written without PyTorch and without running code."""

import io
import pickle
import struct
import zipfile
from typing import BinaryIO

import numpy as np

from alexnet_tf.weights import containers, restricted_pickle


def read_npy(content: bytes) -> np.ndarray | dict:
    """Reads a .npy file: an array of floats, or the dictionary that np.save makes an array of objects of.

    Args:
        content: The file's bytes. Pickles of Python 2 are understood.

    Returns:
        The array, or {"conv1[0]": array, "conv1[1]": array, ...} of {"conv1": [array, array], ...}, or {"[0]": array,
        ...} of [array, ...]; where there are dictionaries inside, as caffe-tensorflow writes them, weights are 0 and
        biases 1.

    Raises:
        WeightFileError: If the file is damaged or holds anything else.
    """
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read_header(file)
    except Exception as error:  # NumPy has Python's tokenizer read the header, which raises as it likes.
        raise containers.WeightFileError(f"It is not a .npy file: {str(error)[:200]}") from error
    if dtype.kind == "f":
        array = containers.array_of(content, dtype, shape[::-1] if is_fortran else shape, "The array", file.tell())
        return array.T if is_fortran else array
    if not dtype.hasobject:
        raise containers.WeightFileError(f"It holds {dtype}, not floating-point numbers.")
    pickled = restricted_pickle.unpickle(file)
    if not isinstance(pickled, restricted_pickle.PickledArray) or not isinstance(pickled.value, dict | list):
        raise containers.WeightFileError("It holds no dictionary of arrays.")
    layers = {"": pickled.value} if isinstance(pickled.value, list) else pickled.value
    entries = {}
    for layer, values in layers.items():
        if isinstance(values, dict):
            positions = {"weights": 0, "biases": 1}
            values = {
                positions.get(restricted_pickle.text(key), restricted_pickle.text(key)): value
                for key, value in values.items()
            }
        elif isinstance(values, list | tuple):
            values = dict(enumerate(values))
        else:
            values = {0: values}
        for position, value in values.items():
            if not isinstance(value, restricted_pickle.PickledArray) or not isinstance(value.value, np.ndarray):
                raise containers.WeightFileError(f"{restricted_pickle.text(layer)} holds something that is no array.")
            entries[f"{restricted_pickle.text(layer)}[{position}]"] = value.value
    return entries


def write_npy(file: BinaryIO, entries: dict[str, np.ndarray]) -> None:
    """Writes arrays named "conv1[0]", "conv1[1]", ... as {"conv1": [array, array], ...}; the inverse of `read_npy`."""
    layers: dict[str, list[np.ndarray]] = {}
    for name, array in entries.items():
        layers.setdefault(name[:-3], []).append(array)
    np.save(file, np.array(layers, dtype=object), allow_pickle=True)


# How PyTorch's files before 1.6 begin: a pickle of a magic number.
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def read_torch(content: bytes) -> dict:
    """Reads a state dictionary that torch.save wrote, in the present format (a zip) or in the one before 1.6.

    Args:
        content: The file's bytes.

    Returns:
        Arrays by name.

    Raises:
        WeightFileError: If the file is damaged or holds anything but named tensors.
    """
    if content.startswith(_OLD_TORCH):
        tensors, storages = _read_old_torch(content)
    elif content.startswith(b"PK"):
        tensors, storages = _read_torch_zip(content)
    else:
        raise containers.WeightFileError(
            "It is not a file of torch.save: neither a zip nor the format before PyTorch 1.6."
        )
    arrays = {}
    for name, tensor in _find_weights(tensors).items():
        if not isinstance(tensor, restricted_pickle.PickledTensor) or tensor.storage.dtype == "<i8":
            raise containers.WeightFileError(
                f"{restricted_pickle.text(name)[:80]} is no tensor. Save the weights alone: "
                "torch.save(model.state_dict(), FILE)."
            )
        arrays[restricted_pickle.text(name)] = tensor.array(storages(tensor.storage))
    return arrays


def _read_torch_zip(content):
    archive = containers.open_zip(content)
    pickles = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise containers.WeightFileError("The zip holds no data.pkl: torch.save did not write it.")
    root = pickles[0].removesuffix("data.pkl")

    def storage(wanted):
        member = containers.read_member(archive, f"{root}data/{wanted.key}")
        return containers.array_of(member, wanted.dtype, [wanted.count], f"Storage {wanted.key}")

    return _state(restricted_pickle.unpickle(io.BytesIO(containers.read_member(archive, pickles[0])))), storage


def _read_old_torch(content):
    file = io.BytesIO(content)
    for _ in range(3):  # The magic number, the protocol, and the machine's integers.
        restricted_pickle.unpickle(file)
    tensors, keys = _state(restricted_pickle.unpickle(file)), restricted_pickle.unpickle(file)
    wanted = {tensor.storage.key: tensor.storage for tensor in _all_tensors(tensors)}
    arrays = {}
    for key in keys if isinstance(keys, list) else ():
        if (key := restricted_pickle.text(key)) not in wanted:
            raise containers.WeightFileError("It holds values that no tensor uses.")
        count = int.from_bytes(file.read(8), "little")
        if count != wanted[key].count:
            raise containers.WeightFileError(
                f"A storage says that it has {count:,} values, its tensor another number: damaged."
            )
        values = file.read(count * np.dtype(wanted[key].dtype).itemsize)
        arrays[key] = containers.array_of(values, wanted[key].dtype, [count], "A storage")
    if arrays.keys() != wanted.keys():
        raise containers.WeightFileError("It lacks the values of some tensors: truncated or damaged.")
    return tensors, lambda storage: arrays[storage.key]


# Where training programs keep a network's weights beside the optimizer, the epoch and the like.
_WEIGHT_KEYS = ("state_dict", "model_state_dict", "model", "net", "weights")


def _find_weights(checkpoint: dict) -> dict:
    """Returns the state dictionary of a checkpoint; what lies beside it, such as an optimizer, is ignored."""
    by_name = {restricted_pickle.text(name): value for name, value in checkpoint.items() if not isinstance(name, int)}
    for key in _WEIGHT_KEYS:
        if isinstance(by_name.get(key), dict) and by_name[key]:
            return by_name[key]
    return checkpoint


def _all_tensors(value) -> list:
    """Returns every tensor in nested dictionaries, lists and tuples, which may hold themselves."""
    found, pending, seen = [], [value], set()
    while pending:
        each = pending.pop()
        if isinstance(each, restricted_pickle.PickledTensor):
            found.append(each)
        elif isinstance(each, dict | list | tuple) and id(each) not in seen:
            seen.add(id(each))
            pending.extend(each.values() if isinstance(each, dict) else each)
    return found


def _state(tensors):
    if not isinstance(tensors, dict):
        raise containers.WeightFileError(
            "It holds no dictionary of tensors. Save with torch.save(model.state_dict(), FILE)."
        )
    return tensors


def write_torch(file: BinaryIO, arrays: dict[str, np.ndarray]) -> None:
    """Writes float32 arrays as torch.save writes a state dictionary, without PyTorch."""
    text = lambda value: pickle.BINUNICODE + struct.pack("<I", len(value)) + value.encode("ascii")  # noqa: E731
    number = lambda value: pickle.BININT + struct.pack("<i", value)  # noqa: E731
    sizes = lambda values: pickle.MARK + b"".join(map(number, values)) + pickle.TUPLE  # noqa: E731
    ordered = pickle.GLOBAL + b"collections\nOrderedDict\n" + pickle.EMPTY_TUPLE + pickle.REDUCE
    parts = [pickle.PROTO + b"\x02", ordered, pickle.MARK]
    for index, (name, array) in enumerate(arrays.items()):
        strides = [stride // array.itemsize for stride in np.ascontiguousarray(array).strides]
        storage = [
            text("storage"),
            pickle.GLOBAL,
            b"torch\nFloatStorage\n",
            text(str(index)),
            text("cpu"),
            number(array.size),
        ]
        parts += [
            text(name),
            pickle.GLOBAL,
            b"torch._utils\n_rebuild_tensor_v2\n",
            pickle.MARK,
            pickle.MARK,
            *storage,
            pickle.TUPLE,
            pickle.BINPERSID,
            number(0),
            sizes(array.shape),
            sizes(strides),
            pickle.NEWFALSE,
            ordered,
            pickle.TUPLE,
            pickle.REDUCE,
        ]
    parts += [pickle.SETITEMS, pickle.STOP]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", b"".join(parts))
        archive.writestr("archive/byteorder", b"little")
        for index, array in enumerate(arrays.values()):
            archive.writestr(f"archive/data/{index}", np.ascontiguousarray(array, "<f4").tobytes())
        archive.writestr("archive/version", b"3\n")
