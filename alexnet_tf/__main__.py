"""The door to everything but training and export: python -m alexnet_tf COMMAND."""

import ast
import importlib
import pathlib
import pkgutil
import sys

from alexnet_tf import commands


def _describe(name: str) -> str:
    """Returns the first line of a command's docstring, without importing it."""
    source = pathlib.Path(commands.__path__[0], f"{name}.py").read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(source)).split("\n")[0]


def main(argv: list[str]) -> int:
    """Finds the command and runs it with the rest of the arguments."""
    names = [module.name for module in pkgutil.iter_modules(commands.__path__)]
    if argv[1:2] and argv[1] in names:
        sys.argv = [f"{argv[0]} {argv[1]}", *argv[2:]]
        importlib.import_module(f"alexnet_tf.commands.{argv[1]}").run()
        return 0
    if argv[1:2] and argv[1] not in ("help", "--help", "-h"):
        print(f"There is no command {argv[1]!r}.\n", file=sys.stderr)
    width = max(map(len, names))
    print("Usage: python -m alexnet_tf COMMAND [--help] ...\n")
    print("\n".join(f"  {name:{width}}  {_describe(name)}" for name in names))
    print("\nTo train: python train.py --help; to export: python export.py --help")
    return 0 if len(argv) == 1 or argv[1] in ("help", "--help", "-h") else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv))
