"""Bytes of examples out of files: only regular files of a bounded size, and many reads at a time.

On a network file system a read takes milliseconds, and only reads that wait together hide them: so some blocks of
examples are read at a time and, where the first read of a block is slow, the others by several threads.
"""

import concurrent.futures
import errno
import functools
import itertools
import os
import stat
import time
import typing
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from alexnet_tf.data import plain_images
from alexnet_tf.support import errors, image_limit, processors

if typing.TYPE_CHECKING:
    from alexnet_tf.data import datasets

# Examples in a block, of which one thread reads a part; and blocks that are read at a time.
BLOCK_SIZE = 32
_PART = 4
PARALLEL_BLOCKS = max(8, processors.available_cpus())

# A read that takes longer has waited. To hand a read of 16 microseconds to another thread costs 45.
_SLOW_SECONDS = 0.002

# Descriptors that stay open for each set of files, of which there are a few; at most a quarter of what may be open.
_MAX_OPEN_FILES = 128

# Errors of the machine, which say nothing about a file, and what helps. EIO is not among them: a disk has bad sectors.
_MACHINE_ERRORS = {
    errno.EMFILE: "Allow this process more open files (ulimit -n 4096)",
    errno.ENFILE: "The machine has too many open files: end other programs",
    errno.ENOMEM: "Memory has run out: end other programs, or give this one more",
    **dict.fromkeys(
        (errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT), "The images' file system has gone: mount it again"
    ),
}


def reason(error: Exception) -> str:
    """Returns why a file cannot be read, for a message that names it.

    Args:
        error: What was raised, an OSError or what says of its own why.

    Raises:
        DataError: If it is the machine that fails: the file may be as good as any.
    """
    number, strerror = getattr(error, "errno", None), getattr(error, "strerror", None)
    if number in _MACHINE_ERRORS:
        raise errors.DataError(
            f"Images can no longer be read: {strerror}. {_MACHINE_ERRORS[number]}, and type the same command again."
        ) from error
    return strerror or str(error)


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
        self._open = functools.lru_cache(min(_MAX_OPEN_FILES, processors.max_open_files() // 4))(_Descriptor)

    def __reduce__(self) -> tuple[type["OpenFiles"], tuple[()]]:
        return OpenFiles, ()

    def read(self, path: str, offset: int, length: int) -> bytes:
        """Returns `length` bytes of a file from `offset` on.

        Raises:
            OSError: If the file cannot be read or is too short.
        """
        descriptor = self._open(path)  # Held: of two that open it at once, only one is kept, and the other is closed.
        content = os.pread(descriptor.number, length, offset)
        if len(content) < length:
            raise OSError(errno.EIO, "the file is cut", path)
        return content


def open_regular(path: str) -> int:
    """Opens a regular file and returns its descriptor; does not wait for the other end of a pipe.

    Raises:
        OSError: If it cannot be opened or is not a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is not a regular file", path)


def read_file(path: str) -> bytes:
    """Returns the content of a regular file.

    Raises:
        OSError: If it cannot be read, is not a regular file, or is larger than `image_limit` allows.
    """
    with open(open_regular(path), "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        image_limit.check(size, path)
        return file.read()


@functools.cache
def thread_pool() -> concurrent.futures.ThreadPoolExecutor:
    """Returns the threads that wait for slow reads."""
    return concurrent.futures.ThreadPoolExecutor(PARALLEL_BLOCKS * BLOCK_SIZE // _PART, "read")


def read_examples(
    source: "datasets.ImageSource", blocks: tf.data.Dataset, function: Callable[..., object]
) -> tf.data.Dataset:
    """Reads examples and applies a function to each, in parallel and in order.

    Args:
        source: The examples.
        blocks: (indices int64 [b], others [b, ...]...): which examples, and what goes with each.
        function: Graph function of (bytes string [], label int32 [], others...); the bytes are those of an ordinary
            JPEG or PNG, as `plain_images.plain` gives them.

    Returns:
        What the function returns.
    """

    def read_part(indices: list[int]) -> list[tuple[bytes, int, bool]]:
        examples = (source.read(index) for index in indices)
        return [(content, label, source.is_square or plain_images.is_ordinary(content)) for content, label in examples]

    def read_block(indices: np.ndarray) -> tuple[np.ndarray, ...]:
        started, (first, *others) = time.perf_counter(), indices.tolist()
        examples = read_part([first])
        if time.perf_counter() - started < _SLOW_SECONDS:
            examples += read_part(others)
        else:
            parts = [others[start : start + _PART] for start in range(0, len(others), _PART)]
            examples += itertools.chain.from_iterable(thread_pool().map(read_part, parts))
        contents, labels, are_ordinary = zip(*examples)
        return np.array(contents, object), np.array(labels, "int32"), np.array(are_ordinary)

    def make_plain(image_bytes: tf.Tensor) -> tf.Tensor:
        # One at a time, as it may take a hundred megabytes.
        return tf.ensure_shape(tf.numpy_function(plain_images.plain, [image_bytes], tf.string, stateful=False), [])

    # Converting functions that have no control flow costs more than tracing them.
    @tf.autograph.experimental.do_not_convert
    def read(indices: tf.Tensor, *others: tf.Tensor) -> tuple[tf.Tensor, ...]:
        examples = tf.numpy_function(read_block, [indices], (tf.string, tf.int32, tf.bool), stateful=False)
        return *(tf.ensure_shape(each, [None]) for each in examples), *others

    @tf.autograph.experimental.do_not_convert
    def apply(image_bytes: tf.Tensor, label: tf.Tensor, is_ordinary: tf.Tensor, *others: tf.Tensor) -> object:
        image_bytes = tf.cond(is_ordinary, lambda: image_bytes, lambda: make_plain(image_bytes))
        return function(image_bytes, label, *others)

    # One call into Python for a block of examples: one for each would cost a quarter of the speed.
    examples = blocks.map(read, num_parallel_calls=PARALLEL_BLOCKS).unbatch()
    return examples.map(apply, num_parallel_calls=2 * processors.available_cpus())
