"""What `--help` of every command shows: examples that the program takes, and the next command."""

import ast
import dataclasses
import io
import re
import shlex
import subprocess
import sys
import types

import pytest

import alexnet_tf
from alexnet_tf import commands
from alexnet_tf.commands import cli
from tests.helpers.commands import ROOT

NAMES = commands.NAMES


def help_of(name):
    return ast.get_docstring(ast.parse((ROOT / "alexnet_tf" / "commands" / f"{name}.py").read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_an_example_of_the_command_itself(name):
    assert re.search(rf"^    python -m alexnet_tf {name}\b", help_of(name), re.M)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_line_in_the_help_is_taken(name):
    lines = re.findall(r"python -m alexnet_tf (\w+)([^\n]*?)(?:\s{3,}|\s\||: asks|[;)]|$)", help_of(name), re.M)
    assert lines
    for command, rest in lines:
        words = shlex.split(re.sub(r"[\[\]]|\.$", "", rest.split(" asks it")[0]))
        cli.parse_command(command, words)


@pytest.mark.parametrize("name", NAMES)
def test_help_names_the_next_command(name):
    following = help_of(name).partition("Next:")[2]
    named = re.search(r"python -m alexnet_tf (\w+)", following)
    assert named and named[1] in NAMES


def test_train_takes_a_list_of_augmentations():
    assert cli.parse_command("train", []).recipe == {}
    assert cli.parse_command("train", ["--augmentations=mirror"]).recipe == {"augmentations": ("mirror",)}
    assert cli.parse_command("train", ["--augmentations="]).recipe == {"augmentations": ()}
    assert cli.parse_command("train", ["--augmentations=mirror,a:b=2"]).recipe == {"augmentations": ("mirror", "a:b=2")}


def test_every_command_says_its_version(capsys):
    assert cli.run_command("train", ["--version"]) == 0
    assert capsys.readouterr().out == f"alexnet_tf {alexnet_tf.__version__}\n"


@pytest.mark.parametrize("name", ["train", "inspect", "check", "benchmark", "import_weights"])
def test_an_architecture_is_known_in_upper_and_lower_case(name):
    needed = ["--source=a", "--workdir=b"] if name == "import_weights" else []
    values = dataclasses.asdict(cli.parse_command(name, ["--architecture=Paper", *needed]))
    assert (values | values.get("train", {}))["architecture"] == "paper"


def test_help_into_a_closed_pipe_ends_quietly():
    command = f"{sys.executable} -m alexnet_tf train --help | head -1"
    result = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert result.stdout.startswith("Trains AlexNet") and result.stderr == ""


def test_streams_of_a_notebook_have_no_reconfigure(monkeypatch):
    stream = io.StringIO()
    assert not hasattr(stream, "reconfigure")
    monkeypatch.setattr(sys, "stdout", stream)
    assert cli.report_mistakes(lambda: print("trained")) == 0
    assert stream.getvalue() == "trained\n"


def test_windows_is_told_of_wsl2(monkeypatch, capsys):
    monkeypatch.setattr(cli, "os", types.SimpleNamespace(name="nt"))
    assert cli.report_mistakes(lambda: 0) == 1
    assert "install and run it inside WSL2: wsl --install" in capsys.readouterr().err
