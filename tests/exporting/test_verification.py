"""Tests of `verification` and `engines`: what is found, what engines answer, and that a wrong answer is seen."""

import json

import numpy as np
import pytest

from alexnet_tf.exporting import engines, export, report, verification
from alexnet_tf.support import errors


@pytest.fixture
def in_this_process(monkeypatch):
    """Engines run here, as a process of their own does not know SMALL."""
    monkeypatch.setattr(
        verification,
        "_run_apart",
        lambda name, paths, pixels, expected: [verification._run_here(name, path, pixels, expected) for path in paths],
    )


def test_every_engine_that_is_installed_agrees_with_keras(run, in_this_process):
    said = []
    export.export(
        run,
        export.ExportOptions(formats=("saved_model", "tflite", "keras"), quantizations=("float32",)),
        log=lambda _: None,
    )
    results = verification.verify(run, images=8, log=said.append)
    assert "Compared with Keras on 8 images of" in said[0]
    names = {each.engine.split(" ")[0].rstrip(",") for each in results}
    assert {"TensorFlow", "Keras", "LiteRT"} <= names
    for each in results:
        assert each.refusal is None and each.agreement == 1 and each.difference < 1e-3 and each.milliseconds > 0, each
    kept = json.loads((run.path / "export" / "verify.json").read_text())
    assert [each["engine"] for each in kept["results"]] == [each.engine for each in results]
    table = report.markdown_table(verification.rows(results))
    assert "| tflite/alexnet_float32.tflite |" in table and "| saved_model/1 " in table


def test_wrong_numbers_and_refusals_are_seen(run, in_this_process, monkeypatch):
    export.export(run, export.ExportOptions(formats=("tflite",), quantizations=("float32",)), log=lambda _: None)

    def refuse(path):
        raise RuntimeError("Didn't find op for builtin opcode 'X'\nmore")

    monkeypatch.setattr(
        engines,
        "ENGINES",
        {
            "wrong": engines.Engine(
                "numpy", ("numpy",), ("tflite",), lambda _: lambda images: np.full((len(images), 5), 0.2)
            ),
            "refusing": engines.Engine("numpy", ("numpy",), ("tflite",), refuse),
            "absent": engines.Engine("no_such_module", ("x",), ("tflite",), refuse),
        },
    )
    wrong, refusing = verification.verify(run, images=8, log=lambda _: None)
    assert wrong.difference > 0.3 and wrong.agreement < 1
    assert refusing.refusal == "Didn't find op for builtin opcode 'X'" and refusing.difference is None
    assert "refused: Didn't find op" in report.markdown_table(verification.rows([wrong, refusing]))


def test_an_engine_that_crashes_does_not_end_the_rest(monkeypatch, tmp_path):
    results = verification._run_apart("no such engine", ["a", "b"], np.zeros((1, 2, 2, 3), "uint8"), np.zeros((1, 2)))
    assert [each.refusal for each in results] == ["'no such engine'"] * 2


def test_the_latest_version_is_verified(tmp_path):
    for name in ("saved_model/2", "saved_model/10", "saved_model/.3.tmp", "tflite", "web"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "tflite" / "alexnet_int8.tflite").touch()
    (tmp_path / "web" / "network.tflite").touch()
    assert verification.find_artifacts(tmp_path) == [
        ("saved_model", tmp_path / "saved_model" / "10"),
        ("tflite", tmp_path / "tflite" / "alexnet_int8.tflite"),
        ("tflite", tmp_path / "web" / "network.tflite"),
    ]


def test_nothing_exported_names_the_command(run):
    with pytest.raises(errors.UserError, match="nothing to verify. Export first: python .*export"):
        verification.verify(run, log=lambda _: None)
