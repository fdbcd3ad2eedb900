"""How a gradient moves a weight: SGD with momentum, Adam, AdamW. Plain arithmetic, so that it imports nothing.

`training.optimizer` does the rest for every rule: bounds the gradient, decays, and multiplies the rates.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# Kingma and Ba 2015; epsilon as Keras has it.
_BETA_2, _EPSILON = 0.999, 1e-7


@dataclasses.dataclass(frozen=True)
class Rule:
    """An update rule.

    Attributes:
        change: (gradient, slots, rate, step, momentum) -> (what is added to the weight, the new slots). The step counts
            from 1. All but the momentum may be tensors.
        purpose: What it is, for `--help`.
        slots: Names of what it remembers of each weight; zero at the start.
        is_decoupled: Whether the decay is taken from the weight itself instead of being added to its gradient.
        defaults: Values of fields of `recipes.Recipe` where nothing else is asked for: no source states them.
    """

    change: Callable[[Any, Sequence[Any], Any, Any, float], tuple[Any, tuple[Any, ...]]]
    purpose: str
    slots: tuple[str, ...]
    is_decoupled: bool = False
    defaults: Mapping[str, float] = dataclasses.field(default_factory=dict)


def _sgd(gradient: Any, slots: Sequence[Any], rate: Any, step: Any, momentum: float) -> tuple[Any, tuple[Any, ...]]:
    """The paper's (Section 5; Caffe's is the same): velocity = momentum * velocity - rate * gradient."""
    velocity = momentum * slots[0] - rate * gradient
    return velocity, (velocity,)


def _adam(gradient: Any, slots: Sequence[Any], rate: Any, step: Any, momentum: float) -> tuple[Any, tuple[Any, ...]]:
    """The rate over the root of the mean square; the momentum is beta_1."""
    mean = momentum * slots[0] + (1 - momentum) * gradient
    square = _BETA_2 * slots[1] + (1 - _BETA_2) * gradient * gradient
    rate = rate * (1 - _BETA_2**step) ** 0.5 / (1 - momentum**step)
    return -rate * mean / (square**0.5 + _EPSILON), (mean, square)


UPDATE_RULES = {
    "sgd": Rule(_sgd, "the paper's, with momentum", ("momentum",)),
    "adam": Rule(
        _adam,
        "its rate is 1e-4 by default",
        ("momentum", "velocity"),
        False,
        {"learning_rate": 1e-4, "weight_decay": 0.0},
    ),
    "adamw": Rule(
        _adam,
        "the same with decoupled decay",
        ("momentum", "velocity"),
        True,
        {"learning_rate": 1e-4, "weight_decay": 0.01},
    ),
}
