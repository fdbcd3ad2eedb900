"""A network as a SavedModel that TF Serving accepts, and how a version is published: whole or not at all.

The network must be one of `alexnet.for_export`, in float32. What the file offers: `signatures`.
"""

import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from alexnet_tf.exporting import serving_files, signatures
from alexnet_tf.exporting.engines import Predictor, batched
from alexnet_tf.exporting.export import ExportError, ExportJob
from alexnet_tf.exporting.formats import SavedModelOptions
from alexnet_tf.exporting.report import Artifact
from alexnet_tf.network import alexnet, architectures
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import atomic_files


def write(job: ExportJob) -> Iterator[Artifact]:
    """Publishes the next version of RUN/export/saved_model and yields its line of the report."""
    version = publish(
        alexnet.for_export(job.model, "builtin"),
        job.run_config.architecture,
        class_names=job.class_names,
        resize=job.resize,
        directory=job.directory / "saved_model",
        limits=job.options,
    )
    how = f"To serve it: {version.with_name('SERVING.md')}"
    yield job.compare("SavedModel", version, lambda _: load(version), next_step=how)


def load(version: str | os.PathLike[str]) -> Predictor:
    """Returns the predictor of a version's `images` signature."""
    signature = restore(version).signatures["images"]
    return batched(lambda images: signature(images=tf.constant(images))["probabilities"].numpy())


def restore(version: str | os.PathLike[str]) -> Any:
    """Returns a SavedModel as `tf.saved_model.load` does, from any path.

    TensorFlow takes the path of the variables for a pattern, so that it finds none in a folder called runs[1]: it gets
    a link.
    """
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
    limits: SavedModelOptions = SavedModelOptions(),  # noqa: B008
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
            # As TF Serving reads them: 001 is 1.
            versions = [int(each.name) for each in directory.iterdir() if each.name.isdecimal()]
            version = directory / str(max(versions, default=0) + 1)
            os.rename(temporary, version)
            atomic_files.synchronize(directory)
        except (OSError, tf.errors.OpError) as error:
            # TensorFlow puts inner names around it: "{{function_node ...}} PATH; No space left on device [Op:SaveV2]".
            reason = getattr(error, "strerror", None) or re.sub(r"(?s).*;|\[Op.*", "", str(error)).strip()
            raise ExportError(
                f"{directory} could not be written: {reason}. Nothing half-written stays; the versions that "
                "were there are served as before."
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return version


def _write(
    network: keras.Model,
    architecture: architectures.Architecture,
    class_names: Sequence[str],
    resize: str,
    limits: SavedModelOptions,
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
