"""A network as a .keras file: `import alexnet_tf; keras.models.load_model(FILE)` gives the ordinary Keras model."""

import os
import pathlib
import tempfile
import warnings
from collections.abc import Iterator

import keras
import numpy as np

from alexnet_tf.exporting.export_job import Artifact, ExportError, ExportJob, Predictor
from alexnet_tf.network import alexnet
from alexnet_tf.support import atomic_files


def write(job: ExportJob) -> Iterator[Artifact]:
    """Writes RUN/export/keras/alexnet.keras and yields its line of the report."""
    path = job.directory / "keras" / "alexnet.keras"
    save(alexnet.for_export(job.model, "builtin"), path)
    yield job.compare("Keras file", path, load(path), details="loads after `import alexnet_tf`; returns logits")


def save(network: keras.Model, path: pathlib.Path) -> None:
    """Writes a .keras file whole or not at all.

    Raises:
        ExportError: If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", suffix=".tmp", dir=path.parent) as folder:
            temporary = pathlib.Path(folder) / path.name
            with warnings.catch_warnings():  # Of what Keras asks NumPy for while it saves.
                warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
                network.save(temporary)
            atomic_files.synchronize(temporary)
            os.replace(temporary, path)
        atomic_files.synchronize(path.parent)
    except OSError as error:
        raise ExportError(f"{path} could not be written: {error.strerror or error}.") from error


def load(path: str | os.PathLike[str]) -> Predictor:
    """Returns the predictor of a .keras file."""
    model = keras.models.load_model(path)
    forward = keras.Model(model.input, keras.ops.softmax(model.output))

    def predict(images: np.ndarray) -> np.ndarray:
        return np.asarray(forward.predict(images.astype("float32"), batch_size=32, verbose=0))

    return predict
