"""What a run does to the learning rate: warm-up, steps, cosine, plateau."""

import dataclasses
import math

from alexnet_tf.network import recipes


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


# The factor on the learning rate, from (recipe, fraction of the run that is done, divisions of the plateau).
SCHEDULES = {
    "plateau": lambda recipe, progress, divisions: 0.1**divisions,
    "steps": lambda recipe, progress, divisions: step_factor(recipe.steps, progress),
    "cosine": lambda recipe, progress, divisions: 0.5 * (1 + math.cos(math.pi * progress)),
}


def rates(recipe: recipes.Recipe, step: int, total_steps: int, divisions: int = 0) -> Rates:
    """Returns the learning rates of a step.

    Args:
        recipe: Its rate, schedule, warm-up and multipliers.
        step: Steps done since the start.
        total_steps: Steps of the whole run.
        divisions: How often the "plateau" schedule has divided the rate.
    """
    progress = step / total_steps
    factor = SCHEDULES[recipe.schedule](recipe, progress, divisions)
    warm_up = min(1.0, (step + 1) / recipe.warmup_steps) if recipe.warmup_steps else 1.0
    bias_multiplier, conv1_multiplier = recipe.bias_learning_rate_multiplier, 1.0
    if recipe.schedule == "steps":
        conv1_multiplier = step_factor(recipe.conv1_steps, progress)
        if recipe.bias_steps is not None:
            bias_multiplier *= step_factor(recipe.bias_steps, progress) / factor
    return Rates(recipe.learning_rate * factor * warm_up, bias_multiplier, conv1_multiplier)


def step_factor(steps: tuple[tuple[float, float], ...], progress: float) -> float:
    """Returns the factor of the last step that has begun. Epoch 25 of 91 counts as begun at 25/91."""
    return ([1.0] + [factor for begin, factor in steps if progress >= begin - 1e-9])[-1]


def has_colour_noise(recipe: recipes.Recipe, epoch: int) -> bool:
    """Returns whether an epoch, counted from 0, has the colour noise of Section 4.1."""
    return recipe.colour_noise and (recipe.schedule != "steps" or epoch / recipe.epochs < recipe.colour_noise_until)


def epochs_alike(recipe: recipes.Recipe, epoch: int) -> int:
    """Returns for how many epochs, from this one on, the images are made in the same way."""
    is_noisy, end = has_colour_noise(recipe, epoch), epoch + 1
    while end < recipe.epochs and has_colour_noise(recipe, end) == is_noisy:
        end += 1
    return end - epoch


def is_stuck(train_loss: float, chance_loss: float, steps: int) -> bool:
    """Returns whether a network has learned nothing: its cross-entropy is that of guessing by the classes' frequencies.

    Args:
        train_loss: Mean cross-entropy over an epoch, in nats.
        chance_loss: Entropy of the classes, ln(classes) if they are equally frequent.
        steps: Steps done; before 100 it is too early to tell.
    """
    return steps >= 100 and 0.98 * chance_loss < train_loss < 1.1 * chance_loss
