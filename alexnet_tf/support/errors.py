"""Mistakes that a user can correct: scripts print the message as one line, without a stack trace."""


class UserError(ValueError):
    """A mistake that the user can correct; the message says what was received, what was expected and how to fix it."""


class DataError(UserError):
    """The data directory does not hold what is needed; the message says what was looked for and what to type."""


class RunError(UserError):
    """The run's directory cannot be used; the message says why and what to do."""


def check_local_path(path: object, what: str) -> None:
    """Refuses a path in remote storage, which would otherwise become a local folder called `gs:`.

    Args:
        path: A path that was given; None is none.
        what: What stands before it in the message, such as "--data_dir=".

    Raises:
        UserError: If it begins with `gs://`, `s3://`, `https://` or the like.
    """
    scheme, separator, _ = str(path).partition("://")
    if separator:
        raise UserError(
            f"{what}{path}: {scheme}:// is not read or written directly. Mount or copy it, and give the local path."
        )
