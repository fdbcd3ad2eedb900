"""The same network in OpenVINO, for inference: converts our SavedModel. Imports no TensorFlow."""

import pathlib

import openvino

from alexnet_tf.benchmarks import rounds
from alexnet_tf.exporting import engines
from alexnet_tf.network import architectures
from alexnet_tf.support import processors


def make_workload(
    architecture: architectures.Architecture, directory: str, *, batch_size: int, **_: bool
) -> rounds.Workload:
    """Returns a case for each precision and mode: one batch at a time, or as many as OpenVINO asks for.

    Args:
        architecture: The network.
        directory: Directory of saved_model.
        batch_size: Images in a batch.
    """
    images, _labels = rounds.random_batch(architecture, batch_size)
    tensor, trials, threads = openvino.Tensor(images, shared_memory=True), {}, processors.available_cpus()
    model = openvino.convert_model(pathlib.Path(directory, "saved_model"))
    model.reshape(list(images.shape))
    for hint, precision in ("f32", "float32"), ("bf16", "bfloat16"):
        for mode, jobs in ("latency", 1), ("throughput", 0):  # 0: as many as it asks for.
            options = {
                "INFERENCE_PRECISION_HINT": hint,
                "PERFORMANCE_HINT": mode.upper(),
                "INFERENCE_NUM_THREADS": threads,
            }
            queue = openvino.AsyncInferQueue(engines.openvino_core().compile_model(model, "CPU", options), jobs)

            def start(queue: openvino.AsyncInferQueue = queue) -> None:
                """Starts as many batches as may run at a time, each as soon as an earlier one is done."""
                for _ in range(len(queue)):
                    queue.start_async({0: tensor})

            trials[f"OpenVINO {precision}: {mode}"] = rounds.repeat(start, len(queue) * batch_size, queue.wait_all)
    return trials, {"machine": f"OpenVINO {openvino.__version__}, {threads} threads"}
