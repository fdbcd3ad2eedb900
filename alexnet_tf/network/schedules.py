"""What happens to the learning rate over a run: each schedule with its tables and its state. Standard library only."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any

from alexnet_tf.support import errors

if typing.TYPE_CHECKING:
    from alexnet_tf.network import recipes


@dataclasses.dataclass(frozen=True)
class Rates:
    """The learning rates of one step.

    Attributes:
        kernels: Learning rate of the kernels.
        bias_multiplier: The biases' rate over the kernels'.
        conv1_multiplier: A further factor on conv1's kernels; 0 freezes them.
    """

    kernels: float
    bias_multiplier: float
    conv1_multiplier: float


class Schedule:
    """A constant rate after the recipe's warm-up; the classes derived from it say how it changes.

    Args:
        recipe: Rate, warm-up, and the tables that its source states.
        state: What the schedule remembered when a checkpoint was written, as JSON holds it; by default `START`.

    Attributes:
        HELP: What becomes of the rate.
        START: What it remembers before the first epoch.
        state: What it remembers.
    """

    HELP = "does not change"
    START: Mapping[str, Any] = {}

    def __init__(self, recipe: recipes.Recipe, state: Mapping[str, Any] | None = None) -> None:
        self.recipe, self.state = recipe, dict(state or self.START)

    @property
    def description(self) -> str:
        """A phrase for a person."""
        return self.recipe.schedule

    @property
    def is_over(self) -> bool:
        """Whether the schedule ends the run before its last epoch."""
        return False

    def factor(self, progress: float) -> float:
        """Returns the factor on the rate after a fraction of the run."""
        return 1.0

    def bias_factor(self, progress: float) -> float:
        """Returns the factor on the biases' rate over the kernels'."""
        return 1.0

    def conv1_factor(self, progress: float) -> float:
        """Returns the factor on the rate of conv1's kernels over the others'."""
        return 1.0

    def has_colour_noise(self, epoch: int) -> bool:
        """Returns whether an epoch, counted from 0, has the colour noise of Section 4.1."""
        return self.recipe.colour_noise

    def end_epoch(self, error: float) -> str | None:
        """Takes an epoch's validation error; returns a sentence for a person where it changes something."""
        return None

    def rates(self, step: int, total_steps: int) -> Rates:
        """Returns the learning rates of a step.

        Args:
            step: Steps done since the start.
            total_steps: Steps of the whole run.
        """
        recipe, progress = self.recipe, step / total_steps
        warm_up = min(1.0, (step + 1) / recipe.warmup_steps) if recipe.warmup_steps else 1.0
        return Rates(
            recipe.learning_rate * self.factor(progress) * warm_up,
            recipe.bias_learning_rate_multiplier * self.bias_factor(progress),
            self.conv1_factor(progress),
        )

    def epochs_alike(self, epoch: int) -> int:
        """Returns for how many epochs, from this one on, the images are made in the same way."""
        is_noisy, end = self.has_colour_noise(epoch), epoch + 1
        while end < self.recipe.epochs and self.has_colour_noise(end) == is_noisy:
            end += 1
        return end - epoch


class Cosine(Schedule):
    """Falls to zero over the run."""

    HELP = "falls to zero over the run"

    def factor(self, progress: float) -> float:
        """Half a cosine."""
        return 0.5 * (1 + math.cos(math.pi * progress))


class Steps(Schedule):
    """Follows the tables of the architecture's source: `steps`, `bias_steps`, `conv1_steps`, `colour_noise_until`."""

    HELP = "follows the architecture's own table"

    def __init__(self, recipe: recipes.Recipe, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(recipe, state)
        if not recipe.steps:
            raise errors.UserError(
                "schedule=steps needs an architecture whose source states steps, and this one's does not. Use plateau "
                "or cosine."
            )

    def factor(self, progress: float) -> float:
        """The table's."""
        return _last_begun(self.recipe.steps, progress)

    def bias_factor(self, progress: float) -> float:
        """The biases' own table over that of the kernels."""
        table = self.recipe.bias_steps
        return 1.0 if table is None else _last_begun(table, progress) / self.factor(progress)

    def conv1_factor(self, progress: float) -> float:
        """The table's."""
        return _last_begun(self.recipe.conv1_steps, progress)

    def has_colour_noise(self, epoch: int) -> bool:
        """Off after a fraction of the run."""
        return self.recipe.colour_noise and epoch / self.recipe.epochs < self.recipe.colour_noise_until


class Plateau(Schedule):
    """Divides the rate by 10 when the validation error stops falling, at most three times (Section 5).

    It remembers the lowest error, the epochs since then or since the last division, and the divisions.
    """

    MAX_DIVISIONS = 3

    HELP = "is divided by 10 when the validation error stops falling"
    START = {"best_error": math.inf, "stale_epochs": 0, "divisions": 0}

    @property
    def description(self) -> str:
        """With the patience."""
        return f"plateau, patience {self.recipe.patience} epochs"

    @property
    def is_over(self) -> bool:
        """Stalled after the last division."""
        return self.state["divisions"] > self.MAX_DIVISIONS

    def factor(self, progress: float) -> float:
        """A power of ten."""
        return 0.1 ** self.state["divisions"]

    def end_epoch(self, error: float) -> str | None:
        """Divides the rate, or ends the run."""
        if error < self.state["best_error"]:
            self.state |= {"best_error": error, "stale_epochs": 0}
            return None
        self.state["stale_epochs"] += 1
        if self.state["stale_epochs"] < self.recipe.patience:
            return None
        self.state["stale_epochs"] = 0
        self.state["divisions"] += 1
        stalled = f"The validation error has not fallen for {self.recipe.patience} epochs"
        if self.is_over:
            return f"{stalled} after the rate was divided {self.MAX_DIVISIONS} times: training ends here (Section 5)."
        return f"{stalled}: the rate is divided by 10."


SCHEDULES: dict[str, type[Schedule]] = {"plateau": Plateau, "steps": Steps, "cosine": Cosine, "constant": Schedule}


def make(recipe: recipes.Recipe, state: Mapping[str, Any] | None = None) -> Schedule:
    """Returns the schedule of a recipe, with the state that a checkpoint holds, if there is one.

    Raises:
        UserError: If the recipe lacks what its schedule needs.
    """
    return SCHEDULES[recipe.schedule](recipe, state)


def _last_begun(steps: tuple[tuple[float, float], ...], progress: float) -> float:
    """Returns the factor of the last step that has begun. Epoch 25 of 91 counts as begun at 25/91."""
    return ([1.0] + [factor for begin, factor in steps if progress >= begin - 1e-9])[-1]
