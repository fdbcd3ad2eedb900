"""The class of the networks: a functional Keras model that knows its stages."""

import dataclasses
import os
import warnings
from typing import Any

import keras
import numpy as np

from alexnet_tf.network import xla
from alexnet_tf.support import devices, errors


@dataclasses.dataclass
class Stage:
    """What a name without a tower means: a layer of each tower, or the only one.

    Attributes:
        layers: The layers, tower a first.
        output: Their outputs as one tensor, in the order of the channels. Where there are two, nothing of the network
            is computed from it, so that no gradient comes to it: for Grad-CAM there is the package's `grad_cam`.
    """

    layers: tuple[keras.layers.Layer, ...]
    output: keras.KerasTensor

    @property
    def trainable(self) -> bool:
        """Whether any of the layers learns; to be set before the model is compiled."""
        return any(layer.trainable for layer in self.layers)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self.layers:
            layer.trainable = value

    def get_weights(self) -> list[np.ndarray]:
        """Returns the layers' arrays, those of tower a first."""
        return [array for layer in self.layers for array in layer.get_weights()]


@keras.saving.register_keras_serializable(package="alexnet_tf")
class AlexNet(keras.Model):
    """A functional Keras model that knows the stages of its network: conv1 to fc8, each of one or two layers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As `keras.Model`, of inputs and outputs."""
        devices.check_process()
        super().__init__(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Applies the network to images, as `keras.Model.__call__`."""
        devices.check_process()
        return super().__call__(*args, **kwargs)

    def make_predict_function(self, force: bool = False) -> Any:
        """As `keras.Model.make_predict_function`."""
        devices.check_process()
        return super().make_predict_function(force)

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, *args: Any, **kwargs: Any) -> None:
        """Configures the model for training, as `keras.Model.compile`; warns of a loss that expects another output."""
        gives_logits = not isinstance(self.layers[-1], keras.layers.Softmax)
        for each in keras.tree.flatten(loss):
            if _takes_logits(each) not in (None, gives_logits):
                output, expected = ("logits", "probabilities") if gives_logits else ("probabilities", "logits")
                warnings.warn(
                    f"This network returns {output}, and the loss {each!r} expects {expected}: it will not learn. "
                    "Write, for integer labels, "
                    f"loss=keras.losses.SparseCategoricalCrossentropy(from_logits={gives_logits}).",
                    stacklevel=2,
                )
        super().compile(optimizer, loss, *args, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model as it was; Keras does so only for classes without a `compile` of their own."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration, as `keras.Model.get_config`, such that older versions of Keras know all of it."""
        config = super().get_config()
        for layer in config["layers"]:
            if layer["config"].get("quantization_config", ...) is None:  # Which Dense has since 3.13.
                del layer["config"]["quantization_config"]
        return config

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Saves the model as a .keras file, as `keras.Model.save`.

        Raises:
            UserError: If it ends in .h5, Keras' old format, which cannot hold this class.
        """
        if os.fspath(filepath).endswith((".h5", ".hdf5")):
            raise errors.UserError(
                f"{os.fspath(filepath)} could not be loaded again. Save the model as .keras, or its weights alone with "
                'save_weights("FILE.weights.h5").'
            )
        super().save(filepath, *args, **kwargs)

    def train_step(self, *args: Any, **kwargs: Any) -> Any:
        """Does a step of `fit`, with fast kernels."""
        with xla.fused_kernels():
            return super().train_step(*args, **kwargs)

    def test_step(self, data: Any) -> Any:
        """Does a step of `evaluate`, with fast kernels."""
        with xla.fused_kernels():
            return super().test_step(data)

    def predict_step(self, data: Any) -> Any:
        """Does a step of `predict`, with fast kernels."""
        with xla.fused_kernels():
            return super().predict_step(data)

    def stage(self, name: str) -> Stage:
        """Returns the layers that a name means, both towers' where there are two.

        Args:
            name: A stage, such as "conv1", or a step of one, such as "conv5_pool" or "fc7_relu"; or any layer.

        Raises:
            ValueError: If there is none.
        """
        towers = self._towers(name)
        layers = tuple(super(AlexNet, self).get_layer(each) for each in towers or [name])
        if not towers:
            return Stage(layers, layers[0].output)
        joined = self.__dict__.setdefault("_joined", {})
        if name not in joined:
            joined[name] = keras.layers.Concatenate(name=name)([layer.output for layer in layers])
        return Stage(layers, joined[name])

    def freeze_until(self, name: str) -> None:
        """Freezes all layers up to a stage, as `train.py --freeze_until` does; before the model is compiled.

        Args:
            name: The last stage that does not learn.

        Raises:
            ValueError: If there is none.
        """
        last = max(map(self.layers.index, self.stage(name).layers))
        for layer in self.layers[: last + 1]:
            layer.trainable = False

    def get_layer(self, name: str | None = None, index: int | None = None) -> keras.layers.Layer:
        """Returns a single layer by its name or index, as `keras.Model.get_layer`.

        Raises:
            ValueError: If there is none, or if the name means a layer of each tower: `stage` takes such names.
        """
        if name is not None and (towers := self._towers(name)):
            raise ValueError(f"{name} is two layers, {' and '.join(towers)}; model.stage({name!r}) has both.")
        return super().get_layer(name, index)

    def _towers(self, name: str) -> list[str]:
        """Returns the names of both towers' layers, or none if the name means a single layer."""
        stage, _, operation = name.partition("_")
        names = [f"{stage}_{tower}" + (f"_{operation}" if operation else "") for tower in "ab"]
        return names if {*names} <= {layer.name for layer in self.layers} else []


def _takes_logits(loss: Any) -> bool | None:
    """Returns whether a loss of `compile` expects logits, or None if it expects neither logits nor probabilities."""
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError:
            return None  # Keras will say so.
    name = type(loss).__name__ if isinstance(loss, keras.losses.Loss) else getattr(loss, "__name__", "")
    if not name.replace("_", "").lower().endswith(("crossentropy", "kldivergence")):
        return None
    return bool(loss.get_config().get("from_logits", False)) if isinstance(loss, keras.losses.Loss) else False
