"""The user's folders: what `~` means, and where this package keeps what it downloads or generates."""

import os
import pathlib

from alexnet_tf.support import errors


def expand(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns a path with the user's home directory in place of `~`.

    Raises:
        UserError: If it begins with `~` and there is no such directory.
    """
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError as error:
        raise errors.UserError(
            f"{os.fspath(path)}: this user has no home directory. Set HOME, or give the whole path."
        ) from error


def cache() -> pathlib.Path:
    """Returns the directory of what can be downloaded or generated again.

    It is $ALEXNET_TF_HOME, or alexnet_tf in $XDG_CACHE_HOME, or ~/.cache/alexnet_tf.

    Raises:
        UserError: If none of them is known.
    """
    if own := os.environ.get("ALEXNET_TF_HOME"):
        return expand(own)
    if general := os.environ.get("XDG_CACHE_HOME"):
        return expand(general) / "alexnet_tf"
    try:
        return pathlib.Path.home() / ".cache" / "alexnet_tf"
    except RuntimeError as error:
        raise errors.UserError(
            "This user has no home directory to keep files in. Set ALEXNET_TF_HOME (or HOME, or XDG_CACHE_HOME) to a "
            "directory that can be written; images of your own need none: --data_dir=DIR."
        ) from error
