"""Training recipes as data, and how a recipe adapts to a data set. Standard library only."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from alexnet_tf.network import schedules, update_rules
from alexnet_tf.support.settings import setting


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How an architecture was trained by its source. A field made by `setting` is a flag of `train.py`, too.

    Attributes:
        batch_size, ..., new_layer_learning_rate_multiplier: See their help.
        bias_learning_rate_multiplier: The biases' rate over the kernels'.
        steps: For "steps", as are the next three: (fraction of the run, factor on the rate from there on).
        bias_steps: The same for the biases' rate; None follows the kernels.
        conv1_steps: A further factor on conv1's kernels; 0 freezes conv1, without decay, as cuda-convnet does.
        colour_noise_until: Fraction of the run after which the colour noise is off.
        resize: How an image becomes 256 x 256: "paper" scales the shorter side and takes the centre; "caffe" warps.
    """

    batch_size: int = setting(128, "Examples per step, over all devices.", lower=1)
    learning_rate: float = setting(0.01, "Initial learning rate of the kernels.", lower=0)
    optimizer: str = setting(
        "sgd",
        f"{'; '.join(f'{name!r}: {rule.purpose}' for name, rule in update_rules.UPDATE_RULES.items())}.",
        choices=update_rules.UPDATE_RULES,
    )
    momentum: float = setting(0.9, "Coefficient of the velocity; Adam's beta_1.", lower=0, upper=1)
    weight_decay: float = setting(
        5e-4, "Weight decay of the kernels, as in the paper: added to the gradient before the momentum.", lower=0
    )
    bias_learning_rate_multiplier: float = 1.0
    schedule: str = setting(
        "plateau",
        f"The rate {'; '.join(f'{each.HELP} ({name!r})' for name, each in schedules.SCHEDULES.items())}.",
        choices=schedules.SCHEDULES,
    )
    steps: tuple[tuple[float, float], ...] = ()
    bias_steps: tuple[tuple[float, float], ...] | None = None
    conv1_steps: tuple[tuple[float, float], ...] = ()
    patience: int = setting(5, "Epochs without progress before 'plateau' divides.", lower=1)
    epochs: int = setting(90, "Passes over the training images.", lower=1)
    warmup_steps: int = setting(0, "Steps in which the rate rises from zero.", lower=0)
    clip_norm: float = setting(0.0, "Largest global norm of the gradient; 0 does not clip.", lower=0)
    colour_noise: bool = setting(True, "Add the paper's PCA colour noise (Section 4.1).")
    colour_noise_until: float = 1.0
    crop: str = setting(
        "window",
        "Training crops: 'window', the paper's of 256 x 256, or 'random_resized', torchvision's.",
    )
    augmentations: tuple[str, ...] = setting(
        ("mirror",),
        "What is done to a crop, in this order, such as 'mirror', or 'NAME:KEY=NUMBER' with arguments; "
        "--augmentations= does nothing.",
    )
    resize: str = setting("paper", "", choices=("paper", "caffe"))
    new_layer_learning_rate_multiplier: float = setting(
        1.0, "In transfer learning: rate of newly initialised layers over that of the others.", lower=0
    )


# From this many training images on, a data set is treated as ImageNet is: the recipe stays as the source states it.
LARGE_DATASET = 500_000

# Largest share of a run that the warm-up may take. Measured on 72 steps: the training loss falls to 1.16 with a warm-up
# of 10 steps, and to 1.47 with one of 100, which the run does not reach the end of.
MAX_WARMUP_SHARE = 1 / 7

# Fields that `choose` derives from the length of the run: a run that goes on for more epochs keeps them.
LENGTH_DEPENDENT_FIELDS = ("warmup_steps", "patience")

# What suits a start on small data, in place of the architecture's own recipe.
# Measured on 2,934 photographs: faster than .005, and safe with a bounded gradient.
_HE = {"learning_rate": 0.008, "clip_norm": 5.0}
# A tenth of the usual rate, and ten times that for new layers: as Caffe's `finetune_flickr_style` has it.
_FINE_TUNING = {"learning_rate": 0.001, "clip_norm": 5.0, "new_layer_learning_rate_multiplier": 10.0}
# Learns the demo in minutes on two cores (measured).
_DEMO = {
    "batch_size": 32,
    "epochs": 4,
    "schedule": "cosine",
    "learning_rate": 0.003,
    "clip_norm": 5.0,
    "colour_noise": False,
}


def choose(
    recipe: Recipe,
    given: Mapping[str, Any],
    *,
    num_images: int,
    initialization: str,
    is_fine_tuning: bool = False,
    is_demo: bool = False,
) -> Recipe:
    """Returns an architecture's recipe, made for ImageNet's 1.2 million images, as it suits other data and starts.

    Each overrides the one before: the recipe, what the number of images asks for, the start, the optimizer's own rate,
    what is given. From `LARGE_DATASET` images on, the number of images and the initialisation ask for nothing.

    Args:
        recipe: The architecture's.
        given: Values of fields that are asked for.
        num_images: In the training split.
        initialization: One of `architectures.INITIALIZATION_NAMES`.
        is_fine_tuning: Whether the weights are another run's.
        is_demo: Whether the data is the small synthetic data set.
    """
    chosen: dict[str, Any] = {}
    if is_demo and not is_fine_tuning:
        chosen = dict(_DEMO)
    elif num_images < LARGE_DATASET:
        batch_size = given.get("batch_size", min(64, max(1, num_images // 4)))
        epochs = given.get("epochs", max(30, -(-1350 // max(1, num_images // batch_size))))
        steps = epochs * max(1, num_images // batch_size)
        chosen = {
            "batch_size": batch_size,
            "epochs": epochs,
            "schedule": "cosine",
            "warmup_steps": max(1, min(100, int(steps * MAX_WARMUP_SHARE))),
            "patience": max(5, epochs // 8),
            **(_HE if initialization == "he" and not is_fine_tuning else {}),
        }
    own = dict(update_rules.UPDATE_RULES[given.get("optimizer", recipe.optimizer)].defaults)
    if is_fine_tuning:
        chosen |= _FINE_TUNING
        own |= {"learning_rate": own["learning_rate"] / 10} if own else {}
    return dataclasses.replace(recipe, **{**chosen, **own, **given})
