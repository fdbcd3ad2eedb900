"""Runs a SavedModel as TF Serving does: with its C++ loader, XLA switched off, and no Python TensorFlow.

A process of its own. From standard input it reads, pickled, a list of (directory, [({tensor name: value}, [tensor
names])]), where a value is a NumPy array or a list of bytes; it writes, pickled, what `serve` yields. With arguments,
see `poll`.
"""

import ctypes
import functools
import importlib.util
import os
import pathlib
import pickle
import resource
import sys

import numpy as np

STRING = 7
CODES = {3: "INVALID_ARGUMENT", 5: "NOT_FOUND", 8: "RESOURCE_EXHAUSTED", 13: "INTERNAL"}
DTYPES = {1: np.float32, 3: np.int32, 9: np.int64}


class Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


def library():
    """Loads TensorFlow's C API from its wheel without importing it."""
    folder = pathlib.Path(importlib.util.find_spec("tensorflow").origin).parent
    ctypes.CDLL(str(folder / "libtensorflow_framework.so.2"), ctypes.RTLD_GLOBAL)
    tf = ctypes.CDLL(str(folder / "libtensorflow_cc.so.2"), ctypes.RTLD_GLOBAL)
    for name in (
        "TF_NewStatus",
        "TF_NewGraph",
        "TF_NewSessionOptions",
        "TF_LoadSessionFromSavedModel",
        "TF_AllocateTensor",
        "TF_TensorData",
        "TF_GraphOperationByName",
    ):
        getattr(tf, name).restype = ctypes.c_void_p
    for name in ("TF_Message", "TF_StringGetDataPointer"):
        getattr(tf, name).restype = ctypes.c_void_p
    for name in ("TF_Dim", "TF_StringGetSize"):
        getattr(tf, name).restype = ctypes.c_size_t
    tf._ZN10tensorflow21DisableXlaCompilationEv()  # As the server's main() does.
    return tf


class Loader:
    """A session on the graph tagged "serve"."""

    def __init__(self, directory):
        self.tf = library()
        self.status = ctypes.c_void_p(self.tf.TF_NewStatus())
        self.graph = ctypes.c_void_p(self.tf.TF_NewGraph())
        tags = (ctypes.c_char_p * 1)(b"serve")
        self.session = ctypes.c_void_p(
            self.tf.TF_LoadSessionFromSavedModel(
                ctypes.c_void_p(self.tf.TF_NewSessionOptions()),
                None,
                directory.encode(),
                tags,
                1,
                self.graph,
                None,
                self.status,
            )
        )
        self._check()

    def _check(self):
        if self.tf.TF_GetCode(self.status):
            message = ctypes.string_at(self.tf.TF_Message(self.status)).decode()
            raise RuntimeError(f"{CODES.get(self.tf.TF_GetCode(self.status), 'another code')}: {message}")

    def run(self, feeds, fetches):
        """Returns the values of some tensors."""
        inputs = (Output * len(feeds))(*map(self._output, feeds))
        values = (ctypes.c_void_p * len(feeds))(*map(self._tensor, feeds.values()))
        outputs = (Output * len(fetches))(*map(self._output, fetches))
        results = (ctypes.c_void_p * len(fetches))()
        self.tf.TF_SessionRun(
            self.session, None, inputs, values, len(feeds), outputs, results, len(fetches), None, 0, None, self.status
        )
        for value, tensor in zip(feeds.values(), values):
            self._delete(value, ctypes.c_void_p(tensor))
        self._check()
        arrays = [self._array(ctypes.c_void_p(each)) for each in results]
        for each in results:
            self.tf.TF_DeleteTensor(ctypes.c_void_p(each))
        return arrays

    def _delete(self, value, tensor):
        """Frees what `_tensor` allocated: otherwise a long run would grow by its own requests."""
        if isinstance(value, list):
            data = self.tf.TF_TensorData(tensor)
            for index in range(len(value)):
                self.tf.TF_StringDealloc(ctypes.c_void_p(data + 24 * index))
        self.tf.TF_DeleteTensor(tensor)

    def _output(self, name):
        operation, index = name.split(":")
        found = self.tf.TF_GraphOperationByName(self.graph, operation.encode())
        assert found, name
        return Output(found, int(index))

    def _tensor(self, value):
        if isinstance(value, list):
            shape, dtype, size = (len(value),), STRING, 24 * len(value)
        else:
            shape, size = value.shape, value.nbytes
            dtype = next(number for number, each in DTYPES.items() if value.dtype == each)
        dims = (ctypes.c_int64 * len(shape))(*shape)
        tensor = ctypes.c_void_p(self.tf.TF_AllocateTensor(dtype, dims, len(shape), ctypes.c_size_t(size)))
        data = self.tf.TF_TensorData(tensor)
        if dtype != STRING:
            ctypes.memmove(data, np.ascontiguousarray(value).ctypes.data, size)
            return tensor.value
        for index, each in enumerate(value):
            place = ctypes.c_void_p(data + 24 * index)
            self.tf.TF_StringInit(place)
            self.tf.TF_StringCopy(place, each, ctypes.c_size_t(len(each)))
        return tensor.value

    def _array(self, tensor):
        shape = [self.tf.TF_Dim(tensor, axis) for axis in range(self.tf.TF_NumDims(tensor))]
        count, dtype, data = int(np.prod(shape)), self.tf.TF_TensorType(tensor), self.tf.TF_TensorData(tensor)
        if dtype != STRING:
            kind = np.dtype(DTYPES[dtype])
            content = ctypes.string_at(data, count * kind.itemsize) if count else b""
            return np.frombuffer(content, kind, count).reshape(shape)
        places = [ctypes.c_void_p(data + 24 * index) for index in range(count)]
        strings = [
            ctypes.string_at(self.tf.TF_StringGetDataPointer(place), self.tf.TF_StringGetSize(place))
            for place in places
        ]
        return np.array(strings, object).reshape(shape)


def serve(jobs):
    """Yields, for each request of each job, the arrays or the error's message, and the peak memory in bytes."""
    for directory, requests in jobs:
        try:
            loader = Loader(directory)
            run = loader.run
        except RuntimeError as error:
            run = functools.partial(_raise, error)
        for feeds, fetches in requests:
            try:
                answer = run(feeds, fetches)
            except RuntimeError as error:
                answer = str(error)
            yield answer, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _raise(error, *_):
    raise error


def poll(base, stop):
    """Loads the highest number in a directory again and again until the file `stop` is there; says what happened."""
    loaded, failed, last = [], [], False
    while not last:
        last = os.path.exists(stop)
        numbers = [name for name in os.listdir(base) if name.isdecimal()]
        if numbers:
            newest = max(numbers, key=int)
            try:
                Loader(os.path.join(base, newest))
                loaded.append(int(newest))
                pathlib.Path(f"{stop}.started").touch()
            except RuntimeError as error:
                failed.append(f"{newest}: {error}")
    return loaded, failed


def main():
    """Answers the jobs, or polls if the arguments say where and until when."""
    if sys.argv[1:]:
        result = poll(*sys.argv[1:])
    else:
        result = list(serve(pickle.load(sys.stdin.buffer)))
    assert "tensorflow" not in sys.modules
    pickle.dump(result, sys.stdout.buffer)


if __name__ == "__main__":
    main()
