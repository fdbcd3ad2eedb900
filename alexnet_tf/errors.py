"""Mistakes that a user can correct: scripts print the message as one line, without a stack trace."""


class UserError(ValueError):
    """A mistake that the user can correct; the message says what was received, what was expected and how to fix it."""


class DataError(UserError):
    """The data directory does not hold what is needed; the message says what was looked for and what to type."""


class RunError(UserError):
    """The run's directory cannot be used; the message says why and what to do."""


# Schemes of storage that the operating system does not open, and what makes a folder of it.
_REMOTE = {
    "gs": "gcsfuse BUCKET FOLDER",
    "s3": "mount-s3 BUCKET FOLDER (Mountpoint for Amazon S3)",
    "s3a": "mount-s3 BUCKET FOLDER",
    "hdfs": "an NFS gateway or hadoop-fuse-dfs",
    "az": "blobfuse2 mount FOLDER",
    "abfs": "blobfuse2 mount FOLDER",
    "wasb": "blobfuse2 mount FOLDER",
    "http": "a download",
    "https": "a download",
    "ftp": "a download",
}


def check_local_path(path: object, what: str) -> None:
    """Refuses a path in a storage that must be mounted first: as a path it would be a folder called `gs:`.

    Args:
        path: A path that was given; None is none.
        what: What stands before it in the message, such as "--data_dir=".

    Raises:
        UserError: If it begins with `gs://`, `s3://`, `hdfs://` or the like.
    """
    scheme, separator, rest = str(path).partition(":/")
    if path is not None and separator and scheme.lower() in _REMOTE:
        raise UserError(
            f"{what}{path}: {scheme}:// is not read directly. Make it a local folder first, with "
            f"{_REMOTE[scheme.lower()]}, and give that folder.")
