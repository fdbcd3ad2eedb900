"""Every command in the documents is one that the program takes, every file and section that they link to is there."""

import re
import subprocess

import pytest

from tests.helpers.command_lines import DOCUMENTS, ROOT, code_lines, commands, parse

ALL = [
    (path.relative_to(ROOT).as_posix(), name, arguments)
    for path in DOCUMENTS
    for name, arguments in commands(path.read_text(encoding="utf-8"))
]

IS_COMMAND = re.compile(r"(\w+=\S+ )*(python3?|pip|git|docker|srun|npm|curl|tensorboard) ")


def test_commands_are_found():
    text = "    $ X=1 python train.py --data_dir=DIR \\\n        --epochs=3   # says it\n\ntext python train.py --no\n"
    assert commands(text) == [("train", ["--data_dir=DIR", "--epochs=3"])]
    assert {"train", "export", "evaluate", "predict", "prepare"} <= {name for _, name, _ in ALL}


@pytest.mark.parametrize(
    ("document", "name", "arguments"), ALL, ids=lambda value: value if isinstance(value, str) else ""
)
def test_commands_are_taken(document, name, arguments):
    parse(name, arguments)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_can_be_pasted(path):
    lines = [line for line in code_lines(path.read_text(encoding="utf-8")) if IS_COMMAND.match(line)]
    assert not [line for line in lines if re.search(r"\S {3,}[^#\s]", line)], "an explanation is a # comment"
    pasted = subprocess.run(["bash", "-n"], input="\n".join(lines), text=True, capture_output=True)
    assert not pasted.returncode and not pasted.stderr, pasted.stderr


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


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_of_code_that_are_named_exist(path):
    for name in re.findall(r"`([\w./]+/\w+\.py)[`:]", path.read_text(encoding="utf-8")):
        assert any((root / name).exists() for root in (ROOT, ROOT / "alexnet_tf", path.parent)), name


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
