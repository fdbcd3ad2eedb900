"""Unpickles arrays: a pickle may ask for the dozen names of `_KNOWN` and no others, so that nothing in it is run."""

import collections
import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from alexnet_tf.weights import formats

# A run of values in a PyTorch file: their dtype and bytes.
Storage = tuple[str, bytes | bytearray]


class PickledArray:
    """A pickled NumPy array; NumPy's own class would take any state that a pickle gives it.

    Attributes:
        value: The array, or the list of objects that an array of objects holds.
    """

    value: Any = None

    def __init__(self, *_: object):
        pass

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, content = state
        if isinstance(content, list):
            self.value = content
        else:
            content = content.encode("latin1") if isinstance(content, str) else content  # Of Python 2.
            self.value = np.frombuffer(content, dtype.name).reshape(shape, order="F" if is_fortran else "C")


class _DType:
    """A pickled dtype; the names of other than floating-point numbers are refused where they are used."""

    def __init__(self, name: str, *_: object):
        self.name = name

    def __setstate__(self, state: tuple) -> None:
        self.name = f">{self.name}" if state[1] == ">" else self.name


def _tensor(storage: Storage, offset: int, shape: Sequence[int], strides: Sequence[int], *_: object) -> np.ndarray:
    """Returns a view of a storage; NumPy checks that it lies inside."""
    dtype, content = np.dtype(storage[0]), storage[1]
    size = dtype.itemsize
    return np.ndarray(shape, dtype, content, offset * size, [stride * size for stride in strides])


_KNOWN: dict[str, Any] = {
    "numpy.core.multiarray._reconstruct": PickledArray,
    "numpy._core.multiarray._reconstruct": PickledArray,
    "numpy.ndarray": PickledArray,
    "numpy.dtype": _DType,
    "_codecs.encode": lambda text, *_: text.encode("latin1"),  # Python 3 writes bytes so under the older protocols.
    "collections.OrderedDict": collections.OrderedDict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.DoubleStorage": "<f8",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "<i8",  # Counters beside the weights.
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, storage: Callable[[str, str, int], Storage] | None):
        super().__init__(file, encoding="latin1")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in _KNOWN:
            raise formats.WeightFileError(
                f"It asks for {module}.{name}, which arrays do not need: such a file can run code. Nothing was run. "
                "Where you trust it, save the weights alone: torch.save(model.state_dict(), FILE)."
            )
        return _KNOWN[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> Storage:
        _, dtype, key, _, count = pid[:5]
        assert self._storage
        return self._storage(dtype, key, count)


def load(file: io.BytesIO, storage: Callable[[str, str, int], Storage] | None = None) -> Any:
    """Returns what a pickle holds; NumPy's arrays are `PickledArray`, tensors are arrays.

    Args:
        file: Is read to the pickle's end.
        storage: Called with (dtype, key, number of values) for each storage that a tensor lies in.

    Raises:
        WeightFileError: If it asks for anything but arrays.
        Exception: If it is damaged.
    """
    return _Unpickler(file, storage).load()
