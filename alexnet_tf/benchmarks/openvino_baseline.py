"""The same network in OpenVINO, for comparison of inference: converts our SavedModels, and takes its turns in `turns`.

Imports OpenVINO and not TensorFlow: it is loaded in a process of its own, and only where a comparison is asked for.
"""

import os
import pathlib
import time

import openvino

from alexnet_tf import architectures
from alexnet_tf.benchmarks import worker_process

# Precisions by the names of OpenVINO's hint.
PRECISIONS = {"f32": "float32", "bf16": "bfloat16"}


def make_workload(row: architectures.Architecture, directory, *, batch_size: int) -> worker_process.Workload:
    """Returns OpenVINO's contestants: each SavedModel in each precision, one batch at a time and in parallel streams.

    Args:
        row: The network.
        directory: Where the SavedModels are: saved_model_<form of LRN>.
        batch_size: Images a call.
    """
    images, _ = worker_process.random_batch(row, batch_size)
    calls = {}
    for path in sorted(pathlib.Path(directory).glob("saved_model_*")):
        model = openvino.convert_model(path)
        model.reshape(list(images.shape))
        for hint, precision in PRECISIONS.items():
            for mode in ("latency", "throughput"):
                compiled = openvino.compile_model(model, "CPU", {
                    "INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": mode.upper(),
                    "INFERENCE_NUM_THREADS": os.cpu_count()})
                run = _one_by_one(compiled, images) if mode == "latency" else _in_streams(compiled, images)
                calls[f"{precision}, LRN {path.name.rpartition('_')[2]}, {mode}"] = run
    return worker_process.Workload(calls, {
        "name": "OpenVINO", "version": openvino.__version__.partition("-")[0], "threads": os.cpu_count(),
        "data": "uint8 images, normalised in the network"})


def _one_by_one(compiled, images):
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(images, shared_memory=True))
    return worker_process.repeated(request.infer, len(images))


def _in_streams(compiled, images):
    """Returns the contestant that keeps as many batches under way as OpenVINO wants."""
    queue = openvino.AsyncInferQueue(compiled)
    tensor = openvino.Tensor(images, shared_memory=True)

    def run(seconds: float) -> float:
        batches = len(queue)
        for _ in range(batches):
            queue.start_async({0: tensor})
        queue.wait_all()
        done, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds or done < batches:
            queue.start_async({0: tensor})
            done += 1
        queue.wait_all()
        return done * len(images) / (time.perf_counter() - start)

    return run
