"""A network as a .tflite file that phones and browsers take: static shapes, its labels and metadata inside.

The network must be one of `alexnet.for_export`, in float32. Nothing here compares results: see `exporting`.
"""

import os
import warnings

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.exporting import tflite_metadata

# How the weights are stored, and which form of LRN is the faster with it: measured at full width on two cores (README).
# XNNPACK, which runs everything else, knows no LRN: the built-in op cuts the graph in pieces. As a convolution it is
# one piece, but in integers its square roots are slow, so that int8 keeps the op, in floats.
LRN_IMPLEMENTATIONS = {"float32": "convolution", "float16": "convolution", "dynamic": "convolution", "int8": "builtin"}


def convert(network: keras.Model, quantization: str, class_names, calibration_images=None) -> bytes:
    """Returns a network as a .tflite file.

    The file takes one image [1, size, size, 3], RGB in [0, 255] (uint8 for "int8", float32 else), subtracts the mean
    itself, and gives probabilities float32 [1, classes].

    Args:
        network: From `alexnet.for_export`.
        quantization: A key of `FASTER_LRN`: "float32"; "float16" stores the weights in half; "dynamic" stores them in
            8 bits and computes with them on activations that are rounded as they come; "int8" rounds those to ranges
            found on the calibration images.
        class_names: In the order of the logits.
        calibration_images: uint8 [n, size, size, 3], as training or evaluation cuts them; for "int8" only.
    """
    _, height, width, _ = network.input_shape

    @tf.function(input_signature=[tf.TensorSpec([1, height, width, 3], tf.float32, name="images")], autograph=False)
    def classify(images):
        return {"probabilities": tf.nn.softmax(network(images, training=False))}

    module = tf.Module()
    module.variables_of_the_network = [variable.value for variable in network.trainable_variables]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([classify.get_concrete_function()], module)
    if quantization != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization == "int8":
        converter.representative_dataset = lambda: (
            {"images": image[None].astype("float32")} for image in calibration_images)
        # The built-in LRN stays in float32 all the same: it has no integer kernel, and the converter says nothing.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
    with warnings.catch_warnings():  # The converter warns of the interpreter that it uses itself.
        warnings.filterwarnings("ignore", r"\s*Warning: tf.lite.Interpreter is deprecated", UserWarning)
        return tflite_metadata.add_metadata(converter.convert(), class_names)


class Runner:
    """A .tflite file, ready to run.

    Args:
        path: The file.
        threads: How many threads it may use; all by default.
    """

    def __init__(self, path, threads: int | None = None):
        from ai_edge_litert import interpreter

        self._interpreter = interpreter.Interpreter(str(path), num_threads=threads or os.cpu_count())
        self._interpreter.allocate_tensors()
        [self._input], [self._output] = self._interpreter.get_input_details(), self._interpreter.get_output_details()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Returns the probabilities, float32 [n, classes], of images [n, size, size, 3] in [0, 255]."""
        return np.concatenate([self._run(image) for image in images])

    def _run(self, image):
        self._interpreter.set_tensor(self._input["index"], image[None].astype(self._input["dtype"]))
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output["index"])
