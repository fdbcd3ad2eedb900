"""A network as a SavedModel that TF Serving accepts, and how a version is published: whole or not at all.

The network must be one of `alexnet.for_export`, in float32. What the file offers: `signatures`.
"""

import contextlib
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.exporting import serving_files, signatures
from alexnet_tf.exporting.export_job import Artifact, ExportError, ExportJob, Predictor
from alexnet_tf.exporting.signatures import ImageLimits
from alexnet_tf.network import alexnet, architectures
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import atomic_files


def write(job: ExportJob) -> Iterator[Artifact]:
    """Publishes the next version of RUN/export/saved_model and yields its line of the report."""
    limits = ImageLimits(job.options.max_megapixels, job.options.max_megabytes)
    version = publish(
        alexnet.for_export(job.model, "builtin"),
        job.run_config.architecture,
        class_names=job.class_names,
        resize=job.resize,
        directory=job.directory / "saved_model",
        limits=limits,
    )
    yield job.compare("SavedModel", version, load(version))


def load(version: str | os.PathLike[str]) -> Predictor:
    """Returns the predictor of a version's `images` signature, in batches of 32 images."""
    signature = restore(version).signatures["images"]

    def predict(images: np.ndarray) -> np.ndarray:
        batches = [images[start : start + 32].astype("float32") for start in range(0, len(images), 32)]
        return np.concatenate([signature(images=tf.constant(batch))["probabilities"].numpy() for batch in batches])

    return predict


def restore(version: str | os.PathLike[str]) -> Any:
    """Returns a SavedModel as `tf.saved_model.load` does, from any path.

    TensorFlow takes the path of the variables for a pattern, so that it finds none in a folder called runs[1].
    """
    if not re.search(r"[*?\[\\]", str(version)):
        return tf.saved_model.load(str(version))
    with tempfile.TemporaryDirectory() as folder:
        link = os.path.join(folder, "version")
        os.symlink(os.path.abspath(version), link)
        return tf.saved_model.load(link)


def publish(
    network: keras.Model,
    architecture: architectures.Architecture,
    *,
    class_names: Sequence[str],
    resize: str,
    directory: str | os.PathLike[str],
    limits: ImageLimits = ImageLimits(),  # noqa: B008
) -> pathlib.Path:
    """Writes the next version into a directory that TF Serving may be watching: it appears whole or not at all.

    Args:
        network: From `alexnet.for_export`: RGB images in [0, 255] to logits.
        architecture: Its architecture.
        class_names: In the order of the logits.
        resize: As in `preprocessing.square`.
        directory: Where the versions are. The new one's number is the highest there + 1.
        limits: Larger encoded images are refused.

    Returns:
        The version's path.

    Raises:
        ExportError: If it cannot be written, for example on a full disk; nothing half-written stays.
        RunError: If another export is writing there.
    """
    directory = pathlib.Path(directory)
    with RunDirectory(directory).locked("export"):
        for left in directory.glob(".*.tmp"):  # By a process that was killed.
            shutil.rmtree(left)
        # Not a number, so that a server that looks now does not take it for a version.
        temporary = directory / f".{os.getpid()}.tmp"
        try:
            _write(network, architecture, class_names, resize, limits, temporary)
            serving_files.write_companions(architecture, limits, directory)
            for path in (*temporary.rglob("*"), temporary):
                atomic_files.synchronize(path)
            version = directory / str(max(versions(directory), default=0) + 1)
            os.rename(temporary, version)
            atomic_files.synchronize(directory)
        except (OSError, tf.errors.OpError) as error:
            raise ExportError(
                f"{directory} could not be written: {_reason(error)}. Nothing half-written stays; the versions that "
                "were there are served as before."
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return version


def versions(directory: str | os.PathLike[str]) -> list[int]:
    """Returns the numbers of the versions in a directory, as TF Serving reads them: 001 is 1."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(int(path.name) for path in pathlib.Path(directory).iterdir() if path.name.isdecimal())
    return []


def _reason(error: Exception) -> str:
    """Returns why a write failed, without the inner names that TensorFlow puts around it: "No space left on device"."""
    reason = getattr(error, "strerror", None)
    if reason:
        return reason
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*?\]", "", str(error).split("\n")[0])
    return text.split(";")[-1].strip().rstrip(".")


def _write(
    network: keras.Model,
    architecture: architectures.Architecture,
    class_names: Sequence[str],
    resize: str,
    limits: ImageLimits,
    path: pathlib.Path,
) -> None:
    """Writes a whole SavedModel with its label file and warm-up requests to `path`."""
    labels = path / "classes.txt"
    labels.parent.mkdir()
    labels.write_bytes(b"".join(name + b"\n" for name in signatures.encoded(class_names)))
    module = tf.Module()
    # The unwrapped variables: with Keras' wrappers as well, each would be stored twice, or not be found by the server.
    module.variables_of_the_network = [variable.value for variable in network.trainable_variables]
    module.labels = tf.saved_model.Asset(str(labels))
    functions = signatures.make_signatures(network, architecture, class_names, resize, limits)
    tf.saved_model.save(module, str(path), signatures=functions)
    labels.unlink()  # It is in assets/ now.
    serving_files.write_warm_up(architecture, path / "assets.extra" / "tf_serving_warmup_requests")
