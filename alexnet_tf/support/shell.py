"""Text for a terminal: commands that work when they are pasted, names without control characters, counts."""

import pathlib
import shlex
import unicodedata

_CHECKOUT = pathlib.Path(__file__).parents[2]


def command_line(command: str, *arguments: object, **flags: object) -> str:
    """Returns the line that runs a command, with its values quoted where a shell needs it.

    Args:
        command: "train", "export", "evaluate", ...
        *arguments: What follows the flags, such as names of files; "IMAGE..." and "..." stay as they are.
        **flags: Values by flag. None leaves a flag out; True and False become `--name` and `--noname`.

    Returns:
        `python train.py ...` and `python export.py ...` in a checkout, else `python -m alexnet_tf COMMAND ...`.
    """
    script = _CHECKOUT / f"{command}.py"
    is_here = pathlib.Path.cwd() == _CHECKOUT and script.is_file()
    words = [f"python {script.name}" if is_here else f"python -m alexnet_tf {command}"]
    for name, value in flags.items():
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no{name}")
        elif value is not None:
            words.append(f"--{name}={shlex.quote(str(value))}")
    return " ".join([*words, *(shlex.quote(str(each)) for each in arguments)])


def count(number: int, noun: str) -> str:
    """Returns a number with its noun: "1 epoch", "2,000 images", "3 batches"."""
    ending = "" if number == 1 else "es" if noun.endswith(("s", "tch")) else "s"
    return f"{number:,} {noun}{ending}"


# What a terminal obeys or reorders instead of showing: control characters, surrogates, separators, bidirectional marks.
_UNSAFE_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}

_BIDIRECTIONAL = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}


def printable(text: str, keep: str = "\n\t") -> str:
    """Returns a text that a terminal or a plot can show: control characters and bytes that are not Unicode are escaped.

    Args:
        text: Any text, such as one with a file's name in it.
        keep: Control characters that stay.
    """
    return "".join(
        character.encode("unicode_escape").decode() if _is_unsafe(character) and character not in keep else character
        for character in text
    )


def _is_unsafe(character: str) -> bool:
    return unicodedata.category(character) in _UNSAFE_CATEGORIES or character in _BIDIRECTIONAL
