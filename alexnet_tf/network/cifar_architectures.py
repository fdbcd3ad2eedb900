"""The CIFAR-10 networks of cuda-convnet as data: those behind the paper's Figure 1 and its 13 % and 11 % (Section 3.3).

Source: the author's example-layers (cuda-convnet: layers-19pct.cfg, layers-18pct.cfg, layers-conv-local-13pct.cfg,
layers-conv-local-11pct.cfg and their layer-params files). The paper does not say which of them Figure 1 shows: both
readings are here, with ReLU or tanh. Pixels are in [0, 255] minus the mean image of the training images, unscaled.
`build_model` makes them as it makes every other architecture.
"""

import dataclasses
from typing import Any

from alexnet_tf.network import recipes
from alexnet_tf.network.architectures import LRN, Architecture, Init, Pool, Stage, derive

# What the example files share: rate .001, momentum .9, biases at twice the rate, 128 images a step. Decay differs from
# layer to layer: see `DECAYS`.
_RECIPE = recipes.Recipe(
    learning_rate=0.001,
    weight_decay=0.0,
    bias_learning_rate_multiplier=2.0,
    schedule="constant",
    colour_noise=False,
)

_MAX, _AVERAGE = Pool(padding="same"), Pool(padding="same", kind="average")

# A monotonic activation commutes with max pooling; after it, there is a quarter of the values left to compute.
_CONV1: dict[str, Any] = {
    "kernel_size": 5,
    "padding": (2, 2),
    "ops": ("pool", "relu"),
    "pool": _MAX,
    "kernel": Init("normal", 1e-4),
}
_CONV: dict[str, Any] = {
    "kernel_size": 5,
    "padding": (2, 2),
    "ops": ("relu", "pool"),
    "pool": _AVERAGE,
    "kernel": Init("normal", 0.01),
}
_LOCAL: dict[str, Any] = {"kernel_size": 3, "padding": (1, 1), "is_local": True, "kernel": Init("normal", 0.04)}
_FC10 = Stage("fc10", 10, ops=(), kernel=Init("normal", 0.01))

LAYERS_19PCT = Architecture(
    name="layers-19pct",
    source="cuda-convnet, layers-19pct.cfg",
    image_size=32,
    recipe=_RECIPE,
    mean=(125.0, 123.0, 114.0),
    stages=(Stage("conv1", 32, **_CONV1), Stage("conv2", 32, **_CONV), Stage("conv3", 64, **_CONV), _FC10),
)

# The same with normalisation over a window of 3 x 3 pixels of each map after the first two poolings.
LAYERS_18PCT = derive(
    LAYERS_19PCT,
    "layers-18pct",
    "cuda-convnet, layers-18pct.cfg",
    {"conv1": {"ops": ("pool", "relu", "same_map_lrn")}, "conv2": {"ops": ("relu", "pool", "same_map_lrn")}},
    same_map_lrn=LRN(depth_radius=1, bias=1.0, alpha=5e-5 / 9),
)

CONV_LOCAL_13PCT = Architecture(
    name="conv-local-13pct",
    source="cuda-convnet, layers-conv-local-13pct.cfg",
    image_size=24,
    recipe=_RECIPE,
    mean=(125.0, 123.0, 114.0),
    lrn=LRN(depth_radius=4, bias=1.0, alpha=0.001 / 9),
    stages=(
        Stage("conv1", 64, **_CONV1),
        Stage("conv2", 64, **_CONV | {"ops": ("pool", "relu"), "pool": _MAX}),
        Stage("local3", 32, **_LOCAL),
        Stage("local4", 32, **_LOCAL),
        _FC10,
    ),
)


def with_lrn(architecture: Architecture) -> Architecture:
    """Returns the network with LRN over nine maps after its first two poolings, and nothing else changed."""
    stages = tuple(
        dataclasses.replace(stage, ops=stage.ops + ("lrn",)) if "pool" in stage.ops else stage
        for stage in architecture.stages
    )
    return dataclasses.replace(architecture, name=f"{architecture.name}-lrn", stages=stages)


def with_activation(architecture: Architecture, activation: str) -> Architecture:
    """Returns the network with "relu" or "tanh" everywhere."""
    stages = tuple(
        dataclasses.replace(stage, ops=tuple(activation if each in ("relu", "tanh") else each for each in stage.ops))
        for stage in architecture.stages
    )
    return dataclasses.replace(architecture, name=f"{architecture.name}-{activation}", stages=stages)


def with_image_size(architecture: Architecture, image_size: int) -> Architecture:
    """Returns the network for images of another size in pixels: 32 for whole images, 24 for the author's crops."""
    return dataclasses.replace(architecture, image_size=image_size)


# The network of the paper's 11 %: LRN, but also twice as many filters in local3 (and another decay, see `DECAYS`).
CONV_LOCAL_11PCT = derive(
    with_lrn(CONV_LOCAL_13PCT),
    "conv-local-11pct",
    "cuda-convnet, layers-conv-local-11pct.cfg",
    {"local3": {"filters": 64}},
)

CIFAR_ARCHITECTURES = {each.name: each for each in (LAYERS_19PCT, LAYERS_18PCT, CONV_LOCAL_13PCT, CONV_LOCAL_11PCT)}

# Weight decay by layer, as `Recipe.weight_decay` counts it ("wc" of the layer-params files).
DECAYS: dict[str, dict[str, float]] = {
    "layers-19pct": {"conv1": 0.004, "conv2": 0.004, "conv3": 0.004, "fc10": 3.0},
    "layers-18pct": {"conv1": 0.004, "conv2": 0.004, "conv3": 0.004, "fc10": 1.0},
    "conv-local-13pct": {"local3": 0.004, "local4": 0.004, "fc10": 0.004},
    "conv-local-11pct": {"local3": 0.004, "local4": 0.004, "fc10": 0.01},
}
