"""A small network as a published SavedModel, and what it must answer."""

import dataclasses
import pathlib

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from alexnet_tf.data import input_pipeline
from alexnet_tf.evaluation import metrics
from alexnet_tf.exporting import saved_model
from alexnet_tf.network import alexnet
from tests.helpers.networks import SMALL

CLASSES = ("red", "gr\u00fcn \u00fc", "with, comma", "\udcff", "5")
SPLIT = dataclasses.replace(  # Joined stages, as Caffe's rows, and dense layers as convolutions, as conv_fc.
    SMALL,
    name="split",
    lrn_across_towers=True,
    stages=tuple(
        dataclasses.replace(
            stage,
            towers=stage.towers if stage.name == "conv2" else 1,
            kernel_size={"fc6": 3, "fc7": 1, "fc8": 1}.get(stage.name, stage.kernel_size),
        )
        for stage in SMALL.stages
    ),
)


def make_model(row, seed=3):
    """A network whose answers differ from image to image, so that errors show."""
    model = alexnet.build_model(row, seed=seed)
    rng = np.random.default_rng(seed)
    model.set_weights(
        [
            w if w.dtype.kind == "i" else rng.normal(0, 0.6 * np.prod(w.shape[:-1]) ** -0.5, w.shape)
            for w in model.get_weights()
        ]
    )
    return model


def publish(model, row, directory, classes=CLASSES):
    network = alexnet.for_export(model, "builtin")
    return saved_model.publish(network, row, class_names=classes, resize="paper", directory=directory)


def meta_graph(version):
    [graph] = saved_model_pb2.SavedModel.FromString((pathlib.Path(version) / "saved_model.pb").read_bytes()).meta_graphs
    return graph


def picture(number, channels=3, encode=tf.io.encode_jpeg, size=(80, 70)):
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, channels)).astype("float32")
    return encode(tf.cast(tf.image.resize(pixels, size), tf.uint8)).numpy()


ENCODED = [picture(1), picture(2, 1, tf.io.encode_png), picture(3, 1), picture(4, 4, tf.io.encode_png), picture(5)]


def expected_scores(model, encoded_images):
    crops = np.concatenate(
        [input_pipeline.evaluation_crops(tf.constant(each), 67, "paper").numpy() for each in encoded_images]
    )
    return np.exp(metrics.make_predictor(model)(crops[:, None]).numpy())
