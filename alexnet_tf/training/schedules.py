"""What a run does to the learning rate: warm-up, steps, cosine, plateau."""

import dataclasses
import math

from alexnet_tf import recipes


@dataclasses.dataclass
class Plateau:
    """What the "plateau" schedule remembers.

    Attributes:
        best_error: Lowest validation error so far.
        stale_epochs: Epochs since then, or since the last division.
        divisions: How often the rate was divided by 10; at most `MAX_DIVISIONS`.
    """

    MAX_DIVISIONS = 3

    best_error: float = math.inf
    stale_epochs: int = 0
    divisions: int = 0

    def update(self, error: float, patience: int) -> bool:
        """Takes an epoch's validation error; returns whether training is over: stalled after the last division."""
        if error < self.best_error:
            self.best_error, self.stale_epochs = error, 0
            return False
        self.stale_epochs += 1
        if self.stale_epochs < patience:
            return False
        self.stale_epochs = 0
        self.divisions += 1
        return self.divisions > self.MAX_DIVISIONS


def rate_factor(recipe: recipes.Recipe, progress: float, divisions: int = 0) -> float:
    """Returns the factor on the learning rate, warm-up left out.

    Args:
        recipe: Its schedule decides.
        progress: Fraction of the run that is done, in [0, 1].
        divisions: Of the plateau schedule.
    """
    if recipe.schedule == "plateau":
        return 0.1 ** divisions
    if recipe.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return step_factor(recipe.steps, progress)


def step_factor(steps, progress: float) -> float:
    """Returns the factor of the last step that has begun. At 25/91 of 91 epochs, epoch 25 is inside."""
    return ([1.0] + [factor for begin, factor in steps if progress >= begin - 1e-9])[-1]


def is_stuck(train_loss: float, chance_loss: float, steps: int) -> bool:
    """Says whether a network has learned nothing: its cross-entropy is that of guessing by the classes' frequencies.

    Args:
        train_loss: Mean cross-entropy over an epoch, in nats.
        chance_loss: Entropy of the classes, ln(classes) if they are equally frequent.
        steps: Steps done; before 100 nothing is said.
    """
    return steps >= 100 and 0.98 * chance_loss < train_loss < 1.1 * chance_loss
