"""How large a file of an image may be: a larger one is refused before it is read. Set by the flag --max_image_mb."""

import errno

# A larger file is no photograph. One MB is a million bytes.
DEFAULT_MB = 256

# TensorFlow's decoders count bytes in 32 bits.
LARGEST_MB = 2147

_max_mb = DEFAULT_MB


def set_max_mb(megabytes: int) -> None:
    """Sets the limit of this process, in millions of bytes; processes that it starts have their own."""
    global _max_mb
    _max_mb = megabytes


def check(size: int, path: str) -> None:
    """Refuses a file that is too large.

    Args:
        size: Its bytes.
        path: Where it is, for the error.

    Raises:
        OSError: Names the flag and a value with which the file is read, where there is one.
    """
    limit, needed = 1_000_000 * _max_mb, -(-size // 1_000_000)
    if size > limit:
        advice = (
            f"; --max_image_mb={needed} reads it"
            if needed <= LARGEST_MB
            else f", and with --max_image_mb up to {LARGEST_MB:,} MB"
        )
        raise OSError(errno.EFBIG, f"the file has {size:,} bytes; at most {limit:,} are read{advice}", path)
