"""Training recipes as data, and how a recipe adapts to a data set. Standard library only."""

import dataclasses

from alexnet_tf.support import errors
from alexnet_tf.support.settings import setting

# What a recipe may name: the keys of `schedules.SCHEDULES`, here for those who may not import TensorFlow (a test
# compares them), and ways to resize. Crops and augmentations are checked by `augmentations.check`.
CHOICES = {
    "schedule": ("plateau", "steps", "cosine"),
    "resize": ("paper", "caffe"),
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How an architecture was trained by its source. Flags of `train.py` override single fields.

    Attributes:
        batch_size: Examples per step, over all devices.
        learning_rate: Of the kernels, at the start.
        momentum: Coefficient of the velocity.
        weight_decay: Added to the gradient of kernels as `weight_decay * kernel`, before the momentum.
        bias_learning_rate_multiplier: The biases' rate over the kernels'.
        schedule: "plateau" divides the rate by 10 when the validation error stops falling, at most three times
            (Section 5); "steps" follows `steps`; "cosine" falls to zero over the run.
        steps: For "steps", as are the next two and `colour_noise_until`: (fraction of the run, factor on
            the rate from there on).
        bias_steps: The same for the biases' rate; None follows the kernels.
        conv1_steps: A further factor on conv1's kernels; 0 freezes conv1, without decay, as cuda-convnet does.
        patience: For "plateau": epochs without a lower validation error before the rate falls.
        epochs: Passes over the training images.
        warmup_steps: Steps over which the rate rises linearly from zero.
        clip_norm: Largest norm of the gradient over all weights; 0 leaves it alone, as all the sources do.
        colour_noise: Whether the PCA colour noise of Section 4.1 is added.
        colour_noise_until: Fraction of the run after which it is off.
        crop: "window" cuts a random window of the 256 x 256 square; "random_resized" a random part of the
            image within torchvision's ranges (8 to 100 % of the area, aspect 3/4 to 4/3).
        augmentations: What is done to a crop, in this order; "mirror" mirrors it half of the time (Section 4.1).
        resize: How an image becomes 256 x 256: "paper" scales the shorter side and takes the centre; "caffe" warps.
        new_layer_learning_rate_multiplier: In transfer learning, the rate of layers that start anew over the others'.
    """

    batch_size: int = setting(128, "Examples per step, over all devices.", lower=1)
    learning_rate: float = setting(0.01, "Initial learning rate of the kernels.", lower=0)
    momentum: float = setting(0.9, "Coefficient of the velocity.", lower=0, upper=1)
    weight_decay: float = setting(5e-4, "Weight decay of the kernels, as in the paper.", lower=0)
    bias_learning_rate_multiplier: float = 1.0
    schedule: str = setting(
        "plateau",
        "'plateau' divides the rate by 10 when the validation error stops falling; 'steps' is the architecture's own "
        "table.",
        choices=CHOICES["schedule"],
    )
    steps: tuple[tuple[float, float], ...] = ()
    bias_steps: tuple[tuple[float, float], ...] | None = None
    conv1_steps: tuple[tuple[float, float], ...] = ()
    patience: int = setting(5, "Epochs without progress before a division.", lower=1)
    epochs: int = setting(90, "Passes over the training images.", lower=1)
    warmup_steps: int = setting(0, "Steps in which the rate rises from zero.", lower=0)
    clip_norm: float = setting(0.0, "Largest global norm of the gradient; 0 does not clip.", lower=0)
    colour_noise: bool = setting(True, "Add the paper's PCA colour noise.")
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
    resize: str = setting("paper", "", choices=CHOICES["resize"])
    new_layer_learning_rate_multiplier: float = setting(
        1.0, "Learning rate of newly initialised layers over that of the others.", lower=0
    )


# From this many training images on, a data set is treated as ImageNet is: the recipe stays as the source states it.
LARGE_DATASET = 500_000

# Largest share of a run that the warm-up may take. Measured on 72 steps: the training loss falls to 1.16 with a warm-up
# of 10 steps, and to 1.47 with one of 100, which the run does not reach the end of.
MAX_WARMUP_SHARE = 1 / 7

# Fields that `adapt` derives from the length of the run: a run that goes on for more epochs keeps them.
LENGTH_DEPENDENT_FIELDS = ("warmup_steps", "patience")


def adapt(recipe: Recipe, initialization: str, num_images: int, changes: dict) -> Recipe:
    """Adapts an architecture's recipe, made for ImageNet's 1.2 million images, to a smaller data set.

    Args:
        recipe: The architecture's.
        initialization: One of `INITIALIZATION_NAMES`.
        num_images: In the training split.
        changes: What flags say of the recipe's fields; they are kept, and the rest goes with them.

    Returns:
        The recipe; from `LARGE_DATASET` images on, the architecture's with the changes.

    Raises:
        UserError: If "steps" is asked for where the source states no steps.
    """
    adapted = {}
    if num_images < LARGE_DATASET:
        batch_size = changes.get("batch_size", min(64, max(1, num_images // 4)))
        epochs = changes.get("epochs", max(30, -(-1350 // max(1, num_images // batch_size))))
        steps = epochs * max(1, num_images // batch_size)
        warmup_steps = max(1, min(100, int(steps * MAX_WARMUP_SHARE)))
        adapted = {
            "batch_size": batch_size,
            "epochs": epochs,
            "schedule": "cosine",
            "warmup_steps": warmup_steps,
            "patience": max(5, epochs // 8),
        }
        if initialization == "he":  # Measured on 2,934 photographs: faster than .005, and safe with a bounded gradient.
            adapted |= {"learning_rate": 0.008, "clip_norm": 5.0}
    return _replace(recipe, adapted | changes)


def fine_tune(recipe: Recipe, num_images: int, changes: dict) -> Recipe:
    """Adapts a recipe to fine-tuning pretrained weights, as `adapt` does to training from scratch.

    A tenth of the usual rate, and ten times that for new layers: as Caffe's `finetune_flickr_style` has it.
    """
    return adapt(
        recipe,
        "row",
        num_images,
        {"learning_rate": 0.001, "clip_norm": 5.0, "new_layer_learning_rate_multiplier": 10.0, **changes},
    )


def demo(recipe: Recipe, changes: dict) -> Recipe:
    """Returns a recipe that learns the demo in minutes on two cores (measured), with the changes."""
    return _replace(
        recipe,
        {
            "batch_size": 32,
            "epochs": 4,
            "schedule": "cosine",
            "learning_rate": 0.003,
            "clip_norm": 5.0,
            "colour_noise": False,
            **changes,
        },
    )


def _replace(recipe, changes):
    recipe = dataclasses.replace(recipe, **changes)
    if recipe.schedule == "steps" and not recipe.steps:
        raise errors.UserError(
            "schedule=steps needs an architecture whose source states steps, and this one's does not. Use plateau or "
            "cosine."
        )
    return recipe
