"""The same network in OpenVINO, for inference: converts our SavedModels. Imports no TensorFlow."""

import functools
import pathlib

import openvino

from alexnet_tf.benchmarks import rounds, worker_process
from alexnet_tf.exporting import engines
from alexnet_tf.network import architectures
from alexnet_tf.support import processors

# Precisions by the values of OpenVINO's INFERENCE_PRECISION_HINT.
PRECISIONS = {"f32": "float32", "bf16": "bfloat16"}


def make_workload(
    architecture: architectures.Architecture, directory: str, *, batch_size: int, **options: bool
) -> worker_process.Workload:
    """Returns a case for each SavedModel, precision and mode: one batch at a time, or as many as OpenVINO asks for."""
    images, _ = worker_process.random_batch(architecture, batch_size)
    tensor, calls, threads = openvino.Tensor(images, shared_memory=True), {}, processors.available_cpus()
    for path in sorted(pathlib.Path(directory).glob("saved_model_*")):
        model = openvino.convert_model(path)
        model.reshape(list(images.shape))
        lrn = path.name.rpartition("_")[2]
        for hint, precision in PRECISIONS.items():
            for mode in "latency", "throughput":
                compiled = engines.openvino_core().compile_model(
                    model,
                    "CPU",
                    {
                        "INFERENCE_PRECISION_HINT": hint,
                        "PERFORMANCE_HINT": mode.upper(),
                        "INFERENCE_NUM_THREADS": threads,
                    },
                )
                queue = openvino.AsyncInferQueue(compiled, 1 if mode == "latency" else 0)  # 0: as many as it asks for.
                calls[f"{precision}, LRN {lrn}, {mode}"] = rounds.repeat(
                    functools.partial(_start_batches, queue, tensor), len(queue) * batch_size, queue.wait_all
                )
    return worker_process.Workload(
        calls,
        {
            "name": "OpenVINO",
            "version": openvino.__version__.partition("-")[0],
            "threads": threads,
            "device": "cpu",
            "data": "uint8 images, normalised in the network",
        },
    )


def _start_batches(queue, tensor):
    """Starts as many batches as may run at a time, each as soon as an earlier one is done."""
    for _ in range(len(queue)):
        queue.start_async({0: tensor})
