"""Activations of a layer for each image of a set, in a file (Section 6.1).

The file is an .npz as `npz_stream` writes it:

    features       float32 [n, width], an image's activations, flattened in the order height, width, channel
    shape          of an image's activations before: [4096], or [height, width, channels]
    names          of the images: absolute paths; in records and tar files, the file and the place in it
    labels         int32 [n], -1 where there is none; classes: their names
    indices        int64 [n], each image's number in its split
    layer, workdir, checkpoint, epoch, weights (their SHA-256), precision, data_dir, split, fingerprint
                   where all that is from

By default everything is computed in float32, on every machine and whatever the run was trained in, so that features of
different machines, and those of the export, can be compared. The crop is that of evaluation.
"""

import contextlib
import dataclasses
import hashlib
import logging
import math
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
import tqdm

from alexnet_tf.data import datasets, discovery, input_pipeline
from alexnet_tf.data.options import ExampleOptions
from alexnet_tf.evaluation import npz_stream
from alexnet_tf.network import architectures
from alexnet_tf.runs.config import RunData
from alexnet_tf.runs.directory import RunDirectory, load_model
from alexnet_tf.support import atomic_files, errors

_LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class FeatureOptions:
    """Which features to write.

    Attributes:
        layer: A name of `layers_of`.
        images: Image files; without any, those of a data set.
        data_dir: As for `discovery.find_dataset`; by default the run's.
        dataset: As for `discovery.find_dataset`.
        split: Name of a split; by default "train", or the only one.
        checkpoint: "last" or "best".
        on_bad_image: As in `input_pipeline.evaluation_batches`.
        batch_size: Images a batch.
        precision: Keras dtype policy.
    """

    layer: str
    images: tuple[str, ...] = ()
    data_dir: str | None = None
    dataset: str | None = None
    split: str | None = None
    checkpoint: str = "last"
    on_bad_image: str = "fail"
    batch_size: int = 128
    precision: str = "float32"


def layers_of(model: keras.Model, architecture: architectures.Architecture) -> dict[str, tuple[str, ...]]:
    """Returns the names that a person may give, stages first, each with the layers of the model that it means.

    A stage's name, `conv1` or `fc7`, means both its towers joined, a before b, after its ReLU where it has one (before
    dropout). The name of a step, `conv5_pool`, means both towers' too. Any other name is a layer's own: `conv2_b` is
    linear, `conv2_b_relu` is not.
    """
    names = [layer.name for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    meanings = {name: (name,) for name in names}
    for stage in architecture.stages:
        first, *_ = stage.layer_names
        for suffix in [name.removeprefix(first) for name in names if f"{name}_".startswith(f"{first}_")]:
            meanings.setdefault(stage.name + suffix, tuple(name + suffix for name in stage.layer_names))
    stages = {stage.name: meanings.get(f"{stage.name}_relu", meanings[stage.name]) for stage in architecture.stages}
    return stages | {name: layers for name, layers in meanings.items() if name not in stages}


def make_extractor(
    model: keras.Model, architecture: architectures.Architecture, layer: str
) -> tuple[Callable[[tf.Tensor], tf.Tensor], tuple[str, ...], tuple[int, ...]]:
    """Returns a function that computes a layer's activations for a batch of images.

    Returns:
        (function: images uint8 [batch, size, size, 3] -> float32 [batch, width], the layers that the name means, the
        shape of an image's activations).

    Raises:
        UserError: If there is no such layer.
    """
    known = layers_of(model, architecture)
    if layer not in known:
        stages = [stage.name for stage in architecture.stages]
        raise errors.UserError(
            f"{architecture.name} has no layer {layer!r}. Stages, after ReLU: {', '.join(stages)}. Single steps: "
            f"{', '.join(name for name in known if name not in stages)}."
        )
    outputs = [model.get_layer(name).output for name in known[layer]]
    part = keras.Model(model.input, outputs[0] if len(outputs) == 1 else keras.ops.concatenate(outputs, axis=-1))

    @tf.function(input_signature=[tf.TensorSpec([None, *model.input_shape[1:]], tf.uint8)])
    def extract(images):
        return tf.cast(tf.reshape(part(images, training=False), [tf.shape(images)[0], -1]), tf.float32)

    return extract, known[layer], part.output.shape[1:]


def write_features(
    path: str | os.PathLike,
    output: str | os.PathLike,
    request: FeatureOptions,
    report: Callable[[str], None] = _LOGGER.info,
) -> None:
    """Writes the activations of a layer for every image of a set; the file appears whole or not at all.

    In memory are the network, a few batches and the images' names. While the file is written, twice its size is needed
    on the disk.

    Args:
        path: The run's directory.
        output: The .npz file.
        request: What to write.
        report: Called with each line for the screen.

    Raises:
        UserError: If something is not there, does not fit or cannot be read, or the file cannot be written.
    """
    output = pathlib.Path(output).expanduser()
    if output.suffix != ".npz":
        raise errors.UserError(f"--output must be a file that ends in .npz; got {str(output)!r}.")
    run = RunDirectory(path)
    model, run_config, state = load_model(run, request.checkpoint, request.precision)
    architecture = run_config.architecture
    extract, layers, shape = make_extractor(model, architecture, request.layer)
    split, source = _find_images(run_config.data, request)
    width = math.prod(shape)
    report(
        f"{request.layer} of {run} ({architecture.name}, {request.checkpoint} checkpoint, after epoch "
        f"{state['epoch']}): {' and '.join(layers)}, {' x '.join(map(str, shape))} numbers an image"
    )
    report(f"{source.pop('title')}: {len(split):,} images")
    skipped: dict[int, str] = {}
    batches = input_pipeline.evaluation_batches(
        split,
        batch_size=request.batch_size,
        image_size=architecture.image_size,
        resize=run_config.train.recipe.resize,
        on_bad_image=request.on_bad_image,
        skipped=skipped,
    )
    start = time.monotonic()
    with _scratch(output, 2 * len(split) * width * 4) as rows:
        labels = _extract_all(extract, batches, rows, len(split))
        # There is a row for each image that could be read, in order.
        indices = np.array([index for index in range(len(split)) if index not in skipped], "int64")
        speed = len(labels) / (time.monotonic() - start)
        rows.seek(0)
        members = {
            "features": npz_stream.Stream("<f4", (len(labels), width), _pieces(rows)),
            "names": _names(split, indices),
            "labels": labels,
            "indices": indices,
            "shape": np.array(shape, "int64"),
            "layer": request.layer,
            "workdir": os.path.abspath(run),
            "checkpoint": request.checkpoint,
            "epoch": np.int64(state["epoch"]),
            "weights": digest_weights(model),
            "precision": request.precision,
            **source,
        }
        atomic_files.atomic_write(output, lambda file: npz_stream.write(file, members))
    left_out = f" ({len(skipped):,} left out)" if skipped else ""
    report(
        f"Wrote {output}: {len(labels):,} images{left_out}, {os.path.getsize(output) / 1e6:,.1f} MB, {speed:.0f} "
        "images/s"
    )


def _find_images(run_data: RunData, request: FeatureOptions):
    """Returns (the split, {array: what it holds} of where it is from, with its title for the screen)."""
    if request.images:
        if request.data_dir or request.dataset or request.split:
            raise errors.UserError("Give either image files, or --data_dir (with --dataset and --split).")
        split = datasets.ImageFiles(
            tuple(map(os.path.abspath, request.images)), np.full(len(request.images), -1, "int32")
        )
        return split, {"title": "Files", "classes": np.array([], "<U1"), "data_dir": "", "split": "", "fingerprint": ""}
    options = ExampleOptions(dataset=request.dataset)
    data = discovery.load_run_dataset(run_data, request.data_dir, options, any_classes=True)
    name = request.split or ("train" if "train" in data.splits else data.validation)
    if name not in data.splits:
        raise errors.UserError(f"--split={name} is not in {data.directory}; there: {', '.join(data.splits)}.")
    return data.splits[name], {
        "title": f"{data.directory}, {name}",
        "classes": np.array(data.class_names),
        "data_dir": data.directory,
        "split": name,
        "fingerprint": data.fingerprint(),
    }


@contextlib.contextmanager
def _scratch(output, size: int):
    """Opens a file without a name beside the output, which is gone with this process, however that ends.

    Raises:
        UserError: If `size` bytes are not free there, or it cannot be written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(output.parent).free) < size:
            raise errors.UserError(
                f"{output} needs {size / 1e9:.1f} GB while it is written, and {free / 1e9:.1f} GB are free in "
                f"{output.parent}. Give an --output on another disk, or a layer with fewer numbers."
            )
        with tempfile.TemporaryFile(dir=output.parent) as file:
            yield file
    except OSError as error:
        raise errors.UserError(f"{output} could not be written: {error.strerror or error}.") from error


def _extract_all(extract, batches, rows, num_images: int) -> np.ndarray:
    """Writes the activations of all batches to a file and returns the labels, int32 [n]."""
    found = [np.zeros(0, "int32")]
    with tqdm.tqdm(total=num_images, unit="image", disable=None) as bar:
        for images, batch_labels in batches:
            values = extract(images[:, 0]).numpy()
            if not np.isfinite(values).all():
                raise errors.UserError("The network's outputs are not finite: the run has diverged.")
            rows.write(values)
            found.append(batch_labels.numpy())
            bar.update(len(values))
    labels = np.concatenate(found)
    if not len(labels):
        raise errors.UserError("None of the images could be read: there is nothing to write.")
    return labels


def _pieces(file):
    """Yields the rest of a file, some bytes at a time."""
    return iter(lambda: file.read(npz_stream.BLOCK_BYTES), b"")


def _names(split, indices) -> npz_stream.Stream:
    """Returns the images' names; as text, bytes that are not UTF-8 become Python's surrogates."""
    dtype = f"<U{max(len(split.describe(index)) for index in indices)}"
    blocks = (indices[first : first + 1024] for first in range(0, len(indices), 1024))
    parts = (np.array([split.describe(index) for index in block], dtype) for block in blocks)
    return npz_stream.Stream(dtype, (len(indices),), parts)


def digest_weights(model: keras.Model) -> str:
    """Returns the SHA-256 of a model's weights."""
    digest = hashlib.sha256()
    for variable in model.trainable_variables:
        digest.update(variable.path.encode())
        digest.update(np.ascontiguousarray(variable.numpy()).data)
    return digest.hexdigest()
