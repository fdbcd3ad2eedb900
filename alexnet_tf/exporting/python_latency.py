"""How long do the Keras model and the SavedModel take in Python, by number of threads?

Each number of threads is measured in a process of its own, because TensorFlow takes it once, before anything is
computed. Importing this module loads no TensorFlow, so that those processes can import it quietly.
"""

import multiprocessing

from alexnet_tf.exporting import latency, quiet
from alexnet_tf.support import processors

KERAS_MODEL, SAVED_MODEL = "Keras model", "SavedModel"


def measure(path: str, checkpoint: str, version: str | None) -> dict[str, dict[int, float]]:
    """Measures both on one image.

    Args:
        path: The run's directory.
        checkpoint: "last" or "best".
        version: The SavedModel's version directory, if there is one.

    Returns:
        {name: {threads: milliseconds}}.
    """
    context = multiprocessing.get_context("spawn")
    times: dict[str, dict[int, float]] = {}
    for count in latency.thread_counts():
        with context.Pool(1, processors.hide_gpus) as pool:
            for name, milliseconds in pool.apply(_measure_here, (path, checkpoint, version, count)).items():
                times.setdefault(name, {})[count] = milliseconds
    return times


def _measure_here(path: str, checkpoint: str, version: str | None, count: int) -> dict[str, float]:
    """Runs in a process of its own: returns {name: milliseconds} with a number of threads."""
    with quiet.quiet_standard_error():
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(count)
        tf.config.threading.set_inter_op_parallelism_threads(count)
        from alexnet_tf.exporting import saved_model
        from alexnet_tf.runs.directory import RunDirectory, load_model

        model, run_config, _ = load_model(RunDirectory(path), checkpoint, precision="float32")
    image = tf.zeros([1, run_config.image_size, run_config.image_size, 3])
    forward = tf.function(lambda images: model(images, training=False), autograph=False)
    times = {KERAS_MODEL: latency.milliseconds(lambda: forward(image))}
    if version:
        signature = saved_model.restore(version).signatures["images"]
        times[SAVED_MODEL] = latency.milliseconds(lambda: signature(image))
    return times
