"""Images of five colours, and a run of a small network that tells them apart."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.data import discovery, input_pipeline
from alexnet_tf.network import alexnet, architectures
from alexnet_tf.runs.config import TrainConfig
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.training import configure
from tests.helpers.networks import SMALL

COLOURS = {
    "red": (220, 30, 30),
    "yellow": (220, 220, 30),
    "green": (30, 160, 30),
    "blue": (30, 30, 220),
    "gr\u00fcn \u00fc": (240, 240, 240),
}


def write_images(root: pathlib.Path) -> pathlib.Path:
    """Writes class folders: 20 training and 24 validation images of each colour, JPEG and PNG, of several shapes."""
    for split, count in (("train", 20), ("val", 24)):
        for label, (name, colour) in enumerate(COLOURS.items()):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                rng = np.random.default_rng([split == "val", label, number])
                pixels = np.clip(rng.normal(colour, 25, (*rng.integers(60, 90, 2), 3)), 0, 255).astype("uint8")
                encode, ending = ((tf.io.encode_jpeg, "jpg"), (tf.io.encode_png, "png"))[number % 2]
                (folder / f"{number}.{ending}").write_bytes(encode(pixels).numpy())
    return root


def fit_small(images: pathlib.Path, path: pathlib.Path) -> RunDirectory:
    """Fits SMALL in seconds, and keeps it as training keeps a run."""
    data, run = discovery.find_dataset(str(images)), RunDirectory(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(architectures.ARCHITECTURES, "small", SMALL)
        run_config = configure.make_run_config(TrainConfig(architecture="small", initialization="he"), data)
        model = alexnet.build_model(run_config.architecture, seed=1)
    [(images, labels)] = input_pipeline.evaluation_batches(
        data.splits["train"], batch_size=100, image_size=67, resize="paper"
    )
    model.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    order = np.random.default_rng(0).permutation(100)
    model.fit(images.numpy()[order, 0], labels.numpy()[order], batch_size=20, epochs=30, shuffle=False, verbose=0)
    run.write_config(run_config, data.class_names)
    run.write_checkpoint(150, {variable.path: variable.numpy() for variable in model.variables}, {"epoch": 30})
    return run
