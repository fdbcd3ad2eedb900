"""Options as dataclasses: a field made by `setting` is an argument, the flag of a command, its help and its check.

A new option is one field. Commands define their flags from the fields (`commands.cli.define`); the library calls
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
) -> Any:
    """Returns a dataclass field that is also a flag.

    Args:
        default: Its default; None leaves the choice to the function that takes it. `REQUIRED` has none.
        help: What it does, with its unit: a sentence of `--help`.
        choices: The values that it may take; of a tuple, the values of its entries.
        lower: Smallest value of a number.
        upper: Largest value of a number.
    """
    metadata = {"help": help, "choices": choices, "lower": lower, "upper": upper}
    return dataclasses.field(default=default, metadata=metadata)


def kind_of(options: type, name: str) -> type:
    """Returns the plain type of a field: bool, int, float, str or tuple; `X | None` counts as X."""
    hint = typing.get_type_hints(options)[name]
    kinds = [each for each in typing.get_args(hint) if each is not type(None)]
    if typing.get_origin(hint) not in (None, tuple, dict) and kinds:
        hint = kinds[0]
    return typing.get_origin(hint) or hint


def check(options: Any) -> None:
    """Checks the fields of an options dataclass that were made by `setting`, and those of the dataclasses inside.

    Raises:
        UserError: Names the field, its value and what it may be.
    """
    for field in dataclasses.fields(options):
        value, limits = getattr(options, field.name), field.metadata
        if dataclasses.is_dataclass(value):
            check(value)
        if value is None or "help" not in limits:
            continue
        for each in value if isinstance(value, tuple) else (value,):
            if limits["choices"] is not None and each not in limits["choices"]:
                raise errors.UserError(f"{field.name} must be one of {', '.join(limits['choices'])}; got {each!r}.")
        lower, upper = limits["lower"], limits["upper"]
        if lower is None and upper is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise errors.UserError(f"{field.name} must be a finite number; got {value!r}.")
        if (lower is not None and value < lower) or (upper is not None and value > upper):
            limit = " and ".join(
                [f"at least {lower:g}"] * (lower is not None) + [f"at most {upper:g}"] * (upper is not None)
            )
            raise errors.UserError(f"{field.name} must be {limit}; got {value!r}.")
