"""Bytes of examples out of files: only regular files of a bounded size, and many reads at a time where they take long.

On a local disk a read takes microseconds, and handing it to a thread would take longer. On a network file system it
takes milliseconds, and only reads that wait together hide them. Which it is, is measured with every block.
"""

import concurrent.futures
import contextlib
import errno
import functools
import itertools
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from alexnet_tf.support import image_limit, processors

# Examples in a block, and blocks that are read at a time.
BLOCK_SIZE = 32
PARALLEL_BLOCKS = max(8, processors.available_cpus())

# Images a second that a CPU decodes at most; as many reads wait together as it takes not to be slower.
_IMAGES_PER_CPU = 2500

# Descriptors that stay open for each set of files.
_MAX_OPEN_FILES = 128

_simulated_latency = 0.0


@contextlib.contextmanager
def simulated_latency(seconds: float) -> Iterator[None]:
    """Delays every read as slow storage would: for measurements."""
    global _simulated_latency
    before, _simulated_latency = _simulated_latency, seconds
    try:
        yield
    finally:
        _simulated_latency = before


class _Descriptor:
    """A file descriptor that is closed when nobody refers to it any more."""

    def __init__(self, path: str) -> None:
        self.number = open_regular(path)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # At exit, the module's names may be gone.
        if hasattr(self, "number"):
            close(self.number)


class OpenFiles:
    """Keeps descriptors of the files that are read most recently; other processes start without any."""

    def __init__(self) -> None:
        self._open = functools.lru_cache(_MAX_OPEN_FILES)(_Descriptor)

    def __reduce__(self) -> tuple[type["OpenFiles"], tuple[()]]:
        return OpenFiles, ()

    def read(self, path: str, offset: int, length: int) -> bytes:
        """Returns `length` bytes of a file from `offset` on.

        Raises:
            OSError: If the file cannot be read or is too short.
        """
        descriptor = self._open(path)
        if _simulated_latency:
            time.sleep(_simulated_latency)
        content = os.pread(descriptor.number, length, offset)
        if len(content) < length:
            raise OSError(errno.EIO, "the file is cut", path)
        return content


def open_regular(path: str) -> int:
    """Opens a regular file and returns its descriptor; does not wait for the other end of a pipe.

    Raises:
        OSError: If it cannot be opened or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is no regular file", path)


def read_file(path: str) -> bytes:
    """Returns the content of a regular file.

    Raises:
        OSError: If it cannot be read, is no regular file, or is larger than `image_limit` allows.
    """
    descriptor = open_regular(path)
    try:
        if _simulated_latency:
            time.sleep(_simulated_latency)
        size = os.fstat(descriptor).st_size
        image_limit.check(size, path)
        content = os.read(descriptor, size)
        while len(content) < size and (more := os.read(descriptor, size - len(content))):
            content += more
        return content
    finally:
        os.close(descriptor)


@functools.cache
def thread_pool() -> concurrent.futures.ThreadPoolExecutor:
    """Returns the threads that wait for slow reads."""
    return concurrent.futures.ThreadPoolExecutor(min(256, 32 * PARALLEL_BLOCKS), "read")


class _ReadTime:
    """A moving average of how long a read takes."""

    def __init__(self) -> None:
        self.seconds, self._lock = 0.0, threading.Lock()

    def add(self, seconds: float) -> None:
        with self._lock:
            self.seconds += 0.2 * (seconds - self.seconds)


def _waiting_reads(seconds: float) -> int:
    """Returns how many reads of a block, which take so long, must wait together to keep the CPUs busy."""
    reads = _IMAGES_PER_CPU * processors.available_cpus() * seconds
    return min(BLOCK_SIZE, 1 + int(reads / PARALLEL_BLOCKS))


def read_block(read: Callable[[int], bytes], indices: Sequence[int] | np.ndarray, read_time: _ReadTime) -> np.ndarray:
    """Returns the bytes of some examples, an array of objects; the first one shows whether reads are slow.

    Raises:
        OSError: If one of them cannot be read.
    """
    numbers: list[int] = np.asarray(indices).tolist()
    start = time.perf_counter()
    contents = [read(index) for index in numbers[:1]]
    read_time.add(time.perf_counter() - start)
    left, length = numbers[1:], -(-(len(numbers) - 1) // _waiting_reads(read_time.seconds))
    if length < len(left):  # A task for each read would cost a tenth of the speed.
        parts = [left[first : first + length] for first in range(0, len(left), length)]
        results = thread_pool().map(lambda part: [read(index) for index in part], parts)
        contents += itertools.chain.from_iterable(results)
    else:
        contents += map(read, left)
    result = np.empty(len(contents), object)
    result[:] = contents
    return result


def read_examples(
    blocks: tf.data.Dataset,
    read: Callable[[int], bytes],
    labels: np.ndarray,
    function: Callable[..., object],
    header_of: Callable[[bytes], tuple[int, int]] | None = None,
) -> tf.data.Dataset:
    """Reads examples and applies a function to each, in parallel and in order.

    Args:
        blocks: (indices int64 [b], others [b, ...]...): which examples, and what goes with each.
        read: Returns the bytes of an example.
        labels: int32 [n].
        function: Graph function of (bytes string [], label int32 [], others...).
        header_of: Function of an example's bytes, whose values come before the others, int32 [2].

    Returns:
        What the function returns.
    """
    label_tensor, read_time = tf.constant(labels), _ReadTime()

    def contents(indices: np.ndarray) -> np.ndarray:
        return read_block(read, indices, read_time)

    def contents_and_headers(indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = contents(indices)
        assert header_of is not None
        return found, np.array([header_of(each) for each in found], "int32")

    # Converting functions that have no control flow costs more than tracing them.
    @tf.autograph.experimental.do_not_convert
    def read_all(indices: tf.Tensor, *others: tf.Tensor) -> tuple[tf.Tensor, ...]:
        chosen = tf.gather(label_tensor, indices)
        if header_of is None:
            examples = tf.numpy_function(contents, [indices], tf.string, stateful=False)
            return tf.ensure_shape(examples, [None]), chosen, *others
        examples, headers = tf.numpy_function(contents_and_headers, [indices], (tf.string, tf.int32), stateful=False)
        return tf.ensure_shape(examples, [None]), chosen, tf.ensure_shape(headers, [None, 2]), *others

    # One call into Python for a block of examples: one for each would cost a quarter of the speed.
    examples = blocks.map(read_all, num_parallel_calls=PARALLEL_BLOCKS).unbatch()
    return examples.map(
        tf.autograph.experimental.do_not_convert(function), num_parallel_calls=2 * processors.available_cpus()
    )
