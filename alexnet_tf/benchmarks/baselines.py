"""With what can the network be compared, and what can be varied? Tables; no framework is imported."""

import importlib.util
from dataclasses import dataclass

from alexnet_tf import errors


@dataclass(frozen=True)
class Baseline:
    """Another framework to compare with."""

    module: str  # Of this package; see `pytorch_baseline.make_workload`. It imports the framework, and no TensorFlow.
    can_train: bool = False
    saved_models: tuple[str, ...] = ()  # LRN implementations of the SavedModels that it reads beside weights.npz.


# By the name of the package that must be installed.
BASELINES = {
    "torch": Baseline("pytorch_baseline", can_train=True),
    "openvino": Baseline("openvino_baseline", saved_models=("builtin", "convolution"))}

# What a sweep can vary, and its values.
SWEEPS = {"batch_size": (16, 32, 64, 128, 256, 512), "devices": (1, 2, 4), "workers": (1, 2)}


def check_options(is_training: bool, baseline: str | None, sweep: str | None) -> None:
    """Checks that this can be measured.

    Raises:
        UserError: Says what to type instead.
    """
    command = "python -m alexnet_tf benchmark"
    if sweep and baseline:
        raise errors.UserError("--sweep compares the network with itself: leave out --baseline.")
    if sweep in ("devices", "workers") and not is_training:
        raise errors.UserError(f"--sweep={sweep} is of training: {command} train --sweep={sweep}")
    if baseline and is_training and not BASELINES[baseline].can_train:
        raise errors.UserError(f"{baseline} cannot train. Compare with it by\n  {command} infer --baseline={baseline}")
    if baseline and importlib.util.find_spec(baseline) is None:
        raise errors.UserError(f"--baseline={baseline} is not installed. Type\n  pip install {baseline}")
