"""Mistakes that a user can correct: scripts print the message as one line, without a stack trace."""

import re


class UserError(ValueError):
    """A mistake that the user can correct; the message says what was received, what was expected and how to fix it."""


class DataError(UserError):
    """The data directory does not hold what is needed; the message says what was looked for and what to type."""


class RunError(UserError):
    """The run's directory cannot be used; the message says why and what to do."""


# Schemes of storage that the operating system does not open, and how to make it a folder or files.
_REMOTE = {
    "gs": "Mount it with gcsfuse (gcsfuse BUCKET FOLDER) and give the folder",
    "s3": "Mount it with Mountpoint for Amazon S3 (mount-s3 BUCKET FOLDER) and give the folder",
    "hdfs": "Mount it with HDFS' NFS gateway and give the folder",
    "az": "Mount it with BlobFuse (blobfuse2 mount FOLDER) and give the folder",
    "http": "Download it and give the file",
    "file": "Give the path alone, without file://",
}

# Other names of the same.
_REMOTE |= {
    "s3a": _REMOTE["s3"],
    "s3n": _REMOTE["s3"],
    "abfs": _REMOTE["az"],
    "abfss": _REMOTE["az"],
    "wasb": _REMOTE["az"],
    "wasbs": _REMOTE["az"],
    "https": _REMOTE["http"],
    "ftp": _REMOTE["http"],
}

# A path may have lost the second slash; of schemes that are not known it is taken for the name of a folder.
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):(//?)", re.IGNORECASE)


def check_local_path(path: object, what: str) -> None:
    """Refuses a path in remote storage, which would otherwise become a local folder called `gs:`.

    Args:
        path: A path that was given; None is none.
        what: What stands before it in the message, such as "--data_dir=".

    Raises:
        UserError: If it begins with `gs://`, `s3://`, `hdfs://` or the like.
    """
    match = _SCHEME.match(str(path))
    if match and (match[2] == "//" or match[1].lower() in _REMOTE):
        advice = _REMOTE.get(match[1].lower(), "Mount it or copy it, and give the folder or file")
        raise UserError(f"{what}{path}: {match[1]}:// is not read or written directly. {advice}.")
