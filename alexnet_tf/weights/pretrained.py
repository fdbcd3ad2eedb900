"""Public ImageNet weights by name: downloaded once, checked, imported, and kept as an ordinary run.

Addresses, sizes, hashes and accuracies are the publishers' own, or those that several projects agree on.
"""

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import errors, home


@dataclasses.dataclass(frozen=True)
class File:
    """A published weight file.

    Attributes:
        name: What it is kept as; its ending is its format's.
        digest: "sha256" or "sha1", a colon, and the hash in hexadecimal.
        size: In bytes, where it is known.
        addresses: Where it is, the first to try first.
    """

    name: str
    digest: str
    size: int | None
    addresses: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Public weights of an architecture of the same name.

    Attributes:
        publisher: Who trained and published them.
        accuracy: On ImageNet's validation images, and whose number it is.
        licence: Of the files.
        files: Equal weights, the first to try first.
    """

    publisher: str
    accuracy: str
    licence: str
    files: tuple[File, ...]


def _zoo(folder: str, name: str, digest: str, size: int) -> File:
    """Returns a file of the ONNX model zoo, whose large files lie at two hosts of GitHub's."""
    path = f"validated/vision/classification/{folder}/model/{name}"
    hosts = ("github.com/onnx/models/raw/main", "media.githubusercontent.com/media/onnx/models/main")
    return File(name, f"sha256:{digest}", size, tuple(f"https://{host}/{path}" for host in hosts))


_BVLC = "http://dl.caffe.berkeleyvision.org"

PRETRAINED = {
    "torchvision": Pretrained(
        "torchvision",
        "56.52 % top-1 and 79.07 % top-5 accuracy with the centre crop (torchvision)",
        "BSD-3-Clause",
        (
            File(
                "alexnet-owt-7be5be79.pth",
                "sha256:7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
                244_408_911,
                ("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",),
            ),
        ),
    ),
    "caffe": Pretrained(
        "BVLC",
        "57.1 % top-1 and 80.2 % top-5 accuracy with the centre crop (BVLC's readme)",
        "unrestricted (BVLC), BSD-3-Clause (ONNX model zoo)",
        (
            _zoo(
                "alexnet",
                "bvlcalexnet-12.onnx",
                "6b0da9510f27f234ee96a85dc3809dd210150fdefad87f6850f9788513216945",
                243_863_787,
            ),
            File(
                "bvlc_alexnet.caffemodel",
                "sha1:9116a64c0fbe4459d18f4bb6b56d647b63920377",
                None,
                (
                    f"{_BVLC}/bvlc_alexnet.caffemodel",
                    "https://nvidia.box.com/shared/static/5j264j7mky11q8emy4q14w3r8hl5v6zh.caffemodel",
                ),
            ),
        ),
    ),
    "caffenet": Pretrained(
        "BVLC",
        "57.4 % top-1 and 80.4 % top-5 accuracy with the centre crop (BVLC's readme)",
        "unrestricted (BVLC), BSD-3-Clause (ONNX model zoo)",
        (
            _zoo(
                "caffenet",
                "caffenet-12.onnx",
                "ea563e5c47d1f58e1717cf1a2d8bf288b8adc07af0ad228b622096cd243aeecb",
                243_863_798,
            ),
            File(
                "bvlc_reference_caffenet.caffemodel",
                "sha1:4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46",
                None,
                (f"{_BVLC}/bvlc_reference_caffenet.caffemodel",),
            ),
        ),
    ),
}


def load(name: str, say: Callable[[str], object] = print) -> RunDirectory:
    """Returns the run of public ImageNet weights; the first time, downloads and imports them.

    Args:
        name: A key of `PRETRAINED`.
        say: Called with a line that says what is used, and with what happens.

    Raises:
        UserError: If there are no weights of this name, or no directory to keep them in.
        DownloadError: If they cannot be downloaded; what is there of the file is kept, and the next call goes on.
    """
    entry = _find(name)
    directory = home.cache() / "pretrained"
    run = RunDirectory(directory / name)
    try:
        if run.read_config() is None:
            directory.mkdir(parents=True, exist_ok=True)
            with _one_at_a_time(directory / f".{name}.lock", name, say):
                if run.read_config() is None:
                    _import(name, entry, directory, say)
    except OSError as error:
        raise errors.UserError(
            f"{error.filename or directory} cannot be written: {error.strerror}. Set ALEXNET_TF_HOME to a directory "
            "that can be, with half a gigabyte of space."
        ) from error
    say(f"{name}: ImageNet weights of {entry.publisher}, {entry.accuracy}; licence: {entry.licence}; kept in {run}")
    return run


def _find(name: str) -> Pretrained:
    try:
        return PRETRAINED[name]
    except KeyError:
        raise errors.UserError(
            f"There are no public ImageNet weights of {name!r}. There are of {', '.join(PRETRAINED)}."
        ) from None


@contextlib.contextmanager
def _one_at_a_time(path: pathlib.Path, name: str, say: Callable[[str], object]) -> Iterator[None]:
    with open(path, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Another process fetches the weights of {name}: waiting for it ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _import(name: str, entry: Pretrained, directory: pathlib.Path, say: Callable[[str], object]) -> None:
    path = _fetch_any(name, entry, directory, say)
    partial = directory / f"{name}.incomplete"
    shutil.rmtree(partial, ignore_errors=True)
    from alexnet_tf.weights import conversion  # With its libraries; a run that is there needs none of them.

    conversion.import_run(path, partial, conversion.ImportOptions(architecture=name))
    os.rename(partial, directory / name)
    path.unlink()


def _fetch_any(name: str, entry: Pretrained, directory: pathlib.Path, say: Callable[[str], object]) -> pathlib.Path:
    """Returns one of the files of an entry, whole and checked: one that lies there, or the first that can be had."""
    from alexnet_tf.weights import download  # Every command has this table's names; few need what downloads.

    for file in entry.files:
        if (path := directory / file.name).exists():
            if (found := download.digest_of(path, file.digest)) != file.digest:
                raise errors.UserError(f"{path} is another file: its hash is {found}, not {file.digest}. Remove it.")
            return path
    first, failures = entry.files[0], []
    for file in entry.files:
        for address in file.addresses:
            say(f"Downloading {address}" + (f" ({file.size / 1e6:.0f} MB)" if file.size else ""))
            try:
                return download.fetch(address, directory / file.name, file.digest, file.size)
            except download.DownloadError as error:
                failures.append(f"{address}: {error}")
                say(f"  {error}")
    raise download.DownloadError(
        f"The weights of {name} cannot be downloaded:\n  "
        + "\n  ".join(failures)
        + f"\nType the same command again to go on. Or download {first.addresses[0]} in another way "
        + (f"({first.size:,} bytes, " if first.size else "(")
        + f"{first.digest}) and put it here; then the same command needs no network:\n  {directory / first.name}"
    )


def describe(path: str | os.PathLike[str]) -> str | None:
    """Returns whose a weight file is, if its hash is one of the table's."""
    from alexnet_tf.weights import download

    for name, entry in PRETRAINED.items():
        for file in entry.files:
            path = home.expand(path)
            if path.suffix == pathlib.Path(file.name).suffix and download.digest_of(path, file.digest) == file.digest:
                return f"{file.name}: {name}'s ImageNet weights of {entry.publisher}, {entry.accuracy}"
    return None


def look(say: Callable[[str], object]) -> bool:
    """Asks every server whether it has its file, without downloading it.

    Args:
        say: Called with a line for each address.

    Returns:
        Whether each name has a server that does.
    """
    from alexnet_tf.weights import download

    is_complete = True
    for name, entry in PRETRAINED.items():
        is_there = False
        for file in entry.files:
            for address in file.addresses:
                try:
                    size = download.size_of(address)
                    is_wrong = None not in (size, file.size) and size != file.size
                    result = f"{size:,} bytes" if size else "there"
                    result += f", not {file.size:,}: another file" if is_wrong else ""
                    is_there |= not is_wrong
                except download.DownloadError as error:
                    result = str(error)
                say(f"{name:12} {address}: {result}")
        is_complete &= is_there
    return is_complete
