"""Printed commands, read back as a shell reads them."""

import pathlib
import shlex
import subprocess

import pytest

from alexnet_tf.support import shell

ROOT = pathlib.Path(__file__).parents[2]


def test_command_line_is_read_by_a_shell_as_it_was_meant():
    path = "runs/paper-my photos (1) $HOME 'x' \"y\" ; ls"
    line = shell.command_line("evaluate", path, "IMAGE...", workdir=path, data_dir=None, json=True, jit=False)
    assert shlex.split(line) == [
        "python",
        "-m",
        "alexnet_tf",
        "evaluate",
        f"--workdir={path}",
        "--json",
        "--nojit",
        path,
        "IMAGE...",
    ]
    output = subprocess.run(
        ["sh", "-c", line.replace("python", "printf '%s\\n'", 1)], capture_output=True, text=True, check=True
    )
    assert output.stdout.splitlines()[3] == f"--workdir={path}"


def test_command_line_quotes_only_what_needs_it():
    assert shell.command_line("predict", "IMAGE...", workdir="runs/paper-demo").endswith(
        " predict --workdir=runs/paper-demo IMAGE..."
    )


@pytest.mark.parametrize("name", ["train", "export"])
def test_command_line_names_the_scripts_only_where_they_are(name, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    assert shell.command_line(name, data_dir="DIR") == f"python {name}.py --data_dir=DIR"
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{name}.py").write_text("")
    assert shell.command_line(name, data_dir="DIR") == f"python -m alexnet_tf {name} --data_dir=DIR"


@pytest.mark.parametrize(
    ("number", "noun", "expected"),
    [
        (1, "epoch", "1 epoch"),
        (2, "epoch", "2 epochs"),
        (0, "crop", "0 crops"),
        (3, "batch", "3 batches"),
        (2000, "class", "2,000 classes"),
    ],
)
def test_count_has_the_noun_in_its_number(number, noun, expected):
    assert shell.count(number, noun) == expected
