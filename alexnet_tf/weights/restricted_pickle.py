"""Pickles without their danger: NumPy's .npy dictionaries and PyTorch's .pth, read and written without PyTorch.

A pickle is a program. The reader here knows the few operations and names that arrays need, has its own stand-ins for
each of them, and refuses the rest: nothing a file names is imported, run, or allocated before its bytes are there.
"""

import io
import math
import pickle
import struct
import zipfile

import numpy as np

from alexnet_tf import errors
from alexnet_tf.weights import containers


def _text(name) -> str:
    if not isinstance(name, str | bytes):
        raise containers.WeightFileError("It has something else where a name should be.")
    return name.decode("latin1") if isinstance(name, bytes) else name


class _Limited(io.BytesIO):
    """A file that is read in few pieces: arrays need some hundred, and each operation of a pickle is one at least."""

    pieces = 0

    def read(self, size=-1):
        self.pieces += 1
        if self.pieces > 20_000:
            raise containers.WeightFileError("It has far more operations than arrays need.")
        return super().read(size)


class _Array:
    """What a pickle says of a NumPy array, taken without NumPy's own code, which allocates what it is told to."""

    value = None

    def __setstate__(self, state):
        _, shape, dtype, is_fortran, content = state
        if isinstance(content, list):  # An array of objects: np.save's way to write a dictionary.
            if shape != () or len(content) != 1:
                raise containers.WeightFileError("An array of objects is no dictionary of arrays.")
            [self.value] = content
        else:
            shape = shape[::-1] if is_fortran else shape
            value = containers.array_of(content, dtype.name, shape, "An array")
            self.value = value.T if is_fortran else value


class _DType:
    """A floating-point dtype as a pickle says it."""

    def __init__(self, name, *_):
        self.name = _text(name)
        if self.name not in ("f2", "f4", "f8", "O", "O8"):
            raise containers.WeightFileError(
                f"Arrays of dtype {self.name[:20]!r} are no weights: float16, float32 and float64 are read.")

    def __setstate__(self, state):
        if state[1] in (">", b">"):
            self.name = ">" + self.name


class _Dictionary(dict):
    """An OrderedDict of a pickle; the attributes that PyTorch hangs on it are dropped."""

    def __setstate__(self, state):
        pass


class _Storage:
    """A run of values in a PyTorch file: its bytes are found later, by key."""

    def __init__(self, dtype, key, count):
        self.dtype, self.key, self.count = dtype, key, count


class _Tensor:
    """A view of a storage."""

    def __init__(self, storage, offset, shape, strides, *_):
        if not isinstance(storage, _Storage):
            raise containers.WeightFileError("A tensor has no storage.")
        self.storage, self.offset, self.shape, self.strides = storage, offset, tuple(shape), tuple(strides)

    def array(self, values: np.ndarray) -> np.ndarray:
        """Returns the view; a copy, so that it is no larger than it looks."""
        shape, strides = self.shape, self.strides
        numbers = (self.offset + 1, *shape, *strides)
        is_sound = len(shape) == len(strides) <= 8 and all(isinstance(n, int) and 0 < n < 1 << 40 for n in numbers)
        # Strides that repeat values would make a huge array of a small file.
        if not is_sound or math.prod(shape) > values.size or self.offset + sum(
                (n - 1) * stride for n, stride in zip(shape, strides)) >= values.size:
            raise containers.WeightFileError(f"A tensor does not lie inside its storage of {values.size:,} values.")
        view = np.lib.stride_tricks.as_strided(
            values[self.offset:], shape, [stride * values.itemsize for stride in strides], writeable=False)
        return np.ascontiguousarray(view)


def _encode(text, *_):  # Python 3 writes bytes so under the older protocols.
    return text.encode("latin1")


def _first(*_):  # _reconstruct's arguments are a type, a shape of zero and a letter; the state follows.
    return _Array()


_KNOWN = {
    "numpy.core.multiarray _reconstruct": _first, "numpy._core.multiarray _reconstruct": _first,
    "numpy ndarray": _Array, "numpy dtype": _DType, "_codecs encode": _encode, "collections OrderedDict": _Dictionary,
    "torch._utils _rebuild_tensor": _Tensor, "torch._utils _rebuild_tensor_v2": _Tensor,
    "torch FloatStorage": "<f4", "torch HalfStorage": "<f2", "torch DoubleStorage": "<f8",
}

_OPERATIONS = """
    PROTO FRAME STOP MARK GLOBAL STACK_GLOBAL REDUCE BUILD NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG1
    BINFLOAT EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS BINPERSID
    BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET STRING BINSTRING SHORT_BINSTRING BINUNICODE SHORT_BINUNICODE
    BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8""".split()


# The public Unpickler is C code that allocates what a length in the file declares before it looks whether it is there.
class _Unpickler(pickle._Unpickler):
    """Python's unpickler with the few names and operations that arrays need; nothing of the file's is run."""

    dispatch = {getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in _OPERATIONS}

    def find_class(self, module, name):
        wanted = f"{module} {name}"
        if wanted not in _KNOWN:
            raise containers.WeightFileError(
                f"It asks for {module}.{name}, which arrays do not need: such a file can run code. Nothing was run.")
        return _KNOWN[wanted]

    def persistent_load(self, pid):
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or pid[1] not in ("<f4", "<f2", "<f8"):
            raise containers.WeightFileError("A tensor's storage is neither float16, float32 nor float64.")
        return _Storage(pid[1], _text(pid[2]), pid[4])

    def load_build(self):
        if not isinstance(self.stack[-2], _Array | _DType | _Dictionary):
            raise containers.WeightFileError("It sets attributes of something that is no array.")
        state = self.stack.pop()
        self.stack[-1].__setstate__(state)

    def load_frame(self):  # What is in the frame follows anyway; so every operation is read from the file itself.
        self.read(8)

    def load_setitems(self):
        # The hash of tuples in tuples may take for ever.
        if not all(isinstance(key, str | bytes) for key in self.stack[::2]):
            raise containers.WeightFileError("A dictionary's key is no name.")
        super().load_setitems()

    def load_setitem(self):
        if not isinstance(self.stack[-2], str | bytes):
            raise containers.WeightFileError("A dictionary's key is no name.")
        super().load_setitem()

    dispatch |= {
        pickle.FRAME[0]: load_frame, pickle.BUILD[0]: load_build, pickle.SETITEMS[0]: load_setitems,
        pickle.SETITEM[0]: load_setitem}


def _unpickle(file):
    """Returns what a pickle holds, as the classes above.

    Raises:
        WeightFileError: If it is damaged or holds anything else.
    """
    try:
        return _Unpickler(file, encoding="bytes").load()
    except errors.UserError:
        raise
    except Exception as error:  # A damaged pickle may raise anything.
        raise containers.WeightFileError(f"It is damaged: {type(error).__name__} at byte {file.tell():,}.") from error


def read_npy(content: bytes) -> np.ndarray | dict:
    """Reads a .npy file: an array of floats, or the dictionary that np.save makes an array of objects of.

    Args:
        content: The file's bytes. Pickles of Python 2 are understood.

    Returns:
        The array, or {"conv1[0]": array, "conv1[1]": array, ...} of {"conv1": [array, array], ...}; where there are
        dictionaries inside, as caffe-tensorflow writes them, weights are 0 and biases 1.

    Raises:
        WeightFileError: If the file is damaged or holds anything else.
    """
    file = _Limited(content)
    try:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read_header(file)
    except Exception as error:  # NumPy has Python's tokenizer read the header, which raises as it likes.
        raise containers.WeightFileError(f"It is no .npy file: {str(error)[:200]}") from error
    if dtype.kind == "f":
        array = containers.array_of(content, dtype, shape[::-1] if is_fortran else shape, "The array", file.tell())
        return array.T if is_fortran else array
    if not dtype.hasobject:
        raise containers.WeightFileError(f"It holds {dtype}, not floating-point numbers.")
    pickled = _unpickle(file)
    if not isinstance(pickled, _Array) or not isinstance(pickled.value, dict):
        raise containers.WeightFileError("It holds no dictionary of arrays.")
    entries = {}
    for layer, values in pickled.value.items():
        if isinstance(values, dict):
            positions = {"weights": 0, "biases": 1}
            values = {positions.get(_text(key), _text(key)): value for key, value in values.items()}
        elif isinstance(values, list | tuple):
            values = dict(enumerate(values))
        else:
            values = {0: values}
        for position, value in values.items():
            if not isinstance(value, _Array) or not isinstance(value.value, np.ndarray):
                raise containers.WeightFileError(f"{_text(layer)} holds something that is no array.")
            entries[f"{_text(layer)}[{position}]"] = value.value
    return entries


def write_npy(file, entries: dict) -> None:
    """Writes arrays named "conv1[0]", "conv1[1]", ... as {"conv1": [array, array], ...}; the inverse of `read_npy`."""
    layers = {}
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
        raise containers.WeightFileError("It is no file of torch.save: neither a zip nor the format before PyTorch 1.6.")
    arrays = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, _Tensor):
            raise containers.WeightFileError(
                f"{_text(name)[:80]} is no tensor. Save the weights alone: torch.save(model.state_dict(), FILE).")
        arrays[_text(name)] = tensor.array(storages(tensor.storage))
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

    return _state(_unpickle(_Limited(containers.read_member(archive, pickles[0])))), storage


def _read_old_torch(content):
    file = _Limited(content)
    for _ in range(3):  # The magic number, the protocol, and the machine's integers.
        _unpickle(file)
    tensors, keys = _state(_unpickle(file)), _unpickle(file)
    wanted = {tensor.storage.key: tensor.storage for tensor in tensors.values() if isinstance(tensor, _Tensor)}
    arrays = {}
    for key in keys if isinstance(keys, list) else ():
        if (key := _text(key)) not in wanted:
            raise containers.WeightFileError("It holds values that no tensor uses.")
        count = int.from_bytes(file.read(8), "little")
        if count != wanted[key].count:
            raise containers.WeightFileError(f"A storage says that it has {count:,} values, its tensor another number: damaged.")
        values = file.read(count * np.dtype(wanted[key].dtype).itemsize)
        arrays[key] = containers.array_of(values, wanted[key].dtype, [count], "A storage")
    if arrays.keys() != wanted.keys():
        raise containers.WeightFileError("It lacks the values of some tensors: truncated or damaged.")
    return tensors, lambda storage: arrays[storage.key]


def _state(tensors):
    if not isinstance(tensors, dict):
        raise containers.WeightFileError("It holds no dictionary of tensors. Save with torch.save(model.state_dict(), FILE).")
    return tensors


def write_torch(file, arrays: dict) -> None:
    """Writes float32 arrays as torch.save writes a state dictionary, without PyTorch."""
    text = lambda value: pickle.BINUNICODE + struct.pack("<I", len(value)) + value.encode("ascii")  # noqa: E731
    number = lambda value: pickle.BININT + struct.pack("<i", value)  # noqa: E731
    sizes = lambda values: pickle.MARK + b"".join(map(number, values)) + pickle.TUPLE  # noqa: E731
    ordered = pickle.GLOBAL + b"collections\nOrderedDict\n" + pickle.EMPTY_TUPLE + pickle.REDUCE
    parts = [pickle.PROTO + b"\x02", ordered, pickle.MARK]
    for index, (name, array) in enumerate(arrays.items()):
        strides = [stride // array.itemsize for stride in np.ascontiguousarray(array).strides]
        storage = [
            text("storage"), pickle.GLOBAL, b"torch\nFloatStorage\n", text(str(index)), text("cpu"), number(array.size)]
        parts += [
            text(name), pickle.GLOBAL, b"torch._utils\n_rebuild_tensor_v2\n", pickle.MARK,
            pickle.MARK, *storage, pickle.TUPLE, pickle.BINPERSID, number(0), sizes(array.shape), sizes(strides),
            pickle.NEWFALSE, ordered, pickle.TUPLE, pickle.REDUCE]
    parts += [pickle.SETITEMS, pickle.STOP]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", b"".join(parts))
        archive.writestr("archive/byteorder", b"little")
        for index, array in enumerate(arrays.values()):
            archive.writestr(f"archive/data/{index}", np.ascontiguousarray(array, "<f4").tobytes())
        archive.writestr("archive/version", b"3\n")
