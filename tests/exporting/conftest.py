"""What the tests of exports share: a trained run that each test may change."""

import pytest

from alexnet_tf.exporting import python_latency
from alexnet_tf.network import architectures
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import processors
from tests.helpers.networks import SMALL


@pytest.fixture
def run(small_run, tmp_path, monkeypatch):
    """A run like `small_run`, to be changed; the processes that time Keras, which do not know SMALL, are left out."""
    monkeypatch.setitem(architectures.ARCHITECTURES, "small", SMALL)
    times = {name: dict.fromkeys((1, processors.available_cpus()), 1.0) for name in ("Keras model", "SavedModel")}
    monkeypatch.setattr(python_latency, "measure", lambda *_: times)
    arrays, state = small_run.read_checkpoint()
    copy = RunDirectory(tmp_path / "run")
    copy.write_checkpoint(150, arrays, state, best_step=150)
    copy.write_config(small_run.read_config(), small_run.class_names())
    return copy
