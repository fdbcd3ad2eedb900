"""Mistakes that a user can correct: scripts print the message as one line, without a stack trace."""


class UserError(ValueError):
    """A mistake that the user can correct; the message says what was received, what was expected and how to fix it."""


class DataError(UserError):
    """The data directory does not hold what is needed; the message says what was looked for and what to type."""


class RunError(UserError):
    """The run's directory cannot be used; the message says why and what to do."""
