"""A network as a .keras file: `import alexnet_tf; keras.models.load_model(FILE)` gives the ordinary Keras model."""

import os
import pathlib
import tempfile
from collections.abc import Iterator

import keras

from alexnet_tf.exporting.engines import Predictor, batched
from alexnet_tf.exporting.export import ExportJob
from alexnet_tf.exporting.report import Artifact
from alexnet_tf.network import alexnet
from alexnet_tf.support import atomic_files


def write(job: ExportJob) -> Iterator[Artifact]:
    """Writes RUN/export/keras/alexnet.keras, whole or not at all, and yields its line of the report."""
    path = job.directory / "keras" / "alexnet.keras"
    with tempfile.TemporaryDirectory() as folder:
        temporary = pathlib.Path(folder) / path.name
        alexnet.for_export(job.model, "builtin").save(temporary)
        atomic_files.write_bytes(path, temporary.read_bytes())
    details = "loads after `import alexnet_tf`, in Keras 3.10 and later; returns logits"
    yield job.compare("Keras file", path, lambda _: load(path), details=details)


def load(path: str | os.PathLike[str]) -> Predictor:
    """Returns the predictor of a .keras file."""
    model = keras.models.load_model(path)
    forward = keras.Model(model.input, keras.ops.softmax(model.output))
    return batched(forward.predict_on_batch)
