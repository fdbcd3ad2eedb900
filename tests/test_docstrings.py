"""That names in backticks exist: `module.name` and constants anywhere, other modules in a module's own docstring."""

import ast
import importlib.util
import io
import pathlib
import re
import tokenize

import pytest

import alexnet_tf

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "alexnet_tf"
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if not path.stem.endswith("_pb2")]

ALIASES = {"tf": "tensorflow", "np": "numpy"}
ENDINGS = ("py", "md", "csv", "json", "npz", "npy", "txt", "h5", "onnx", "tflite")


def names_in(tree):
    """Returns every name of a module's code: functions, classes, variables, attributes and imports."""
    found = set()
    for node in ast.walk(tree):
        for field in ("name", "id", "attr", "arg"):
            found.add(getattr(node, field, None))
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {each.asname or each.name for each in node.names}
    return found - {None}


def definitions(tree):
    """Returns what a module defines or imports at its top."""
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            yield node.name
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            yield from (each.id for each in ast.walk(node) if isinstance(each, ast.Name))
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (each.asname or each.name for each in node.names)


TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
MODULES = {path.stem: set() for path in FILES}
for path in FILES:
    MODULES[path.stem] |= {*definitions(TREES[path])}
WINGS = {path.name for path in PACKAGE.iterdir() if path.is_dir()}


def texts_of(source):
    """Yields the docstrings of a module, its own first, and its comments."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield ast.get_docstring(node) or ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def stale_names(source, names):
    """Returns the references of a module that lead nowhere.

    Args:
        source: Its text.
        names: Names of its own code.
    """
    stale, known, constants = [], {*MODULES, *WINGS, *alexnet_tf.__all__, *names}, names.union(*MODULES.values())
    arguments = {node.arg for node in ast.walk(ast.parse(source)) if isinstance(node, ast.arg)}
    module_docstring, *texts = texts_of(source)
    for text in (module_docstring, *texts):
        for reference in re.findall(r"`([a-z_]\w*(?:\.\w+)+)`|^ *([a-z_]+\.[A-Z]\w+): ", text, re.M):
            reference = "".join(reference)  # In backticks, or what a function raises.
            parts = reference.removeprefix("alexnet_tf.").split(".")
            parts = parts[1:] if parts[0] in WINGS and len(parts) > 1 else parts
            if parts[-1] in ENDINGS or parts[0] in arguments:
                continue
            if parts[0] in MODULES and parts[1:]:
                is_there = parts[1] in MODULES[parts[0]]
            else:
                is_there = parts[0] in known or importlib.util.find_spec(ALIASES.get(parts[0], parts[0])) is not None
            stale += [] if is_there else [reference]
        stale += [each for each in re.findall(r"`([A-Z][A-Z_0-9]+)`", text) if each not in constants]
    return stale + [each for each in re.findall(r"\bin `([a-z]\w+)`", module_docstring) if each not in known]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_names_in_docstrings_and_comments_exist(path):
    assert stale_names(path.read_text(encoding="utf-8"), names_in(TREES[path])) == []


def test_a_test_names_the_module_that_it_tests():
    for path in (ROOT / "tests").rglob("test_*.py"):
        for name in re.findall(r'^"""Tests of `(\w+)`', path.read_text(encoding="utf-8")):
            assert name in {*MODULES, *WINGS}, path


@pytest.mark.parametrize(
    "text",
    [
        "As for `datasets.find`.",
        "It lives in `datasets.Nothing`.",
        "From `LARGE` on.",
        "How it is read in `recordings`.",
        "`optimization.rates`",
        "`input_pipeline.DataError`",
    ],
)
def test_a_stale_name_is_found(text):
    assert len(stale_names(f'"""{text}"""\n', set())) == 1
