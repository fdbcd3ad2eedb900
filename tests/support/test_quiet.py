"""Tests of `quiet` and `report`: what reaches file descriptor 2, and how a table looks."""

import os

import pytest

from alexnet_tf.support import quiet, report


def test_standard_error_is_hidden_unless_something_fails(capfd):
    with quiet.standard_error_hidden() as screen:
        os.write(2, b"chatter")
        print("seen", file=screen, flush=True)
    assert capfd.readouterr().err == "seen\n"
    with pytest.raises(KeyboardInterrupt):
        with quiet.standard_error_hidden():
            os.write(2, b"the reason\n")
            raise KeyboardInterrupt
    os.write(2, b"after")
    assert capfd.readouterr().err == "the reason\nafter"


def test_a_markdown_table_lines_up():
    table = report.markdown_table(["", "MB"], [["a longer name", 1.5], ["b", "-"]])
    assert table.splitlines() == [
        "|               | MB  |",
        "| ---           | --- |",
        "| a longer name | 1.5 |",
        "| b             | -   |",
    ]
