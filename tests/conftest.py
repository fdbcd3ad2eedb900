"""What all tests share: a quiet TensorFlow with two CPU devices and exact float32, and a small network."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402
from tensorflow.python.framework import config as tf_config  # noqa: E402

from alexnet_tf import alexnet, architectures, runs  # noqa: E402
from alexnet_tf.data import discovery, input_pipeline  # noqa: E402
from alexnet_tf.run_config import TrainConfig  # noqa: E402
from alexnet_tf.training import trainer  # noqa: E402
from tests.helpers.networks import SMALL  # noqa: E402

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
tf.config.experimental.enable_tensor_float_32_execution(False)


@pytest.fixture(scope="session")
def colours(tmp_path_factory):
    """Class folders: 20 training and 24 validation images of each of five colours, JPEG and PNG, of several shapes."""
    root = tmp_path_factory.mktemp("colours")
    for split, count in (("train", 20), ("val", 24)):
        for label, name in enumerate(("red", "yellow", "green", "blue", "gr\u00fcn \u00fc")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                rng = np.random.default_rng([split == "val", label, number])
                colour = np.array([[220, 30, 30], [220, 220, 30], [30, 160, 30], [30, 30, 220], [240, 240, 240]][label])
                pixels = np.clip(rng.normal(colour, 25, (*rng.integers(60, 90, 2), 3)), 0, 255).astype("uint8")
                encode, ending = ((tf.io.encode_jpeg, "jpg"), (tf.io.encode_png, "png"))[number % 2]
                (folder / f"{number}.{ending}").write_bytes(encode(pixels).numpy())
    return root


@pytest.fixture(scope="session")
def small_run(colours, tmp_path_factory):
    """A run of SMALL that tells the colours apart: fitted in seconds, and kept as `training` keeps one."""
    data = discovery.find_dataset(str(colours))
    run = runs.RunDirectory(tmp_path_factory.mktemp("runs") / "small")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(architectures.ARCHITECTURES, "small", SMALL)
        run_config = trainer.make_run_config(TrainConfig(architecture="small", initialization="he"), data)
        model = alexnet.build_model(run_config.architecture, seed=1)
    [(images, labels)] = input_pipeline.evaluation_batches(
        data.splits["train"], batch_size=100, image_size=67, resize="paper")
    model.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    order = np.random.default_rng(0).permutation(100)
    model.fit(images.numpy()[order, 0], labels.numpy()[order], batch_size=20, epochs=30, shuffle=False, verbose=0)
    run.write_config(run_config, data.class_names)
    run.write_checkpoint(150, {variable.path: variable.numpy() for variable in model.variables}, {"epoch": 30})
    return run


@pytest.fixture(autouse=True)
def _fresh_keras():
    yield
    keras.config.set_dtype_policy("float32")
    tf_config.disable_op_determinism()
    # Collecting garbage after every test would take longer than most tests do.
    keras.backend.clear_session(free_memory=False)
