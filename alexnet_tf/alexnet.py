"""The network: walks a row of `config.ARCHITECTURES` and returns a functional Keras model.

Every choice that distinguishes the published versions is in the row; nothing here branches on a row's name.
"""

import keras
import numpy as np

from alexnet_tf import architectures, layers, lrn


def build_model(
    architecture: architectures.Architecture, *, mean=None, seed: int = 0, image_size: int | None = None,
    precision: str | None = None, tower_devices: tuple[str, str] | None = None,
    learns_from: str | None = None, lrn_implementation: str = "builtin") -> keras.Model:
    """Builds a published AlexNet with random weights.

    The input normalisation, LRN and the logits are float32 under every precision. The variables' names and shapes
    depend on the row only.

    Args:
        architecture: A row of `config.ARCHITECTURES`, or one derived from it.
        mean: What the first layer subtracts, RGB in [0, 255]: shape [3], or [size, size, 3] for a mean image.
            The row's by default.
        seed: Fixes the initial weights and the dropout masks.
        image_size: Side of the input in pixels; the row's by default. Only rows whose last stages are
            convolutions accept a larger one, and then give a map of logits.
        precision: Keras dtype policy, such as "mixed_bfloat16"; by default the global one.
        tower_devices: Where tower a and tower b keep their weights and compute; what follows the towers is with
            tower a. By default where TensorFlow puts them. Names, shapes and numbers do not depend on it.
        learns_from: Name of the lowest stage that learns: no gradient goes below it. By default the first.
        lrn_implementation: One of `lrn.IMPLEMENTATIONS`; "xla" also fuses the normalisation of the input.

    Returns:
        Model from RGB images [batch, size, size, 3] in [0, 255] to logits float32 [batch, num_classes], or
        [batch, rows, columns, num_classes] for an image larger than the row's.

    Raises:
        ValueError: If the row cannot take images of `image_size`, or has no two towers for two devices.
    """
    if tower_devices and not architectures.has_two_columns(architecture):
        two = ", ".join(name for name, row in architectures.ARCHITECTURES.items() if architectures.has_two_columns(row))
        raise ValueError(
            f"{architecture.name} has not two towers in every stage from conv1 to fc7, and so cannot be divided between "
            f"two devices. These can: {two}.")
    size = image_size or architecture.image_size
    if size < architecture.image_size or size > architecture.image_size and not architecture.stages[-1].kernel_size:
        raise ValueError(
            f"{architecture.name} takes images of {architecture.image_size} pixels; got image_size={size}. Larger "
            "ones are only for rows whose last stages are convolutions, such as conv_fc.")
    mean = architecture.mean if mean is None else mean
    global_policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision or global_policy)
    try:
        return _walk(architecture, mean, seed, size, tower_devices or (None, None), learns_from, lrn_implementation)
    finally:
        keras.config.set_dtype_policy(global_policy)


def _walk(architecture, mean, seed, size, devices, learns_from, lrn_implementation):
    """Applies every stage of the row to an image of `size` pixels."""
    images = keras.Input((size, size, 3), name="images")
    normalize = layers.Normalize(mean, architecture.scale, fused=lrn_implementation == "xla", name="normalize")
    columns = [layers.on_device(normalize, devices[0])(images)]
    for index, stage in enumerate(architecture.stages):
        if index and stage.name == learns_from:
            columns = [keras.ops.stop_gradient(x) for x in columns]
        columns = _apply_stage(columns, stage, architecture, (seed, index), devices, lrn_implementation)
    [logits] = columns
    if logits.ndim == 4 and size == architecture.image_size:
        logits = keras.layers.Flatten(name="logits", dtype="float32")(logits)
    return keras.Model(images, logits, name=architecture.name)


def inference_policy(precision: str) -> str:
    """Returns the Keras dtype policy for a network that learns no more: the numbers are those of `precision`.

    A mixed policy casts its float32 weights in each step; here they are kept in the dtype that is computed in.
    """
    return precision.removeprefix("mixed_")


def for_export(model: keras.Model, lrn_implementation: str) -> keras.Model:
    """Returns a copy of a model with the same weights that learns no more, with another LRN implementation.

    Args:
        model: From `build_model`.
        lrn_implementation: As in `build_model`; exports take "builtin" or "convolution".
    """
    # Sixty million random numbers would take seconds.
    changes = {"implementation": lrn_implementation, "fused": lrn_implementation == "xla", "kernel_initializer": "zeros"}

    def copy(layer):
        layer_config = layer.get_config()
        if isinstance(layer, keras.layers.Layer):  # A split is an operation.
            layer_config["dtype"] = inference_policy(layer.dtype_policy.name)
        return type(layer).from_config(layer_config | {k: v for k, v in changes.items() if k in layer_config})

    twin = keras.models.clone_model(model, clone_function=copy)
    twin.set_weights(model.get_weights())
    return twin


def layer_names(architecture: architectures.Architecture) -> list[str]:
    """Returns the names of the weight layers in order: `conv1_a`, `conv1_b`, ... `fc8`."""
    return architecture.layer_names


def _apply_stage(columns, stage, architecture, seed, devices, lrn_implementation):
    """Applies one stage to the columns (one tensor, or one for each tower) and returns the new ones."""
    if stage.input_towers == "both" or stage.towers == 1:  # Each tower joins for itself: only the other's half has to cross.
        columns = [_join(columns, name, device) for name, device in zip(stage.layer_names, devices)]
    elif len(columns) == 1:
        columns = keras.ops.split(columns[0], stage.towers, axis=-1)
    is_last = stage is architecture.stages[-1]
    columns = [
        _weigh(x, stage, name, (*seed, tower), "float32" if is_last else None, device)
        for tower, (x, name, device) in enumerate(zip(columns, stage.layer_names, devices))]
    for step in stage.ops:
        if step == "lrn" and architecture.lrn_across_towers:
            columns = [_join(columns, f"{stage.name}_lrn", devices[0])]
        names = stage.layer_names if len(columns) > 1 else [stage.name]
        columns = [
            layers.on_device(_follower(step, stage, architecture, name, seed[0], lrn_implementation), device)(x)
            for x, name, device in zip(columns, names, devices)]
    return columns


def _join(columns, reader: str, device):
    """Returns all columns as one tensor, for the layer `reader`."""
    if len(columns) == 1:
        return columns[0]
    return layers.on_device(keras.layers.Concatenate(name=f"{reader}_input"), device)(columns)


def _weigh(x, stage, name, seed, dtype, device):
    """Applies one tower's convolution or dense layer."""
    units = stage.filters // stage.towers
    if not stage.kernel_size and x.ndim == 4:
        x = layers.on_device(keras.layers.Flatten(name=f"{name}_flatten"), device)(x)
    fan_in = max(stage.kernel_size, 1) ** 2 * x.shape[-1]
    arguments = {
        "name": name, "dtype": dtype, "use_bias": stage.bias is not None,
        "kernel_initializer": _initializer(stage.kernel, fan_in, (*seed, 0)),
        "bias_initializer": _initializer(stage.bias, fan_in, (*seed, 1))}
    if not stage.kernel_size:
        return layers.on_device(keras.layers.Dense(units, **arguments), device)(x)
    if stage.is_local:
        local = layers.LocallyConnected2D(units, stage.kernel_size, stage.padding, **arguments)
        return layers.on_device(local, device)(x)
    padding = "valid"
    if stage.strides == 1 and stage.kernel_size % 2 and stage.padding == (stage.kernel_size // 2,) * 2:
        padding = "same"
    elif any(stage.padding):
        pad = keras.layers.ZeroPadding2D((stage.padding, stage.padding), name=f"{name}_pad")
        x = layers.on_device(pad, device)(x)
    convolution = keras.layers.Conv2D(
        units, stage.kernel_size, strides=stage.strides, padding=padding, **arguments)
    return layers.on_device(convolution, device)(x)


def _follower(step, stage, architecture, name, seed, lrn_implementation):
    """Returns the layer of one step of `stage.ops`."""
    if step == "relu":
        return keras.layers.ReLU(name=f"{name}_relu")
    if step == "tanh":
        return keras.layers.Activation("tanh", name=f"{name}_tanh")
    if step == "pool":
        pool = stage.pool
        layer = keras.layers.MaxPooling2D if pool.kind == "max" else keras.layers.AveragePooling2D
        return layer(pool.size, pool.strides, pool.padding, name=f"{name}_pool")
    if step == "dropout":
        return layers.Dropout(architecture.dropout_rate, seed=seed, name=f"{name}_dropout")
    if step == "lrn":
        constants = architecture.lrn
        return lrn.LocalResponseNormalization(
            constants.depth_radius, constants.bias, constants.alpha, constants.beta, implementation=lrn_implementation,
            name=f"{name}_lrn")
    constants = architecture.same_map_lrn
    return lrn.SameMapNormalization(
        constants.depth_radius, constants.bias, constants.alpha, constants.beta, name=f"{name}_same_map_lrn")


def _initializer(init: architectures.Init | None, fan_in: int, key: tuple[int, ...]):
    """Returns the initialiser of a weight; its key (seed, stage, tower, which) gives every weight its own numbers."""
    if init is None:
        return None
    seed = int(np.random.SeedSequence(key).generate_state(1)[0]) >> 1
    if init.distribution == "constant":
        return keras.initializers.Constant(init.value)
    if init.distribution == "normal":
        return keras.initializers.RandomNormal(stddev=init.value, seed=seed)
    if init.distribution == "normal_fan_in":
        return keras.initializers.RandomNormal(stddev=init.value / np.sqrt(fan_in), seed=seed)
    if init.distribution == "truncated_normal":
        return keras.initializers.TruncatedNormal(stddev=init.value, seed=seed)
    if init.distribution == "uniform_fan_in":
        limit = init.value / np.sqrt(fan_in)
        return keras.initializers.RandomUniform(-limit, limit, seed=seed)
    raise ValueError(f"distribution is not known: {init.distribution!r}.")
