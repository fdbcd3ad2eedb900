"""What all tests share: a quiet TensorFlow with two CPU devices and exact float32, and a small network."""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import keras  # noqa: E402
import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402

from alexnet_tf import config  # noqa: E402

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
tf.config.experimental.enable_tensor_float_32_execution(False)

# Two towers and every kind of step; 67 pixels give maps of 15, 7 (pool), 7 and 3 (pool).
TINY = config.Architecture(
    name="tiny",
    source="the tests",
    image_size=67,
    stages=(
        config.Stage("conv1", 8, 11, strides=4, towers=2, then=("relu", "lrn", "pool")),
        config.Stage("conv2", 8, 5, padding=(2, 2), towers=2, sees="own", then=("relu", "pool")),
        config.Stage("fc6", 8, towers=2, then=("relu", "dropout")),
        config.Stage("fc8", 5, then=()),
    ),
    recipe=config.Recipe(),
)


@pytest.fixture(autouse=True)
def _fresh_keras():
    yield
    keras.config.set_dtype_policy("float32")
    # Collecting garbage after every test would take longer than most tests do.
    keras.backend.clear_session(free_memory=False)
