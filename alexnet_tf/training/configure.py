"""What a run decides before its first step: a person's wishes and the data become a `TrainConfig`.

Imports no TensorFlow, so that contradicting wishes are refused at once.
"""

from __future__ import annotations

import dataclasses
import logging
import typing
from collections.abc import Mapping

from alexnet_tf.network import architectures, recipes
from alexnet_tf.runs.config import TrainConfig
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.training import transfer_learning

if typing.TYPE_CHECKING:
    from alexnet_tf.data import datasets

_LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """What a person asks for; None, and "auto", leave the choice to the architecture, the data or --init_from.

    Attributes:
        architecture: A key of `architectures.ARCHITECTURES`.
        recipe_changes: Values by field of `recipes.Recipe`; they override the recipe.
        initialization: One of `architectures.INITIALIZATION_NAMES`, or "auto".
        mean: "pixel" or "image", as in `TrainConfig`.
        init_from: Directory of the run that the weights come from.
        freeze: Stages or layers that do not learn.
        freeze_until: The last stage that does not learn, and with it all before.
        reinitialize: Stages or layers that start with new weights instead of those of `init_from`.
        seed: Fixes the initial weights, the order, the augmentation and the dropout.
        precision: Keras dtype policy, or "auto".
        jit: Whether XLA compiles the whole training step.
        deterministic: Whether the same seed gives the same bits; by default unless `jit`.
        class_weight: As in `TrainConfig`.
    """

    architecture: str | None = None
    recipe_changes: Mapping[str, typing.Any] = dataclasses.field(default_factory=dict)
    initialization: str = "auto"
    mean: str | None = None
    init_from: str | None = None
    freeze: tuple[str, ...] | None = None
    freeze_until: str | None = None
    reinitialize: tuple[str, ...] | None = None
    seed: int = 0
    precision: str = "auto"
    jit: bool = False
    deterministic: bool | None = None
    class_weight: str = "none"

    def transfer_flags(self) -> dict[str, object]:
        """Returns, by name, the values that `transfer_learning.check_flags` checks."""
        values = dataclasses.asdict(self) | dict(self.recipe_changes)
        return {name: values.get(name) for name in transfer_learning.FLAGS}


def check_options(options: TrainOptions) -> None:
    """Refuses options that contradict each other, whatever the data.

    Raises:
        UserError: Names the flag.
    """
    if options.init_from is None:
        transfer_learning.check_flags(None, options.transfer_flags())


def make_train_config(
    options: TrainOptions, data: datasets.DataSet, workdir: str, *, is_demo: bool = False
) -> TrainConfig:
    """Decides everything that options leave open.

    Args:
        options: What was asked for.
        data: What to train on.
        workdir: The run's directory; a run that has begun keeps its pretrained weights' origin.
        is_demo: Whether the data is the small synthetic data set, which has a recipe of its own.

    Raises:
        UserError: If the options contradict each other, the pretrained run or the architecture.
    """
    source = transfer_learning.find_source(options.init_from, workdir)
    transfer_learning.check_flags(source, options.transfer_flags())
    architecture = architectures.ARCHITECTURES[source.architecture if source else options.architecture or "paper"]
    frozen, new = transfer_learning.choose_layers(
        architecture, freeze=options.freeze, freeze_until=options.freeze_until, reinitialize=options.reinitialize
    )
    num_images = len(data.splits["train"])
    is_large = num_images >= recipes.LARGE_DATASET
    initialization = options.initialization
    if initialization == "auto":
        initialization = architecture.initialization if is_large and not source else "he"
    changes = dict(options.recipe_changes) | ({"resize": data.resize} if data.resize else {})
    if begun := RunDirectory(workdir).read_config():
        changes = {name: getattr(begun.train.recipe, name) for name in recipes.LENGTH_DEPENDENT_FIELDS} | changes
    if source:
        recipe = recipes.fine_tune(architecture.recipe, num_images, {"resize": source.resize, **changes})
    elif is_demo:
        recipe = recipes.demo(architecture.recipe, changes)
    else:
        recipe = recipes.adapt(architecture.recipe, initialization, num_images, changes)
    if not is_large:
        _LOGGER.info(
            f"  The architecture's own recipe is for ImageNet; the one below suits {num_images:,} images. Flags "
            f"override it."
        )
    return TrainConfig(
        architecture=architecture.name,
        recipe=recipe,
        initialization=initialization,
        seed=options.seed,
        deterministic=not options.jit if options.deterministic is None else options.deterministic,
        precision=options.precision,
        mean=options.mean or "pixel",
        jit=options.jit,
        class_weight=options.class_weight,
        init_from=source.path if source else None,
        freeze=frozen,
        reinitialize=new,
    )
