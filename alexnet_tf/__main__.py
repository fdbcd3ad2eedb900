"""Every command in one place: python -m alexnet_tf COMMAND, or alexnet-tf COMMAND where the package is installed."""

import ast
import difflib
import pathlib
import sys
from collections.abc import Sequence

import alexnet_tf
from alexnet_tf import commands
from alexnet_tf.commands import cli


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that the first argument names, or lists all commands.

    Args:
        arguments: As typed; those of this process by default.

    Returns:
        The exit status: the command's, 0 after the list, and 2 where there is no such command.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    name = arguments[0] if arguments else "--help"
    if name in commands.NAMES:
        return cli.run_command(name, arguments[1:])
    return cli.report_mistakes(lambda: _show(name))


def _show(name: str) -> int:
    if name == "--version":
        print(f"alexnet_tf {alexnet_tf.__version__}")
    elif name in ("help", "--help", "-h"):
        width = max(map(len, commands.NAMES))
        print("Usage: python -m alexnet_tf COMMAND [--flag=value] ...\n")
        print("\n".join(f"  {each:{width}}  {_describe(each)}" for each in commands.NAMES))
        print("\nStart with: python -m alexnet_tf train\nExamples and flags: python -m alexnet_tf train --help")
    else:
        close = difflib.get_close_matches(name, commands.NAMES, 1)
        hint = f" Did you mean {close[0]}?" if close else ""
        print(
            f"\nError: There is no command {name!r}.{hint}\nAll commands: python -m alexnet_tf --help", file=sys.stderr
        )
        return 2
    return 0


def _describe(name: str) -> str:
    """Returns the first line of a command's docstring, without importing it."""
    source = pathlib.Path(commands.__path__[0], f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").split("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
