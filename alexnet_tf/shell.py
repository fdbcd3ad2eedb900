"""Commands of this package as lines that work when they are pasted into a shell. Standard library only."""

import pathlib
import shlex

_CHECKOUT = pathlib.Path(__file__).parents[1]


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
