"""Options as dataclasses: a field made by `setting` is an argument, the flag of a command, its help and its check.

A new option is one field. Commands define their flags from the fields (`commands.options.define`); the library calls
`check` where it receives the dataclass, so that Python and the command line refuse the same values.
"""

import dataclasses
import math
import typing
from collections.abc import Collection
from typing import Any

from alexnet_tf.support import errors

REQUIRED = dataclasses.MISSING


def setting(
    default: Any,
    help: str,
    *,
    choices: Collection[str] | None = None,
    lower: float | None = None,
    upper: float | None = None,
    path: str | None = None,
) -> Any:
    """Returns a dataclass field that is also a flag.

    Args:
        default: Its default; None leaves the choice to the function that takes it. `REQUIRED` has none.
        help: What it does, with its unit: a sentence of `--help`. Without one the field is checked, but is not a flag.
        choices: The values that it may take; of a tuple, the values of its entries.
        lower: Smallest value of a number.
        upper: Largest value of a number.
        path: "directory" or "file": on the command line it must exist.
    """
    metadata = {"help": help, "choices": choices, "lower": lower, "upper": upper, "path": path}
    return dataclasses.field(default=default, metadata=metadata)


def kind_of(options: type, name: str) -> type:
    """Returns the plain type of a field: bool, int, float, str or tuple; `X | None` counts as X."""
    hint = typing.get_type_hints(options)[name]
    kinds = [each for each in typing.get_args(hint) if each is not type(None)]
    if typing.get_origin(hint) not in (None, tuple, dict) and kinds:
        hint = kinds[0]
    return typing.get_origin(hint) or hint


def check(options: Any, prefix: str = "") -> None:
    """Checks the fields of an options dataclass that were made by `setting`, and those of the dataclasses inside.

    Args:
        options: The dataclass.
        prefix: What stands before a field's name in a message: "--" where a person typed it.

    Raises:
        UserError: Names the field, its value and what it may be.
    """
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            check(value, prefix)
        if "choices" in field.metadata:
            check_value(field, value, prefix)


def check_value(field: dataclasses.Field, value: Any, prefix: str = "") -> None:
    """Checks a value of a field that was made by `setting`; None is always accepted.

    Raises:
        UserError: As `check`.
    """
    name = prefix + field.name
    choices, lower, upper = (field.metadata[each] for each in ("choices", "lower", "upper"))
    if value is None:
        return
    for each in value if isinstance(value, tuple) else (value,):
        if choices is not None and each not in choices:
            raise errors.UserError(f"{name} must be one of {', '.join(choices)}; got {each!r}.")
    if lower is None and upper is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise errors.UserError(f"{name} must be a finite number; got {value!r}.")
    if (lower is not None and value < lower) or (upper is not None and value > upper):
        limits = [f"at {kind} {limit:g}" for kind, limit in (("least", lower), ("most", upper)) if limit is not None]
        raise errors.UserError(f"{name} must be {' and '.join(limits)}; got {value!r}.")
