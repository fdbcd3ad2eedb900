"""Every command in the documents is one that the program takes, every file and section that they link to is there."""

import pathlib
import re
import shlex

import pytest

from alexnet_tf import cli

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("alexnet_tf/**/README.md")), *sorted(ROOT.glob(".github/*.md"))]

# A command begins with these words, perhaps after variables of the environment or a shell's prompt.
_START = re.compile(r"(?:^|\s)python (?:(train|export)\.py|-m alexnet_tf (\w+))(?=\s|$)")


def code_lines(text):
    """Returns the lines of code blocks, fenced or indented, with continued lines joined."""
    lines, is_fenced = [], False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            is_fenced = not is_fenced
        elif is_fenced or line.startswith("    "):
            lines.append(line.strip())
    return "\n".join(lines).replace("\\\n", " ").splitlines()


def commands(text):
    """Returns [(command, its arguments)]; explanations after three spaces, and what follows a pipe, are left out."""
    found = []
    for line in code_lines(text):
        match = _START.search(line)
        if not match:
            continue
        rest = re.split(r"\s{3,}|\s[|&;>]|\s#", line[match.end():])[0]
        words = shlex.split(rest.replace("[", " ").replace("]", " "))
        found.append((match[1] or match[2], [re.sub(r"\|.*", "", word) for word in words]))
    return found


ALL = [(path.relative_to(ROOT).as_posix(), name, arguments)
       for path in DOCUMENTS for name, arguments in commands(path.read_text(encoding="utf-8"))]


def test_commands_are_found():
    text = ("    $ X=1 python train.py --data_dir=DIR \\\n        --epochs=3   what it does\n\n"
            "text python train.py --no\n")
    assert commands(text) == [("train", ["--data_dir=DIR", "--epochs=3"])]
    assert {"train", "export", "evaluate", "predict", "prepare"} <= {name for _, name, _ in ALL}


@pytest.mark.parametrize(
    ("document", "name", "arguments"), ALL, ids=lambda value: value if isinstance(value, str) else "")
def test_commands_are_taken(document, name, arguments):
    """As far as flags are parsed; a place-holder such as COUNT cannot stand for a number."""
    if name in ("COMMAND", "NAME"):
        return
    cli.parse_command(name, [word for word in arguments if word not in ("...", "--help")])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", text):
        target = target[0] or target[1]
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, section = target.partition("#")
        linked = (path.parent / file) if file else path
        assert linked.exists(), target
        if section and linked.suffix == ".md":
            titles = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), flags=re.M)
            assert section in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, target


FAULTS = re.findall(r"`([^`]+)`:\n\n```diff\n(.*?)```", (ROOT / "tests/mutations.md").read_text(), re.DOTALL)


@pytest.mark.parametrize(("name", "edit"), FAULTS, ids=[str(number) for number, _ in enumerate(FAULTS, 1)])
def test_a_planted_fault_can_still_be_planted(name, edit):
    before = "\n".join(line[1:] for line in edit.splitlines() if line[0] in "- ")
    assert (ROOT / name).read_text().count(before) == 1, before


CATCHING = re.findall(r"^Fails: `(.*?)`", (ROOT / "tests/mutations.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("test", CATCHING)
def test_the_test_that_catches_a_fault_is_there(test):
    path, _, name = test.partition("::")
    assert f"def {name.partition('[')[0]}(" in (ROOT / path).read_text(), test
