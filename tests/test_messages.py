"""Every command and every flag that a message of the package names is one that the program takes, when it is pasted."""

import ast
import re

import pytest

from alexnet_tf import commands
from alexnet_tf.commands import cli, options
from tests.helpers.command_lines import START, parse
from tests.helpers.commands import ROOT

COMMANDS = commands.NAMES
TREES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "alexnet_tf").rglob("*.py"))
    if not path.stem.endswith("_pb2")
}

# Stand for a value that a message is filled with: one that is quoted for the shell, and one that is not.
QUOTED, BARE = "\1", "\2"

# Flags of other programs that messages name, and those that are no flag of a single command.
OTHERS = {
    "batching_parameters_file",
    "enable_batching",
    "flag",
    "format",
    "help",
    "helpfull",
    "helpshort",
    "ignore",
    "install",
    "logdir",
    "name",
    "no",
    "prefix",
    "query",
    "rm",
    "saved",
    "signature_def",
    "silent",
    "tag",
    "use_default",
    "version",
}


def called(node):
    """Returns the name of the function that a call calls, without its module."""
    return getattr(node.func, "attr", getattr(node.func, "id", None)) if isinstance(node, ast.Call) else None


def text_of(node):
    """Returns a string of the source, with a mark for each value that it is filled with."""
    if isinstance(node, ast.Constant):
        return re.sub(r"\{\w+\}", BARE, node.value)  # A template of `str.format`.
    return "".join(
        part.value
        if isinstance(part, ast.Constant)
        else QUOTED
        if called(part.value) in ("quote", "command_line")
        else BARE
        for part in node.values
    )


def messages(tree):
    """Yields (line, text) of every string of a module but its docstrings."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and ast.get_docstring(node)
    }
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        is_string = isinstance(node, ast.JoinedStr) or isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_string and id(node) not in docstrings | parts:
            yield node.lineno, text_of(node)


def written_commands(tree):
    """Yields (line, command, flags as they are written) of the commands that are written out in messages."""
    for line, text in messages(tree):
        for match in START.finditer(text):
            rest = re.split(r"[`);\n]|\.(?=\s|$)|\s{3,}|\s[|&>]", text[match.end() - 1 :])[0]
            yield line, match[1] or match[2], re.findall(r"(?<!\S)--\S*[^\s,:]", rest)


def made_commands(tree):
    """Yields (line, command, flags) of the calls of `shell.command_line`."""
    for node in ast.walk(tree):
        if called(node) == "command_line" and isinstance(node.args[0], ast.Constant):
            words = [each.value for each in node.args[1:] if isinstance(each, ast.Constant)]
            for keyword in node.keywords:
                if keyword.arg is not None:  # Not `**given`.
                    value = keyword.value.value if isinstance(keyword.value, ast.Constant) else QUOTED
                    words.append(
                        f"--no{keyword.arg}"
                        if value is False
                        else f"--{keyword.arg}"
                        if value is True
                        else f"--{keyword.arg}={value}"
                    )
            yield node.lineno, node.args[0].value, [word for word in words if word.startswith("--")]


def with_plausible_values(name, words):
    """Returns the flags of a command with values that they take in the place of marks and of place-holders like N."""
    if name == "COMMAND":
        return words
    defined = options.define(cli.load_command(name).Options)
    filled = []
    for word in words:
        flag, _, value = word.removeprefix("--").partition("=")
        if value and (set(value) & {QUOTED, BARE} or value.isupper()) and flag in defined:
            parser = defined[flag].parser
            lowest = getattr(parser, "lower_bound", None)
            number = "x" if parser.flag_type() in ("string", "comma separated list of strings") else lowest or 1
            value = next(iter(getattr(parser, "enum_values", [number])))
            word = f"--{flag}={value}"
        filled.append(word)
    return filled


WRITTEN = [(f"{file}:{line}", *rest) for file, tree in TREES.items() for line, *rest in written_commands(tree)]
MADE = [(f"{file}:{line}", *rest) for file, tree in TREES.items() for line, *rest in made_commands(tree)]


def test_commands_are_found():
    tree = ast.parse(
        '"""python -m alexnet_tf no"""\n'
        '(f"Type (python -m alexnet_tf prepare --data_dir={directory} " "--output_dir=OUT), or not. See --help.")\n'
        'shell.command_line("train", "IMAGE", "--help", data_dir=path, jit=True, download=False, epochs=3, **given)\n'
    )
    assert list(written_commands(tree)) == [(2, "prepare", [f"--data_dir={BARE}", "--output_dir=OUT"])]
    assert list(made_commands(tree)) == [
        (3, "train", ["--help", f"--data_dir={QUOTED}", "--jit", "--nodownload", "--epochs=3"])
    ]
    assert len(MADE) >= 20 and len(WRITTEN) >= 4 and {name for _, name, _ in WRITTEN + MADE} <= {*COMMANDS, "COMMAND"}


@pytest.mark.parametrize(("place", "name", "words"), WRITTEN + MADE, ids=lambda value: str(value)[:60])
def test_every_command_of_a_message_is_taken(place, name, words):
    parse(name, with_plausible_values(name, words))


@pytest.mark.parametrize(("place", "name", "words"), WRITTEN, ids=lambda value: str(value)[:60])
def test_a_value_in_a_command_is_quoted(place, name, words):
    """What is written out holds no value that a shell would take apart: `shell.command_line` quotes."""
    assert BARE not in "".join(words)


def test_every_flag_that_a_message_names_is_one_of_a_command():
    known = set()
    for name in COMMANDS:
        defined = options.define(cli.load_command(name).Options)
        for flag in defined:
            known |= {flag, f"no{flag}"} if defined[flag].boolean else {flag}
    named = {
        (file, flag)
        for file, tree in TREES.items()
        for _, text in messages(tree)
        for flag in re.findall(r"(?<![\w-])--([a-z]\w*)", text)
    }
    assert {(file, flag) for file, flag in named if flag not in known | OTHERS} == set()
    assert len(named) > 80
