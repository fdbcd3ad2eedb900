"""What the tests of exports share: a trained run that each test may change, and how it is exported."""

import pytest

from alexnet_tf.exporting import export, formats
from alexnet_tf.network import architectures
from alexnet_tf.runs.directory import RunDirectory
from tests.helpers.networks import SMALL


@pytest.fixture
def run(small_run, tmp_path, monkeypatch):
    """A run like `small_run`, to be changed."""
    monkeypatch.setitem(architectures.ARCHITECTURES, "small", SMALL)
    arrays, state = small_run.read_checkpoint()
    copy = RunDirectory(tmp_path / "run")
    copy.write_checkpoint(150, arrays, state, best_step=150)
    copy.write_config(small_run.read_config(), small_run.class_names())
    return copy


@pytest.fixture
def export_run():
    """Returns the function that exports a run in some formats and returns the artifacts and what was said."""

    def export_run(run, *formats_, **options):
        said = []
        chosen = formats.ExportOptions(formats=formats_ or ("saved_model", "tflite"), **options)
        return export.export(run, chosen, log=said.append), "\n".join(said)

    return export_run
