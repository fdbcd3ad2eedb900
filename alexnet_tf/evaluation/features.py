"""Activations of a layer for each image of a set, in an HDF5 file (Section 6.1).

    features       float32 [n, width], an image's activations, flattened in the order height, width, channel
    names          of the images: absolute paths; in records and tar files, the file and the place in it
    labels         int32 [n], -1 where there is none; classes: their names
    indices        int64 [n], each image's number in its split

with the attributes layer, shape (of an image's activations before: [4096], or [height, width, channels]), workdir,
checkpoint, epoch, weights (their SHA-256), precision, data_dir, split and fingerprint: where all that is from.

By default everything is computed in float32, on every machine and whatever the run was trained in, so that features of
different machines, and those of the export, can be compared. The crop is that of evaluation.
"""

import contextlib
import hashlib
import itertools
import logging
import math
import os
import pathlib
import shutil
from collections.abc import Callable, Container, Iterator, Sequence
from typing import BinaryIO

import h5py
import keras
import numpy as np
import tensorflow as tf
import tqdm

from alexnet_tf.data import datasets, discovery, input_pipeline
from alexnet_tf.data.options import ExampleOptions
from alexnet_tf.evaluation.options import FeatureOptions
from alexnet_tf.network import architectures, xla
from alexnet_tf.network.model import AlexNet, Stage
from alexnet_tf.runs.config import RunData
from alexnet_tf.runs.directory import RunDirectory, load_model
from alexnet_tf.support import atomic_files, devices, errors, home, settings, shell

_LOGGER = logging.getLogger(__name__)

# HDF5 of 2016 and later: only since then do the headers have checksums.
_VERSION = ("v110", "v110")


def stage_of(model: AlexNet, architecture: architectures.Architecture, name: str) -> Stage:
    """Returns the layers of a model that a name means, and their outputs joined.

    A stage's name, `conv1` or `fc7`, means both towers after their ReLU where they have one (before dropout). The name
    of a step, `conv5_pool`, means both towers' too. Any other name is a layer's own: `conv2_b` is linear,
    `conv2_b_relu` is not.

    Raises:
        UserError: If there is no such layer.
    """
    stages = [stage.name for stage in architecture.stages]
    for each in [f"{name}_relu", name] if name in stages else [name]:
        with contextlib.suppress(ValueError):
            return model.stage(each)
    raise errors.UserError(
        f"{architecture.name} has no layer {name!r}. Stages, after ReLU: {', '.join(stages)}. Single steps, without _a "
        f"and _b those of both towers: {', '.join(layer.name for layer in model.layers)}."
    )


def make_extractor(model: AlexNet, output: keras.KerasTensor) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function that computes an output for a batch of images.

    It takes uint8 [batch, size, size, 3] and returns float32 [batch, width].
    """
    part = keras.Model(model.input, output)

    @tf.function(input_signature=[tf.TensorSpec([None, *model.input_shape[1:]], tf.uint8)])
    def extract(images: tf.Tensor) -> tf.Tensor:
        with xla.fused_kernels():
            values = part(images, training=False)
        return tf.cast(tf.reshape(values, [tf.shape(images)[0], -1]), tf.float32)

    return extract


def write_features(
    workdir: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: FeatureOptions,
    images: Sequence[str] = (),
) -> None:
    """Writes the activations of a layer for every image of a set; the file appears whole or not at all.

    In memory are the network, a few batches and the images' names.

    Args:
        workdir: The run's directory.
        output: The .h5 file.
        options: What to write.
        images: Image files; without any, those of a data set.

    Raises:
        UserError: If something is not there, does not fit or cannot be read, or the file cannot be written.
    """
    settings.check(options)
    output = home.expand(output)
    if output.suffix != ".h5":
        raise errors.UserError(f"--output must end in .h5, such as {output.with_suffix('.h5')}; got {output}.")
    run, precision = RunDirectory(workdir), devices.chosen_precision(options.precision)
    model, run_config, state = load_model(run, options.checkpoint, precision)
    stage = stage_of(model, run_config.architecture, options.layer)
    extract, shape = make_extractor(model, stage.output), stage.output.shape[1:]
    split, class_names, source = _find_images(run_config.data, options, images)
    layers = " and ".join(layer.name for layer in stage.layers)
    _LOGGER.info(
        f"{options.layer} of {run} ({run_config.architecture.name}, {options.checkpoint} checkpoint, after epoch "
        f"{state['epoch']}): {layers}, {' x '.join(map(str, shape))} numbers an image\n"
        f"{', '.join(filter(None, [source['data_dir'], source['split']])) or 'Files'}: {len(split):,} images"
    )
    attributes = source | {
        "layer": options.layer,
        "shape": shape,
        "workdir": shell.printable(os.path.abspath(run)),
        "checkpoint": options.checkpoint,
        "epoch": state["epoch"],
        "weights": digest_weights(model),
        "precision": precision,
    }
    skipped: dict[int, str] = {}
    batches = input_pipeline.evaluation_batches(
        split,
        batch_size=options.batch_size,
        image_size=run_config.image_size,
        resize=run_config.train.recipe.resize,
        on_bad_image=options.on_bad_image,
        skipped=skipped,
    )

    def write(file: BinaryIO) -> None:
        _check_room(output, 4 * len(split) * math.prod(shape))
        with h5py.File(file.name, "w", libver=_VERSION) as written:
            written.attrs.update(attributes)
            written.create_dataset("classes", data=class_names, dtype=h5py.string_dtype())
            _write_batches(written, split, batches, skipped, extract)

    atomic_files.atomic_write(output, write)
    left_out = f" ({len(skipped):,} left out)" if skipped else ""
    _LOGGER.info(
        f"Wrote {output}: {len(split) - len(skipped):,} images{left_out}, {os.path.getsize(output) / 1e6:,.1f} MB"
    )


def _find_images(
    run_data: RunData, options: FeatureOptions, images: Sequence[str]
) -> tuple[datasets.ImageSource, list[str], dict[str, str]]:
    """Returns (the images, the names of their classes, attributes that say where they are from)."""
    if images:
        if options.data_dir or options.dataset or options.split:
            raise errors.UserError("Give either image files, or --data_dir (with --dataset and --split).")
        files = datasets.ImageFiles(tuple(map(os.path.abspath, images)), np.full(len(images), -1, "int32"))
        return files, [], {"data_dir": "", "split": "", "fingerprint": ""}
    chosen = ExampleOptions(dataset=options.dataset)
    data = discovery.load_run_dataset(run_data, options.data_dir, chosen, any_classes=True)
    name = options.split or ("train" if "train" in data.splits else data.validation)
    if name not in data.splits:
        raise errors.UserError(f"--split={name} is not in {data.directory}; there: {', '.join(data.splits)}.")
    source = {"data_dir": shell.printable(data.directory), "split": name, "fingerprint": data.fingerprint()}
    return data.splits[name], list(map(shell.printable, data.class_names)), source


def _check_room(output: pathlib.Path, size: int) -> None:
    if (free := shutil.disk_usage(output.parent).free) < size:
        raise errors.UserError(
            f"{output} needs {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in {output.parent}. Give an "
            "--output on another disk, or a layer with fewer numbers."
        )


def _write_batches(
    file: h5py.File,
    split: datasets.ImageSource,
    batches: Iterator[tuple[tf.Tensor, tf.Tensor]],
    skipped: Container[int],
    extract: Callable[[tf.Tensor], tf.Tensor],
) -> None:
    """Appends each batch to the file's arrays; the first one makes them."""
    # What is skipped of a batch or before it is known once the batch is there.
    readable = (index for index in range(len(split)) if index not in skipped)
    with tqdm.tqdm(total=len(split), unit="image", disable=None) as bar:
        for crops, labels in batches:
            values = extract(crops[:, 0]).numpy()
            if not np.isfinite(values).all():
                raise errors.UserError("The network's outputs are not finite: the run has diverged.")
            indices = np.fromiter(itertools.islice(readable, len(values)), "int64")
            names = np.array([os.fsencode(split.describe(index)) for index in indices], object)
            arrays = {"features": values, "labels": labels.numpy(), "indices": indices, "names": names}
            for name, array in arrays.items():
                if name not in file:  # Texts cannot have checksums.
                    dtype = h5py.string_dtype() if name == "names" else array.dtype
                    shape, checked = array.shape[1:], name != "names"
                    file.create_dataset(
                        name, (0, *shape), dtype, maxshape=(None, *shape), chunks=True, fletcher32=checked
                    )
                before = len(file[name])
                file[name].resize(before + len(array), axis=0)
                file[name][before:] = array
            bar.update(len(values))
    if "features" not in file:
        raise errors.UserError("None of the images could be read: there is nothing to write.")


def digest_weights(model: keras.Model) -> str:
    """Returns the SHA-256 of a model's weights."""
    digest = hashlib.sha256()
    for variable in model.trainable_variables:
        digest.update(variable.path.encode())
        digest.update(np.ascontiguousarray(variable.numpy()).data)
    return digest.hexdigest()
