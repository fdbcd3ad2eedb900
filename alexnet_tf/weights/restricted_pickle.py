"""Reads pickles of arrays without running what is in them.

A pickle is a program. The reader here knows the few operations and names that arrays need, has its own stand-ins for
each of them, and refuses the rest: nothing a file names is imported, run, or allocated before its bytes are there.
"""

import io
import math
import pickletools
import typing
from collections.abc import Iterable

import numpy as np

from alexnet_tf.support import errors
from alexnet_tf.weights import containers


def text(name: object) -> str:
    """Returns a name of a pickle, which Python 2 wrote as bytes.

    Raises:
        WeightFileError: If it is no name.
    """
    if not isinstance(name, str | bytes):
        raise containers.WeightFileError("It has something else where a name should be.")
    return name.decode("latin1") if isinstance(name, bytes) else name


class PickledArray:
    """A pickled NumPy array, read without NumPy's own code, which allocates whatever size a pickle states."""

    value = None

    def set_state(self, state: tuple) -> None:
        """Takes what the pickle's BUILD operation gives."""
        _, shape, dtype, is_fortran, content = state
        if isinstance(content, list):  # An array of objects: np.save's way to write a dictionary, or a list of arrays.
            if shape not in ((), (len(content),)) or not content:
                raise containers.WeightFileError("An array of objects is no dictionary of arrays.")
            self.value = content if shape else content[0]
        else:
            shape = shape[::-1] if is_fortran else shape
            value = containers.array_of(content, dtype.name, shape, "An array")
            self.value = value.T if is_fortran else value


class PickledDType:
    """A pickled floating-point dtype."""

    def __init__(self, name: object, *_: object):
        self.name = text(name)
        if self.name not in ("f2", "f4", "f8", "O", "O8"):
            raise containers.WeightFileError(
                f"Arrays of dtype {self.name[:20]!r} are no weights: float16, float32 and float64 are read."
            )

    def set_state(self, state: tuple) -> None:
        """Takes what the pickle's BUILD operation gives."""
        if state[1] in (">", b">"):
            self.name = ">" + self.name


class PickledDictionary(dict):
    """An OrderedDict of a pickle; the attributes that PyTorch adds are dropped."""

    def set_state(self, state: tuple) -> None:
        """Takes what the pickle's BUILD operation gives."""
        pass


class Storage:
    """A run of values in a PyTorch file: its bytes are found later, by key."""

    def __init__(self, dtype: str, key: str, count: int):
        self.dtype, self.key, self.count = dtype, key, count


class PickledTensor:
    """A view of a storage."""

    def __init__(self, storage: object, offset: int, shape: Iterable[int], strides: Iterable[int], *_: object):
        if not isinstance(storage, Storage):
            raise containers.WeightFileError("A tensor has no storage.")
        self.storage, self.offset, self.shape, self.strides = storage, offset, tuple(shape), tuple(strides)

    def array(self, values: np.ndarray) -> np.ndarray:
        """Returns the view; a copy, so that it is no larger than it looks."""
        shape, strides = self.shape, self.strides
        numbers = (self.offset + 1, *shape, *strides)
        is_sound = len(shape) == len(strides) <= 8 and all(isinstance(n, int) and 0 < n < 1 << 40 for n in numbers)
        # Strides that repeat values would make a huge array of a small file.
        if (
            not is_sound
            or math.prod(shape) > values.size
            or self.offset + sum((n - 1) * stride for n, stride in zip(shape, strides)) >= values.size
        ):
            raise containers.WeightFileError(f"A tensor does not lie inside its storage of {values.size:,} values.")
        view = np.lib.stride_tricks.as_strided(
            values[self.offset :], shape, [stride * values.itemsize for stride in strides], writeable=False
        )
        return np.ascontiguousarray(view)


def _encode(text, *_):  # Python 3 writes bytes so under the older protocols.
    return text.encode("latin1")


def _first(*_):  # _reconstruct's arguments are a type, a shape of zero and a letter; the state follows.
    return PickledArray()


def _parameter(tensor, *_):  # A parameter is its tensor; whether it is trained does not matter here.
    return tensor


_DTYPES = ("<f4", "<f2", "<f8", "bfloat16", "<i8")

_KNOWN: dict[str, typing.Any] = {
    "numpy.core.multiarray _reconstruct": _first,
    "numpy._core.multiarray _reconstruct": _first,
    "numpy ndarray": PickledArray,
    "numpy dtype": PickledDType,
    "_codecs encode": _encode,
    "collections OrderedDict": PickledDictionary,
    "torch._utils _rebuild_tensor": PickledTensor,
    "torch._utils _rebuild_tensor_v2": PickledTensor,
    "torch._utils _rebuild_parameter": _parameter,
    "torch FloatStorage": "<f4",
    "torch HalfStorage": "<f2",
    "torch DoubleStorage": "<f8",
    "torch BFloat16Storage": "bfloat16",
    "torch LongStorage": "<i8",  # Counters beside the weights.
}

# Arrays need some hundred operations.
_MAX_OPERATIONS = 20_000

# Operations by what they do here. Any other, such as those that make objects of a named class, is refused.
_PUSH_ARGUMENT = set(
    "INT BININT BININT1 BININT2 LONG1 BINFLOAT STRING BINUNICODE SHORT_BINUNICODE BINUNICODE8 "
    "BINBYTES SHORT_BINBYTES BINBYTES8".split()
)
_PUSH_PYTHON_2_BYTES = {"BINSTRING", "SHORT_BINSTRING"}
_PUSH_NEW: dict[str, typing.Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = {"PROTO", "FRAME", "STOP"}


class _Machine:
    """Interprets the operations that arrays need, as `pickletools.genops` decodes them.

    Python's own unpickler is no base for this: the public one is C code, which has no hook for a dictionary's keys
    (hashing nested tuples may take for ever) nor for setting attributes, and allocates a memo as large as a file asks.
    """

    def __init__(self) -> None:
        self.stack: list = []
        self._marks: list[list] = []
        self._memo: dict[int, object] = {}

    def run(self, file: io.BytesIO) -> object:
        """Returns what a pickle holds, as the classes above; the file is read to the pickle's end."""
        for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
            if count > _MAX_OPERATIONS:
                raise containers.WeightFileError("It has far more operations than arrays need.")
            self._do(operation.name, argument)
        return self.stack.pop()

    def _do(self, name: str, argument) -> None:
        stack = self.stack
        if name in _PUSH_ARGUMENT:
            stack.append(argument)
        elif name in _PUSH_PYTHON_2_BYTES:
            stack.append(argument.encode("latin1"))
        elif name in _PUSH_NEW:
            stack.append(_PUSH_NEW[name]())
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
        elif hasattr(self, f"_do_{name.lower()}"):
            getattr(self, f"_do_{name.lower()}")(argument)
        elif name not in _IGNORED:
            raise containers.WeightFileError(f"It has the operation {name}, which arrays do not need. Nothing was run.")

    def _do_mark(self, _) -> None:
        self._marks.append(self.stack)
        self.stack = []

    def _pop_mark(self) -> list:
        items, self.stack = self.stack, self._marks.pop()
        return items

    def _do_tuple(self, _) -> None:
        items = self._pop_mark()
        self.stack.append(tuple(items))

    def _do_append(self, _) -> None:
        item = self.stack.pop()
        self._list().append(item)

    def _do_appends(self, _) -> None:
        items = self._pop_mark()
        self._list().extend(items)

    def _list(self) -> list:
        if not isinstance(self.stack[-1], list):
            raise containers.WeightFileError("It appends to something that is no list.")
        return self.stack[-1]

    def _do_setitem(self, _) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def _do_setitems(self, _) -> None:
        self._set_items(self._pop_mark())

    def _set_items(self, items: list) -> None:
        # The hash of tuples in tuples may take for ever.
        if not isinstance(self.stack[-1], dict) or not all(isinstance(key, str | bytes | int) for key in items[::2]):
            raise containers.WeightFileError("A dictionary's key is no name.")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def _do_memoize(self, _) -> None:
        self._memo[len(self._memo)] = self.stack[-1]

    def _do_binput(self, index: int) -> None:
        self._memo[index] = self.stack[-1]

    _do_long_binput = _do_binput

    def _do_binget(self, index: int) -> None:
        self.stack.append(self._memo[index])

    _do_long_binget = _do_binget

    def _do_global(self, names: str) -> None:
        self.stack.append(_known(*names.split(" ", 1)))

    def _do_stack_global(self, _) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(_known(module, name))

    def _do_reduce(self, _) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not any(function is known for known in _KNOWN.values()) or not callable(function):
            raise containers.WeightFileError("It calls something that is no constructor of an array.")
        self.stack.append(function(*arguments))

    def _do_build(self, _) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], PickledArray | PickledDType | PickledDictionary):
            raise containers.WeightFileError("It sets attributes of something that is no array.")
        self.stack[-1].set_state(state)

    def _do_binpersid(self, _) -> None:
        pid = self.stack.pop()
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or pid[1] not in _DTYPES:
            raise containers.WeightFileError("A tensor's storage is neither float16, bfloat16, float32 nor float64.")
        self.stack.append(Storage(pid[1], text(pid[2]), pid[4]))


def _known(module, name):
    """Returns the stand-in for a name that a pickle asks for."""
    wanted = f"{text(module)} {text(name)}"
    if wanted not in _KNOWN:
        raise containers.WeightFileError(
            f"It asks for {text(module)}.{text(name)}, which arrays do not need: such a file can run code. "
            "Nothing was run. Where you trust it, save the weights alone: torch.save(model.state_dict(), FILE)."
        )
    return _KNOWN[wanted]


def unpickle(file: io.BytesIO) -> object:
    """Returns what a pickle holds, as the classes above.

    Raises:
        WeightFileError: If it is damaged or holds anything else.
    """
    try:
        return _Machine().run(file)
    except errors.UserError:
        raise
    except Exception as error:  # A damaged pickle may raise anything.
        raise containers.WeightFileError(f"It is damaged: {type(error).__name__} at byte {file.tell():,}.") from error
