"""What all tests share: a quiet TensorFlow with two CPU devices and exact float32, and a small network."""

import dataclasses
import io
import itertools
import os
import pathlib
import sys
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402
from tensorflow.python.framework import config as tf_config  # noqa: E402

from alexnet_tf import alexnet, config, datasets, input_pipeline, training, workdir  # noqa: E402

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


# TINY with the fc7 that exports give away, and a little wider and surer, so that it learns to tell five colours apart.
SMALL = dataclasses.replace(
    TINY, name="small", dropout_rate=0.1, stages=(
        *TINY.stages[:2], config.Stage("fc6", 32, towers=2, then=("relu", "dropout")),
        config.Stage("fc7", 16, towers=2, then=("relu", "dropout")), TINY.stages[-1]))


def write_folders(root, classes, paint=None, **counts):
    """Writes PNG files of 70 x 70 pixels: so many of each class in each split, noise about the class's own grey.

    `paint(pixels, label, number)` may change an image before it is written.
    """
    for (split, count), (label, name) in itertools.product(counts.items(), enumerate(classes)):
        folder = root / split / name
        folder.mkdir(parents=True)
        for number in range(count):
            rng = np.random.default_rng([split == "val", label, number])
            pixels = np.clip(rng.normal(50 * label, 20, (70, 70, 3)), 0, 255).astype("uint8")
            if paint:
                paint(pixels, label, number)
            (folder / f"{number}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    return root


def zipped(members, compression=zipfile.ZIP_STORED):
    """Returns a zip file's bytes of its members' by name."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


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
    data = datasets.find(str(colours))
    run = workdir.Workdir(tmp_path_factory.mktemp("runs") / "small")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(config.ARCHITECTURES, "small", SMALL)
        run_config = training.make_run_config(config.TrainConfig(architecture="small", initialization="he"), data)
        model = alexnet.build_model(config.architecture_of(run_config), seed=1)
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
