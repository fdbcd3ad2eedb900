"""Which frameworks can the network be compared with, and what can a sweep vary? Imports no framework."""

import importlib.util
from dataclasses import dataclass

from alexnet_tf.support import errors, shell


@dataclass(frozen=True)
class Baseline:
    """Another framework."""

    module: str  # Module of this package with a `make_workload`; it imports the framework and no TensorFlow.
    can_train: bool = False
    saved_models: tuple[str, ...] = ()  # LRN implementations of the SavedModels that it reads, beside weights.npz.


# By the name of the package that must be installed.
BASELINES = {
    "torch": Baseline("pytorch_baseline", can_train=True),
    "openvino": Baseline("openvino_baseline", saved_models=("builtin", "convolution")),
}

# Default values of what a sweep varies.
SWEEPS = {"batch_size": (16, 32, 64, 128, 256, 512), "devices": (1, 2, 4), "workers": (1, 2)}


def check_options(is_training: bool, baseline: str | None, sweep: str | None) -> None:
    """Checks that a combination of options can be measured.

    Raises:
        UserError: If not, with the command that can, or if the baseline is not installed.
    """
    if sweep and baseline:
        raise errors.UserError("--sweep compares the network with itself: leave out --baseline.")
    if sweep in ("devices", "workers") and not is_training:
        line = shell.command_line("benchmark", "train", sweep=sweep)
        raise errors.UserError(f"--sweep={sweep} is for training: {line}")
    if baseline and is_training and not BASELINES[baseline].can_train:
        line = shell.command_line("benchmark", "infer", baseline=baseline)
        raise errors.UserError(f"{baseline} cannot train. Compare inference:\n  {line}")
    if baseline and importlib.util.find_spec(baseline) is None:
        raise errors.UserError(f"--baseline={baseline} is not installed:\n  pip install {baseline}")
