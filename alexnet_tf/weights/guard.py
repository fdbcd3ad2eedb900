"""Reads a weight file in a process of its own, whose memory and time are limited.

    python -m alexnet_tf.weights.guard FORMAT OUTPUT < FILE

A weight file is data from a stranger: a small one may declare terabytes, unpack to gigabytes, or keep a parser busy for
ever. The child parses it with ordinary libraries. It hands the arrays over as float32 in a .safetensors file, and what
else it found as JSON in that file's metadata; or it prints why it cannot.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import resource
import stat
import subprocess
import sys
import tempfile

import ml_dtypes  # noqa: F401  (NumPy then knows bfloat16.)
import numpy as np
import safetensors.numpy

from alexnet_tf.support import home, tables
from alexnet_tf.weights import formats

# No AlexNet is larger: 62,378,344 values of 8 bytes are 0.5 GB.
MAX_BYTES = 1 << 30

# The child's memory: Python and libraries need 60 MB; a file's bytes, arrays and float32 arrays three times its size.
_MEMORY = 1 << 28
_MEMORY_FACTOR = 4

_TOO_LARGE = "It needs more memory than a weight file of its size may."

# The child's time: two seconds are usual; a slow disk may read 5 MB a second.
_SECONDS = 60
_BYTES_PER_SECOND = 5e6

# What lies in a weight file's place after a download that went wrong, by how it begins, and what helps.
_NO_WEIGHTS = (
    (
        rb"version https://git-lfs",
        "a pointer of Git LFS, not the file itself. Fetch that in its repository: git lfs install && git lfs pull",
    ),
    (
        rb"(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml)",
        "a web page that was saved instead of the file, such as a site's "
        "question or error. Open the address in a browser and download the file there",
    ),
)


def read(path: str | os.PathLike) -> tuple[formats.WeightFile, str]:
    """Returns (what a weight file holds, its SHA-256 in hexadecimal).

    Raises:
        WeightFileError: If it cannot be read, is damaged or of another kind, or takes too much memory or time.
    """
    path = home.expand(path)
    try:
        name = formats.format_of(path.name)
        if not stat.S_ISREG(path.stat().st_mode):
            raise formats.WeightFileError("It is not a regular file; directories, pipes and devices are not read.")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise formats.WeightFileError(f"It has {size:,} bytes; no weights of AlexNet have over {MAX_BYTES:,}.")
        with tempfile.TemporaryDirectory() as folder:
            output = os.path.join(folder, "arrays.safetensors")
            _run(name, path, output, _SECONDS + size / _BYTES_PER_SECOND)
            with safetensors.safe_open(output, "np") as handed:
                facts = json.loads(handed.metadata()["facts"])
                arrays = {key: handed.get_tensor(key) for key in handed.keys()}
        return formats.WeightFile(arrays, **facts["file"]), facts["sha256"]
    except OSError as error:
        raise formats.WeightFileError(f"{path} cannot be read: {error.strerror}.") from error
    except formats.WeightFileError as error:
        raise formats.WeightFileError(f"{path}: {error}") from error


def _run(name: str, path: pathlib.Path, output: str, seconds: float) -> None:
    """Runs the child."""
    command = [sys.executable, "-W", "ignore", "-m", __name__, name, output]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # Whose threads' stacks would count.
    root = pathlib.Path(__file__).parents[2]
    try:
        with open(path, "rb") as file:
            child = subprocess.run(
                command,
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=root,
                env=environment,
                timeout=seconds,
            )
    except subprocess.TimeoutExpired as error:
        raise formats.WeightFileError(f"Reading it takes longer than {seconds:.0f} s: it was given up.") from error
    if child.returncode:
        reason = child.stdout.decode(errors="replace").strip()
        ended = f"Reading it ended its reader (status {child.returncode}): it is damaged, or needs too much memory."
        raise formats.WeightFileError(reason or ended)


def parse(name: str, content: bytes) -> formats.WeightFile:
    """Parses a file's bytes: what the child does, without its limits.

    Args:
        name: A key of `formats.FORMATS`.
        content: The file's bytes.

    Returns:
        What it holds, with float32 arrays.

    Raises:
        WeightFileError: If it is damaged, of another kind, or holds other than floating-point numbers.
    """
    entry = formats.FORMATS[name]
    if not content:
        raise formats.WeightFileError("It is empty.")
    for beginning, what in _NO_WEIGHTS:
        if re.match(beginning, content, re.IGNORECASE):
            raise formats.WeightFileError(f"It ({len(content):,} bytes) is {what}.")
    try:
        file = tables.load(formats.FORMATS, name, "format").read(content)
        arrays = {}
        for key, array in file.arrays.items():
            if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
                raise formats.WeightFileError(f"{key} holds {array.dtype}, not floating-point numbers.")
            arrays[key] = np.ascontiguousarray(array, "float32")
        if not all(np.isfinite(np.asarray(each, "float32")).all() for each in (file.mean or 0, file.scale or 0)):
            raise formats.WeightFileError("It states a mean or a scale that is not finite.")
        return dataclasses.replace(file, arrays=arrays)
    except MemoryError as error:
        raise formats.WeightFileError(_TOO_LARGE) from error
    except Exception as error:  # Libraries raise anything for damaged files.
        reason = " ".join(str(error).split())[:400]  # It may have names of the file.
        if not isinstance(error, formats.WeightFileError):
            reason = f"It is damaged, or not a {' or '.join(entry.endings)} file ({type(error).__name__}: {reason})."
        raise formats.WeightFileError(reason) from error


def main(arguments: list[str]) -> int:
    """Parses standard input and writes the arrays; what is wrong goes to standard output."""
    name, output = arguments
    limit = _MEMORY + _MEMORY_FACTOR * os.fstat(0).st_size
    with contextlib.suppress(ValueError, OSError):  # Where the system has no such limit.
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    content = sys.stdin.buffer.read()
    try:
        file = parse(name, content)
        facts = {key: value for key, value in vars(file).items() if key != "arrays"}
        text = json.dumps({"file": facts, "sha256": hashlib.sha256(content).hexdigest()})
        safetensors.numpy.save_file(dict(file.arrays), output, {"facts": text})
    except (formats.WeightFileError, MemoryError, OSError) as error:
        sys.stdout.buffer.write((str(error) or _TOO_LARGE).encode(errors="backslashreplace"))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
