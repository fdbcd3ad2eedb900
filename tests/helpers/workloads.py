"""Workloads of the benchmark without their processes."""

import importlib


class InThisProcess:
    """Stands for a `WorkerProcess`: the workload is made and called here."""

    def __init__(self, make, **arguments):
        module, function = make.split(":")
        self._workload = getattr(importlib.import_module(module), function)(**arguments)
        self.names, self.facts = list(self._workload.calls), self._workload.facts

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def call(self, name, *arguments):
        return self._workload.calls[name](*arguments)

    def peak_memory(self, name):
        return self._workload.peak_memory(lambda: self.call(name, 0.0))[1]

    def trial(self, name):
        return lambda seconds: self.call(name, seconds)
