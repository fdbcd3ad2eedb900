"""Downloads a file of known content: goes on where an earlier download stopped, and checks it before it gets its name.

`requests` does the transfer: it has a time limit for each read, streams, and heeds HTTPS_PROXY and NO_PROXY.
`keras.utils.get_file` has no time limit, and neither it nor `pooch` goes on with half a file.
"""

import errno
import hashlib
import os
import pathlib
import shutil

import requests
import tqdm

from alexnet_tf.support import errors

# A server may take this long to answer, and for each read.
SECONDS = 30

# How much of a file's size must be free: it is there itself, and soon what is made of it.
_SPACE = 2.1


class DownloadError(errors.UserError):
    """A file cannot be downloaded; the message says why."""


def digest_of(path: pathlib.Path, like: str) -> str:
    """Returns the digest of a file, such as "sha256:6b0d...", of the kind that another digest is of."""
    kind = like.partition(":")[0]
    with open(path, "rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"


def fetch(address: str, path: pathlib.Path, digest: str, size: int | None = None) -> pathlib.Path:
    """Downloads a file.

    Args:
        address: Where it is.
        path: Where it shall be; what has come so far lies beside it, with the ending .part.
        digest: Of the whole file, "sha256:" or "sha1:" and the hash in hexadecimal.
        size: In bytes, where it is known.

    Returns:
        The path.

    Raises:
        DownloadError: If it cannot be downloaded, or another file comes, which is removed.
        OSError: If it cannot be written.
    """
    partial = path.with_name(f"{path.name}.part")
    there = partial.stat().st_size if partial.exists() else 0
    if size is None or there < size:
        try:
            with _request("GET", address, stream=True, headers={"Range": f"bytes={there}-"} if there else {}) as answer:
                if answer.status_code != 416:  # Otherwise everything is there.
                    _write(answer, partial, there if answer.status_code == 206 else 0, size)
        except requests.RequestException as error:
            raise DownloadError(_reason(error)) from error
    if (found := digest_of(partial, digest)) != digest:
        partial.unlink()
        raise DownloadError(f"another file came: its hash is {found}, not {digest}. It was removed")
    with open(partial, "rb") as whole:
        os.fsync(whole.fileno())
    return partial.replace(path)


def size_of(address: str) -> int | None:
    """Returns how many bytes a server has at an address; None if it does not say.

    Raises:
        DownloadError: If it cannot be reached, or has nothing there.
    """
    try:
        with _request("HEAD", address, allow_redirects=True) as answer:
            return int(answer.headers["Content-Length"]) if "Content-Length" in answer.headers else None
    except requests.RequestException as error:
        raise DownloadError(_reason(error)) from error


def _request(method: str, address: str, headers: dict[str, str] | None = None, **options) -> requests.Response:
    certificates = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or True
    headers = {"Accept-Encoding": "identity"} | (headers or {})
    answer = requests.request(method, address, headers=headers, timeout=SECONDS, verify=certificates, **options)
    if answer.status_code != 416:
        answer.raise_for_status()
    return answer


def _write(answer: requests.Response, partial: pathlib.Path, there: int, size: int | None) -> None:
    """Writes what comes behind the bytes that are there."""
    total = there + int(answer.headers["Content-Length"]) if "Content-Length" in answer.headers else size
    if size is not None and total != size:
        page = ", a web page, such as a proxy's login" if "html" in answer.headers.get("Content-Type", "") else ""
        raise DownloadError(f"another file would come: it has {total:,} bytes{page}, not {size:,}")
    if total and shutil.disk_usage(partial.parent).free < _SPACE * total - there:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(partial.parent))
    with (
        open(partial, "ab" if there else "wb") as output,
        tqdm.tqdm(total=total, initial=there, unit="B", unit_scale=True, disable=None, desc=partial.stem) as bar,
    ):
        for block in answer.iter_content(1 << 16):
            output.write(block)
            bar.update(len(block))
    if total and partial.stat().st_size != total:
        raise DownloadError(f"the connection broke after {partial.stat().st_size:,} of {total:,} bytes")


def _reason(error: requests.RequestException) -> str:
    """Returns what went wrong: the innermost of the exceptions, whose texts hold each other."""
    cause = str(getattr(error.args[0] if error.args else None, "reason", error)).split(": ", 1)[-1]
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return f"the server sent nothing for {SECONDS} seconds"
    if isinstance(error, requests.exceptions.ProxyError):
        return f"the proxy (HTTP_PROXY, HTTPS_PROXY) cannot be used: {cause}"
    if isinstance(error, requests.exceptions.SSLError):
        return f"the certificate is not trusted: {cause}; SSL_CERT_FILE names those to trust"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke"
    return f"no connection: {cause}"
