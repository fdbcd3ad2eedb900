"""AlexNet in TensorFlow and Keras: every published version, from raw images to a served and a mobile model.

    alexnet_tf.build_model("paper", num_classes=10)    an ordinary Keras model
    alexnet_tf.load_run("runs/paper-demo")             a trained run: .model, .class_names, .predict(paths or arrays)
    alexnet_tf.load_pretrained("torchvision")          the same of public ImageNet weights
    alexnet_tf.ARCHITECTURES                           the published networks as data

Importing this package imports no TensorFlow; the first use of `build_model` or `load_run` does. Once it was imported,
Keras reads the .keras files of these networks.
"""

import importlib
import os
import sys
from typing import Any

from alexnet_tf.network import keras_objects

__version__ = "1.0.0"

__all__ = ["ARCHITECTURES", "Run", "UserError", "build_model", "grad_cam", "load_pretrained", "load_run"]

_HOMES = {
    "ARCHITECTURES": "network.architectures",
    "Run": "api",
    "UserError": "support.errors",
    "build_model": "api",
    "grad_cam": "evaluation.views",
    "load_pretrained": "api",
    "load_run": "api",
}

if "keras" not in sys.modules:
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # Before the user's keras.json.

keras_objects.register_with_keras()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
