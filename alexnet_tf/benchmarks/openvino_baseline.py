"""The same network in OpenVINO, for inference: converts our SavedModels. Imports no TensorFlow."""

import os
import pathlib
import time

import openvino

from alexnet_tf import architectures
from alexnet_tf.benchmarks import rounds, worker_process

# Precisions by the names of OpenVINO's hint.
PRECISIONS = {"f32": "float32", "bf16": "bfloat16"}


def make_workload(
    architecture: architectures.Architecture, directory: str, *, batch_size: int, **options: bool
) -> worker_process.Workload:
    """Returns a case for each SavedModel and precision, with one batch at a time and with parallel streams."""
    images, _ = worker_process.random_batch(architecture, batch_size)
    tensor, calls = openvino.Tensor(images, shared_memory=True), {}
    for path in sorted(pathlib.Path(directory).glob("saved_model_*")):
        model = openvino.convert_model(path)
        model.reshape(list(images.shape))
        for hint, precision in PRECISIONS.items():
            for mode, make_trial in ("latency", _one_by_one), ("throughput", _in_streams):
                compiled = openvino.compile_model(model, "CPU", {
                    "INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": mode.upper(),
                    "INFERENCE_NUM_THREADS": os.cpu_count()})
                lrn = path.name.rpartition("_")[2]
                calls[f"{precision}, LRN {lrn}, {mode}"] = make_trial(compiled, tensor, batch_size)
    return worker_process.Workload(calls, {
        "name": "OpenVINO", "version": openvino.__version__.partition("-")[0], "threads": os.cpu_count(),
        "device": "cpu", "data": "uint8 images, normalised in the network"})


def _one_by_one(compiled, tensor, batch_size):
    request = compiled.create_infer_request()
    request.set_input_tensor(tensor)
    return rounds.repeat(request.infer, batch_size)


def _in_streams(compiled, tensor, batch_size):
    """Returns the trial that keeps as many batches in flight as OpenVINO wants."""
    queue = openvino.AsyncInferQueue(compiled)

    def run(seconds: float) -> float:
        for _ in range(len(queue)):
            queue.start_async({0: tensor})
        queue.wait_all()
        done, start = 0, time.perf_counter()
        while done < len(queue) or time.perf_counter() - start < seconds:
            queue.start_async({0: tensor})
            done += 1
        queue.wait_all()
        return done * batch_size / (time.perf_counter() - start)

    return run
