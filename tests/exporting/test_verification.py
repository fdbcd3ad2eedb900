"""Tests of `engines`: what they answer, and that a wrong answer, a refusal and a crash are seen."""

import json
import os
import signal

import numpy as np
import pytest

from alexnet_tf.exporting import engines
from alexnet_tf.support import errors


@pytest.fixture
def in_this_process(monkeypatch):
    """Engines run here, as a process of their own does not know what a test changed."""
    monkeypatch.setattr(
        engines,
        "_run_apart",
        lambda name, paths, pixels, expected: [engines._run_here(name, path, pixels, expected) for path in paths],
    )


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own, when it saves.
def test_every_engine_that_is_installed_agrees_with_keras(run, export_run, in_this_process):
    export_run(run, "saved_model", "tflite", "keras", quantization=("float32",))
    said = []
    results = engines.verify(run.path, engines.VerifyOptions(images=8), log=said.append)
    assert "Compared on 8 images of" in said[1]
    names = {each.engine.split(" ")[0].rstrip(",") for each in results}
    assert {"TensorFlow", "Keras", "LiteRT"} <= names
    for each in results:
        assert each.refusal is None and each.agreement == 1 and each.difference < 1e-3 and each.milliseconds > 0, each
    kept = json.loads((run.path / "export" / "verify.json").read_text())
    assert [each["engine"] for each in kept["results"]] == [each.engine for each in results]
    table = engines.table(results)
    assert "| tflite/alexnet_float32.tflite |" in table and "| saved_model/1 " in table


def test_wrong_numbers_and_refusals_are_seen(run, export_run, in_this_process, monkeypatch):
    export_run(run, "tflite", quantization=("float32",))

    def refuse(path):
        raise RuntimeError("Didn't find op for builtin opcode 'X'\nmore")

    monkeypatch.setattr(
        engines,
        "ENGINES",
        {
            "wrong": engines.Engine("numpy", (".tflite",), lambda _: lambda images: np.full((len(images), 5), 0.2)),
            "refusing": engines.Engine("numpy", (".tflite",), refuse),
            "of other files": engines.Engine("numpy", (".onnx",), refuse),
            "absent": engines.Engine("no_such_module", (".tflite",), refuse),
        },
    )
    wrong, refusing = engines.verify(run.path, engines.VerifyOptions(images=8), log=lambda _: None)
    assert wrong.difference > 0.3 and wrong.agreement < 1
    assert refusing.refusal == "Didn't find op for builtin opcode 'X'"
    assert "refused: Didn't find op" in engines.table([wrong, refusing])


def crash_at_b(name, path, pixels, expected):
    """Stands for `engines._run_here`, in a process of its own: the second file kills the process."""
    if path == "b":
        os.kill(os.getpid(), signal.SIGSEGV)
    return engines.Result("", path)


def test_an_engine_that_crashes_does_not_end_the_rest(monkeypatch):
    monkeypatch.setattr(engines, "_run_here", crash_at_b)
    a, b, c = engines._run_apart("x", ["a", "b", "c"], np.zeros(0), np.zeros(0))
    assert (a.artifact, b.refusal, c.artifact) == ("a", "the engine crashed", "c")


def test_nothing_exported_names_the_command(run):
    with pytest.raises(errors.UserError, match="nothing to verify. Export first: python .*export"):
        engines.verify(run.path, log=lambda _: None)
