"""What do hostile files cost? Gives each to `predict` or `import_weights` in a process of its own; prints a table.

    python tests/helpers/hostile_files.py [part of a name]

A row is a file: its size, the exit status, the wall time and the peak resident memory of the whole process, which
imports TensorFlow and loads a small network, and the last line that it printed. It ends with status 1 if a file was
waited for, ended in a stack trace, or had its code run.
"""

import io
import os
import pathlib
import pickle
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import PIL.Image

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
from tests.helpers import encoded_images, pickles  # noqa: E402

# A process that takes longer waits for something, and is killed.
SECONDS = 120

# The command of the rest of the arguments, which also knows the small network.
COMMAND = """
import sys
from alexnet_tf import __main__
from alexnet_tf.network import architectures
from tests.helpers.networks import SMALL
architectures.ARCHITECTURES["small"] = SMALL
sys.exit(__main__.main(sys.argv[1:]))
"""


class Outcome(NamedTuple):
    """How a process ended."""

    status: int
    seconds: float
    peak_mib: float
    output: str


def encoded(image: PIL.Image.Image, kind: str = "jpeg", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photograph(width: int, height: int) -> PIL.Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height // 100, width // 100, 3), "uint8")
    return PIL.Image.fromarray(pixels).resize((width, height))


def write_sparse(path: pathlib.Path, start: bytes = b"", size: int = 3 * 2**30) -> None:
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(size)


def write_bomb(path: pathlib.Path, member: str, start: bytes = b"", size: int = 2**30) -> None:
    """Writes a zip file whose member is a thousandth of its declared size."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open(member, "w", force_zip64=True) as file:
            file.write(start)
            for _ in range(size // 2**20):
                file.write(bytes(2**20))


def write_h5(path: pathlib.Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        group = file.create_group("layers/conv2d/vars")
        group.attrs["name"] = "conv1"
        group.create_dataset("0", (1 << 20, 1 << 20), "float32")  # Declared, never written.


def npy_header(count: int) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (count,)})
    return file.getvalue()


def images(folder: pathlib.Path) -> dict[str, Callable[[pathlib.Path], object]]:
    """Returns what writes each image, by its name; the first is an ordinary one, to compare with."""
    photo = encoded(photograph(4000, 3000), quality=95)
    return {
        "ordinary.jpg": lambda path: path.write_bytes(photo),
        "pipe.jpg": os.mkfifo,
        "zero.jpg": lambda path: path.symlink_to("/dev/zero"),
        "sparse-3-GiB.jpg": write_sparse,
        "100-scans.jpg": lambda path: path.write_bytes(encoded_images.with_scans(photograph(4000, 3000), 100)),
        "1000-scans.jpg": lambda path: path.write_bytes(encoded_images.with_scans(photograph(4000, 3000), 1000)),
        "900-megapixels.jpg": lambda path: path.write_bytes(encoded_images.declare_jpeg(photo, 30_000, 30_000)),
        "100000-segments.jpg": lambda path: path.write_bytes(
            encoded_images.with_segments(photo, *[encoded_images.segment(0xFE, b"")] * 100_000)
        ),
        "truncated.jpg": lambda path: path.write_bytes(photo[: len(photo) // 2]),
        "99.98-megapixels.png": lambda path: path.write_bytes(encoded_images.black_png(9_999, 9_999)),
        "102-megapixels.png": lambda path: path.write_bytes(encoded_images.black_png(10_100, 10_100)),
        "1-GiB-text.png": lambda path: path.write_bytes(
            encoded_images.black_png(
                300, 300, encoded_images.chunk(b"zTXt", b"Comment\0\0" + encoded_images.compressed_zeros(2**20, 1024))
            )
        ),
        "16-bits.png": lambda path: path.write_bytes(
            encoded(
                PIL.Image.fromarray(np.random.default_rng(0).integers(0, 4096, (3000, 4000)).astype("uint16")), "png"
            )
        ),
        "102-megapixels.tif": lambda path: path.write_bytes(
            encoded(PIL.Image.new("L", (10_100, 10_100)), "tiff", compression="tiff_lzw")
        ),
        "a\n\x1b[31mname.jpg": lambda path: path.write_bytes(b"no image"),
    }


def weights(folder: pathlib.Path) -> dict[str, Callable[[pathlib.Path], object]]:
    """Returns what writes each weight file, by its name."""
    evil = pickle.dumps({"conv1": pickles.Evil(folder / "code was run")}, 2)
    header = b'{"a":[' + b"[]," * 4_700_000 + b"[]]}"
    return {
        "pipe.caffemodel": os.mkfifo,
        "zero.npy": lambda path: path.symlink_to("/dev/zero"),
        "14-MB-header.safetensors": lambda path: path.write_bytes(len(header).to_bytes(8, "little") + header),
        "sparse-3-GiB.npy": lambda path: write_sparse(path, npy_header(100)),
        "code.pth": lambda path: path.write_bytes(pickles.torch_zip(evil)),
        "old-code.pth": lambda path: path.write_bytes(evil),
        "code.npy": lambda path: path.write_bytes(pickles.npy(evil)),
        "a-million-marks.pth": lambda path: path.write_bytes(pickles.torch_zip(b"\x80\x02" + b"(" * 1_000_000)),
        "zip-bomb.npz": lambda path: write_bomb(path, "conv1.npy", npy_header(2**28)),
        "zip-bomb.pth": lambda path: write_bomb(path, "archive/data.pkl"),
        "4-TiB.weights.h5": write_h5,
        "random.onnx": lambda path: path.write_bytes(np.random.default_rng(0).bytes(10_000_000)),
        "random.caffemodel": lambda path: path.write_bytes(np.random.default_rng(0).bytes(10_000_000)),
    }


def run(*arguments: object) -> Outcome:
    """Runs a command; kills it when it takes too long."""
    with tempfile.TemporaryFile() as output:
        begin = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *map(str, arguments)], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
        )
        peak = 0.0
        while process.poll() is None:
            peak = peak_mib(process.pid) or peak
            if time.monotonic() - begin > SECONDS:
                process.kill()
            time.sleep(0.01)
        output.seek(0)
        text = output.read().decode("utf-8", "replace").strip()
        return Outcome(process.returncode, time.monotonic() - begin, peak, text)


def peak_mib(pid: int) -> float | None:
    """Returns the peak resident memory of a process so far; `getrusage` tells its parent's, where that is larger."""
    match = re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text())
    return int(match[1]) / 1024 if match else None


def main(part: str = "") -> int:
    """Prints the table; returns 1 if a file did what it should not."""
    from tests.helpers import colours

    bad = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        small = colours.fit_small(colours.write_images(folder / "images"), folder / "run")
        print("| file | bytes | command | status | seconds | peak MiB | last line |\n|---|---|---|---|---|---|---|")
        made = [("predict", images(folder)), ("import_weights", weights(folder))]
        for command, writers in made:
            for name, write in ((name, write) for name, write in writers.items() if part in name):
                write(folder / name)
                size = (folder / name).lstat().st_size
                arguments = (
                    [f"--workdir={small}", folder / name]
                    if command == "predict"
                    else [f"--source={folder / name}", f"--workdir={folder / 'imported'}"]
                )
                end = run(command, *arguments)
                line = end.output.replace(scratch, "").split("\n")[-1][:120].replace("|", "\\|").strip()
                figures = f"{size:,} | {command} | {end.status} | {end.seconds:.1f} | {end.peak_mib:,.0f}"
                print(f"| {name!r} | {figures} | {line} |", flush=True)
                bad += end.status not in (0, 1) or "Traceback" in end.output or (folder / "code was run").exists()
                (folder / name).unlink()
    print(f"\n{bad} of them did what they should not." if bad else "\nEach was read, or refused with a reason.")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
