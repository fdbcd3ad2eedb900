"""Tables of what can be chosen by name: each entry names the module that does the work, which is imported when used."""

import dataclasses
import importlib
import types
from collections.abc import Mapping

from alexnet_tf.support import errors


@dataclasses.dataclass(frozen=True)
class Entry:
    """What a name stands for. A wing may derive a class with further fields.

    Attributes:
        module: Full name of the module.
        purpose: What it is for: a phrase of `--help`.
    """

    module: str
    purpose: str

    def load(self) -> types.ModuleType:
        """Imports the module."""
        return importlib.import_module(self.module)


def load(table: Mapping[str, Entry], name: str, what: str) -> types.ModuleType:
    """Imports the module of an entry.

    Args:
        table: Entries by name.
        name: Which of them.
        what: What the names are, for the error, such as "format".

    Raises:
        UserError: If there is no such entry; lists those that there are.
    """
    if name not in table:
        raise errors.UserError(f"{what} must be one of {', '.join(table)}; got {name!r}.")
    return table[name].load()


def purposes(table: Mapping[str, Entry]) -> str:
    """Returns the entries as a phrase of `--help`."""
    return "; ".join(f"{name}: {entry.purpose}" for name, entry in table.items())
