"""What a helper process finds in its environment. Imports nothing, so that the process starts quickly."""

import concurrent.futures
import os


def visible_gpus(*_):
    """Returns the GPUs that a process sees, as the CUDA libraries do."""
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def as_latency(*_):
    """Returns them as a measurement of `python_latency` does its names."""
    return {visible_gpus(): 0.0}


class PoolThatAsks(concurrent.futures.ProcessPoolExecutor):
    """A pool that asks its processes for the GPUs they see, whatever they should do."""

    def submit(self, function, /, *arguments, **options):
        return super().submit(visible_gpus)
