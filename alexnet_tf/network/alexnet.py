"""The network: walks an `architectures.Architecture` and returns a functional Keras model.

Every choice that distinguishes the published versions is in the architecture; nothing here branches on its name.
"""

import dataclasses
import typing

import keras
import numpy as np

from alexnet_tf.network import architectures, layers, lrn
from alexnet_tf.network.model import AlexNet
from alexnet_tf.support import errors

Columns = list[keras.KerasTensor]


@dataclasses.dataclass(frozen=True)
class _Build:
    """What every part of a network is built with."""

    architecture: architectures.Architecture
    seed: int
    devices: tuple[str | None, str | None]
    lrn_implementation: str
    initialize: bool = True


def build_model(
    architecture: architectures.Architecture,
    *,
    mean: typing.Any = None,
    seed: int = 0,
    image_size: int | tuple[int, int] | None = None,
    precision: str | None = None,
    tower_devices: tuple[str, str] | None = None,
    learns_from: str | None = None,
    lrn_implementation: str = "builtin",
    include_top: bool = True,
    initialize: bool = True,
) -> AlexNet:
    """Builds a published AlexNet with random weights.

    The input normalisation, LRN and the logits are float32 under every precision. The variables' names and shapes
    depend on the architecture only.

    Args:
        architecture: An entry of `architectures.ARCHITECTURES`, or one derived from it.
        mean: What the first layer subtracts, RGB in [0, 255]: shape [3], or [size, size, 3] for a mean image.
            The architecture's by default.
        seed: Fixes the initial weights and the dropout masks.
        image_size: Side of the input in pixels, or (height, width); the architecture's by default. Others are for
            networks without dense layers: `include_top=False`, or architectures such as conv_fc, which take larger
            images and then give a map of logits.
        precision: Keras dtype policy, such as "mixed_bfloat16"; by default the global one.
        tower_devices: Where tower a and tower b keep their weights and compute; what follows the towers is with
            tower a. By default where TensorFlow puts them. Names, shapes and numbers do not depend on it.
        learns_from: Name of the lowest stage that learns: no gradient goes below it. By default the first.
        lrn_implementation: One of `lrn.IMPLEMENTATIONS`.
        include_top: Whether the network goes on to the logits; else it ends with the convolutions' features.
        initialize: Whether the weights are drawn at random; False leaves kernels at zero, for weights to be loaded:
            sixty million random numbers take seconds.

    Returns:
        Model from RGB images [batch, height, width, 3] in [0, 255] to logits float32 [batch, num_classes], or
        [batch, rows, columns, num_classes] for a larger image. Without the top: to the output of conv5, both towers
        joined, [batch, rows, columns, channels].

    Raises:
        ValueError: If the architecture cannot take images of `image_size`, or does not have two towers for two devices.
        UserError: If Keras does not run on TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise errors.UserError(
            f"alexnet_tf needs Keras' TensorFlow backend; Keras runs on {keras.backend.backend()}. Set the environment "
            "variable KERAS_BACKEND=tensorflow before keras is imported."
        )
    if tower_devices and not architectures.has_two_columns(architecture):
        two = ", ".join(
            name for name, each in architectures.ARCHITECTURES.items() if architectures.has_two_columns(each)
        )
        raise ValueError(
            f"{architecture.name} does not have two towers in every stage from conv1 to fc7, and so cannot be divided "
            f"between two devices. These can: {two}."
        )
    size = (image_size, image_size) if isinstance(image_size, int) else image_size or (architecture.image_size,) * 2
    _check_size(architecture, size, include_top)
    build = _Build(architecture, seed, tower_devices or (None, None), lrn_implementation, initialize)
    global_policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision or global_policy)
    try:
        return _walk(build, architecture.mean if mean is None else mean, size, learns_from, include_top)
    finally:
        keras.config.set_dtype_policy(global_policy)


def _check_size(architecture: architectures.Architecture, size: tuple[int, int], include_top: bool) -> None:
    own, given = architecture.image_size, size[0] if size[0] == size[1] else size
    if not include_top:
        smallest = next(
            side
            for side in range(1, own + 1)
            if all(
                shapes.output_size > 0
                for name, shapes in architecture.tower_shapes(side).items()
                if name.startswith("conv")
            )
        )
        if min(size) < smallest:
            raise ValueError(f"{architecture.name} needs images of at least {smallest} pixels; got image_size={given}.")
    elif tuple(size) != (own, own) and (architecture.stages[-1].kernel_size == 0 or min(size) < own):
        raise ValueError(
            f"{architecture.name} takes images of {own} pixels; got image_size={given}. The dense layers fix it: "
            "include_top=False takes other sizes, and architectures whose last stages are convolutions, such as "
            "conv_fc, take larger ones."
        )


def _walk(
    build: _Build, mean: typing.Any, size: tuple[int, int], learns_from: str | None, include_top: bool
) -> AlexNet:
    """Applies every stage of the architecture to an image of `size` pixels."""
    architecture = build.architecture
    images = keras.Input((*size, 3), name="images", dtype="float32")
    normalize = layers.Normalize(mean, architecture.scale, name="normalize")
    columns = [layers.on_device(normalize, build.devices[0])(images)]
    for index, stage in enumerate(architecture.stages):
        if not include_top and not stage.name.startswith("conv"):
            break
        if index and stage.name == learns_from:
            columns = [keras.ops.stop_gradient(x) for x in columns]
        columns = _apply_stage(columns, stage, index, build)
    if not include_top:
        return AlexNet(images, _join(columns, "features", build.devices[0]), name=architecture.name)
    [logits] = columns
    if logits.ndim == 4 and tuple(size) == (architecture.image_size,) * 2:
        logits = keras.layers.Flatten("channels_last", name="logits", dtype="float32")(logits)
    return AlexNet(images, logits, name=architecture.name)


def inference_policy(precision: str) -> str:
    """Returns the Keras dtype policy for a network that is no longer trained: the numbers are those of `precision`.

    A mixed policy casts its float32 weights in each step; here they are kept in the dtype of the computation.
    """
    return precision.removeprefix("mixed_")


def for_export(model: keras.Model, lrn_implementation: str) -> keras.Model:
    """Returns a copy of a model for inference, with the same weights and another LRN implementation.

    Args:
        model: From `build_model`.
        lrn_implementation: As in `build_model`.
    """
    # Sixty million random numbers would take seconds.
    changes = {"implementation": lrn_implementation, "kernel_initializer": "zeros"}

    def copy(layer: typing.Any) -> typing.Any:
        layer_config = layer.get_config()
        if isinstance(layer, keras.layers.Layer):  # A split is an operation.
            layer_config["dtype"] = inference_policy(layer.dtype_policy.name)
        return type(layer).from_config(layer_config | {k: v for k, v in changes.items() if k in layer_config})

    twin = keras.models.clone_model(model, clone_function=copy)
    twin.set_weights(model.get_weights())
    return twin


def _apply_stage(columns: Columns, stage: architectures.Stage, index: int, build: _Build) -> Columns:
    """Applies one stage to the columns (one tensor, or one for each tower) and returns the new ones."""
    architecture, devices, seed = build.architecture, build.devices, (build.seed, index)
    # Each tower joins for itself: only the other's half has to cross.
    if stage.input_towers == "both" or stage.towers == 1:
        columns = [_join(columns, f"{name}_input", device) for name, device in zip(stage.layer_names, devices)]
    elif len(columns) == 1:
        columns = keras.ops.split(columns[0], stage.towers, axis=-1)
    dtype = "float32" if stage is architecture.stages[-1] else None
    columns = [
        _apply_weights(x, stage, name, (*seed, tower), dtype, device, build.initialize)
        for tower, (x, name, device) in enumerate(zip(columns, stage.layer_names, devices))
    ]
    for operation in stage.ops:
        if operation == "lrn" and architecture.lrn_across_towers:
            columns = [_join(columns, f"{stage.name}_lrn_input", devices[0])]
        names = stage.layer_names if len(columns) > 1 else (stage.name,)
        columns = [
            layers.on_device(_make_operation(operation, stage, name, build), device)(x)
            for x, name, device in zip(columns, names, devices)
        ]
    return columns


def _join(columns: Columns, name: str, device: str | None) -> keras.KerasTensor:
    """Returns all columns as one tensor."""
    if len(columns) == 1:
        return columns[0]
    return layers.on_device(keras.layers.Concatenate(name=name), device)(columns)


def _apply_weights(
    x: keras.KerasTensor,
    stage: architectures.Stage,
    name: str,
    seed: tuple[int, ...],
    dtype: str | None,
    device: str | None,
    initialize: bool,
) -> keras.KerasTensor:
    """Applies one tower's convolution or dense layer."""
    units = stage.filters // stage.towers
    if not stage.kernel_size and x.ndim == 4:
        x = layers.on_device(keras.layers.Flatten("channels_last", name=f"{name}_flatten"), device)(x)
    fan_in = max(stage.kernel_size, 1) ** 2 * x.shape[-1]
    arguments: dict[str, typing.Any] = {
        "name": name,
        "dtype": dtype,
        "use_bias": stage.bias is not None,
        "kernel_initializer": _initializer(stage.kernel, fan_in, (*seed, 0)),
        "bias_initializer": _initializer(stage.bias, fan_in, (*seed, 1)),
    }
    if not stage.kernel_size:
        layer = keras.layers.Dense(units, **arguments)
    elif stage.is_local:
        layer = layers.LocallyConnected2D(units, stage.kernel_size, stage.padding, **arguments)
    else:
        padding = "valid"
        if stage.strides == 1 and stage.kernel_size % 2 and stage.padding == (stage.kernel_size // 2,) * 2:
            padding = "same"
        elif any(stage.padding):
            pad = keras.layers.ZeroPadding2D((stage.padding, stage.padding), "channels_last", name=f"{name}_pad")
            x = layers.on_device(pad, device)(x)
        layer = keras.layers.Conv2D(units, stage.kernel_size, stage.strides, padding, "channels_last", **arguments)
    initializer = layer.kernel_initializer  # The layer's configuration keeps it also where it is not used.
    if not initialize:
        layer.kernel_initializer = keras.initializers.Zeros()
    outputs = layers.on_device(layer, device)(x)
    layer.kernel_initializer = initializer
    return outputs


def _make_operation(operation: str, stage: architectures.Stage, name: str, build: _Build) -> keras.layers.Layer:
    """Returns the layer of one operation of `stage.ops`."""
    architecture, seed = build.architecture, build.seed
    if operation == "relu":
        return keras.layers.ReLU(name=f"{name}_relu")
    if operation == "tanh":
        return keras.layers.Activation("tanh", name=f"{name}_tanh")
    if operation == "pool":
        pool = stage.pool
        layer = keras.layers.MaxPooling2D if pool.kind == "max" else keras.layers.AveragePooling2D
        return layer(pool.size, pool.strides, pool.padding, "channels_last", name=f"{name}_pool")
    if operation == "dropout":
        return layers.Dropout(architecture.dropout_rate, seed=seed, name=f"{name}_dropout")
    if operation == "lrn":
        return lrn.LocalResponseNormalization(
            **dataclasses.asdict(architecture.lrn), implementation=build.lrn_implementation, name=f"{name}_lrn"
        )
    return lrn.SameMapNormalization(*dataclasses.astuple(architecture.same_map_lrn), name=f"{name}_same_map_lrn")


def _initializer(init: architectures.Init | None, fan_in: int, key: tuple[int, ...]) -> keras.Initializer | None:
    """Returns the initialiser of a weight; its key (seed, stage, tower, which) gives every weight its own numbers."""
    if init is None:
        return None
    seed = int(np.random.SeedSequence(key).generate_state(1)[0]) >> 1
    value = init.value / np.sqrt(fan_in) if init.distribution.endswith("_fan_in") else init.value
    match init.distribution:
        case "constant":
            return keras.initializers.Constant(value)
        case "normal" | "normal_fan_in":
            return keras.initializers.RandomNormal(stddev=value, seed=seed)
        case "truncated_normal":
            return keras.initializers.TruncatedNormal(stddev=value, seed=seed)
        case "uniform_fan_in":
            return keras.initializers.RandomUniform(-value, value, seed=seed)
    raise ValueError(f"distribution is not known: {init.distribution!r}.")
