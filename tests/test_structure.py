"""What a program can check of the package's structure: who imports whom, file sizes, what an import costs."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

from alexnet_tf import commands

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "alexnet_tf"
SCRIPTS = [
    ROOT / "train.py",
    ROOT / "export.py",
    *(PACKAGE / "commands" / f"{name}.py" for name in commands.NAMES),
]


def test_imports_follow_the_contracts_of_pyproject():
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-cache",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_are_thin(path):
    limit = 90 if path.parent == ROOT else 130  # A command is its flags, which are data, and a library call.
    assert len(path.read_text(encoding="utf-8").splitlines()) <= limit


@pytest.mark.parametrize(
    "module",
    [
        "alexnet_tf",
        "alexnet_tf.network.architectures",
        "alexnet_tf.network.recipes",
        "alexnet_tf.commands.cli",
        "alexnet_tf.__main__",
        "alexnet_tf.network.model_summary",
        "alexnet_tf.training.configure",
        *(f"alexnet_tf.commands.{path.stem}" for path in SCRIPTS[2:]),
    ],
)
def test_import_loads_nothing_heavy(module):
    code = (
        f"import sys, {module}; print(sorted({{'tensorflow', 'keras', 'matplotlib', 'tensorflow_datasets', 'PIL'}} "
        "& set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "wing", sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py") if path.parent.name != "commands")
)
def test_each_wing_lists_its_files(wing):
    listed = [
        line.split()[0]
        for line in (PACKAGE / wing / "__init__.py").read_text().splitlines()
        if re.match(r"\w+  ", line)
    ]
    assert sorted(listed) == sorted(path.stem for path in (PACKAGE / wing).glob("[a-z]*.py"))


def test_no_test_imports_another():
    for path in (ROOT / "tests").rglob("*.py"):
        assert not re.search(r"(import|from) \S*\btest_\w+", path.read_text()), path


def test_device_names_are_in_few_modules():
    known = ("distribution", "configure", "devices", "processors", "xla", "machine_check")
    for path in PACKAGE.rglob("*.py"):
        if path.stem not in known and "commands" not in path.parts:
            text = path.read_text(encoding="utf-8")
            assert '"GPU' not in text and "/cpuinfo" not in text and "CPU:" not in text, path


# Tables of data, whose length is not a matter of design.
_TABLES = {"network.architectures"}

MODULES = sorted(path for path in PACKAGE.rglob("*.py"))


def name_of(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def functions_of(tree, prefix=""):
    """Yields (qualified name, node) of every function of a module, and of every method."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from functions_of(node, f"{prefix}{node.name}.")
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield f"{prefix}{node.name}", node


def lines_of(function):
    """Returns how many lines a function has without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def is_annotated(name, function):
    """Says whether a function has a type for each argument, but for `self`, and for what it returns."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    arguments = [*filter(None, [function.args.vararg, function.args.kwarg]), *arguments]
    is_static = any(getattr(each, "id", None) == "staticmethod" for each in function.decorator_list)
    if "." in name and not is_static:
        arguments = [each for each in arguments if each.arg not in ("self", "cls")]
    return all(each.annotation for each in arguments) and (function.returns is not None or function.name == "__init__")


def is_public(name):
    return not any(part.startswith("_") and part != "__init__" for part in name.split("."))


def test_files_and_functions_are_short():
    too_long = set()
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        if len(text.splitlines()) > 350 and name_of(path) not in _TABLES:
            too_long.add(name_of(path))
        too_long |= {f"{name_of(path)}:{name}" for name, node in functions_of(ast.parse(text)) if lines_of(node) > 50}
    assert not too_long


def test_public_functions_are_annotated():
    missing = {
        name_of(path)
        for path in MODULES
        for name, node in functions_of(ast.parse(path.read_text(encoding="utf-8")))
        if is_public(name) and not path.stem.startswith("__") and not is_annotated(name, node)
    }
    assert not missing
