"""What is asked for, and what the data suggests, become a `TrainConfig`, and this a `RunConfig`.

Imports no TensorFlow, so that options that contradict each other are refused at once.
"""

from __future__ import annotations

import dataclasses
import logging
import typing
from collections.abc import Mapping
from typing import Any

from alexnet_tf.network import architectures, recipes, schedules
from alexnet_tf.runs.config import MEAN_IMAGE, ColourPCA, PretrainedRun, RunConfig, RunData, TrainConfig
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import errors, settings, shell
from alexnet_tf.support.settings import setting
from alexnet_tf.training import transfer_learning

if typing.TYPE_CHECKING:
    from alexnet_tf.data import datasets

_LOGGER = logging.getLogger(__name__)


class TrainingError(errors.UserError):
    """Training cannot go on; the message says why and what to try."""


@dataclasses.dataclass(frozen=True)
class PlacementOptions:
    """Where to compute."""

    strategy: str = setting(
        "auto",
        "'split': tower a and tower b on two devices, as in 2012; 'mirrored': each batch over all GPUs; "
        "'multi_worker': over the machines of TF_CONFIG or of a Slurm step; 'auto': mirrored if there are several "
        "GPUs, and one device otherwise.",
        choices=("auto", "split", "mirrored", "multi_worker"),
    )
    devices: tuple[str, ...] = setting(
        (), "Which devices to use: GPU:0,GPU:1 or CPU:0,CPU:1. All GPUs by default, for the split the first two."
    )
    worker_timeout: float = setting(1800.0, "Seconds to wait for the other workers.", lower=1)


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What does not change the result of a run."""

    checkpoint_minutes: float = setting(
        10.0, "Longest time between checkpoints; there is one at each epoch's end anyway.", lower=0
    )
    on_bad_image: str = setting(
        "fail",
        "What to do with an image that cannot be read: 'fail', or 'skip': the next one takes its place. It is reported "
        "either way.",
        choices=("fail", "skip"),
    )


@dataclasses.dataclass(frozen=True)
class TransferOptions:
    """What only the beginning of a run asks for; `TrainConfig.freeze` has the result."""

    freeze_until: str | None = setting(
        None, "Freezes all layers up to this one: after conv5 only the dense layers learn."
    )


_NEED_SOURCE = ("freeze", "freeze_until", "reinitialize", "new_layer_learning_rate_multiplier")


def check(given: Mapping[str, Any]) -> None:
    """Refuses values that are wrong or contradict each other, whatever the data.

    Args:
        given: As for `decide`.

    Raises:
        UserError: Names the field.
    """
    for options in (recipes.Recipe(), TrainConfig(), TransferOptions()):
        settings.check(dataclasses.replace(options, **_part(given, type(options))))
    for name in _NEED_SOURCE:
        if given.get(name) and not given.get("init_from"):
            raise errors.UserError(f"{name} needs init_from: it says what becomes of the weights of another run.")


def _part(given: Mapping[str, Any], options: type) -> dict[str, Any]:
    return {field.name: given[field.name] for field in dataclasses.fields(options) if field.name in given}


def decide(given: Mapping[str, Any], data: datasets.DataSet, workdir: str, *, is_demo: bool = False) -> TrainConfig:
    """Decides everything that was not asked for.

    Args:
        given: What was asked for: values by name of a field of `TrainConfig`, `recipes.Recipe` or `TransferOptions`.
        data: What to train on.
        workdir: The run's directory; a run that has begun keeps its pretrained weights' origin.
        is_demo: Whether the data is the small synthetic data set, which has a recipe of its own.

    Raises:
        UserError: If something contradicts something else, the pretrained run or the architecture.
    """
    check(given)
    source = transfer_learning.find_source(given.get("init_from"), workdir)
    if source:
        transfer_learning.check_same_input(source, given)
    architecture = architectures.ARCHITECTURES[source.architecture if source else given.get("architecture", "paper")]
    frozen, new = transfer_learning.choose_layers(
        architecture, given.get("freeze", ()), given.get("freeze_until"), given.get("reinitialize", ())
    )
    num_images = len(data.splits["train"])
    is_large = num_images >= recipes.LARGE_DATASET
    decided: dict[str, Any] = {
        "initialization": architecture.initialization if is_large and not source else "he",
        "precision": "auto",
        "deterministic": not given.get("jit"),
        **_part(given, TrainConfig),
    }
    wanted = {"resize": source.resize} if source else {}
    wanted |= {"resize": data.resize} if data.resize else {}
    if begun := RunDirectory(workdir).read_config():
        wanted |= {name: getattr(begun.train.recipe, name) for name in recipes.LENGTH_DEPENDENT_FIELDS}
    recipe = recipes.choose(
        architecture.recipe,
        wanted | _part(given, recipes.Recipe),
        num_images=num_images,
        initialization=decided["initialization"],
        is_fine_tuning=source is not None,
        is_demo=is_demo,
    )
    schedules.make(recipe)  # Fails where the recipe lacks what its schedule needs.
    if not is_large:
        _LOGGER.info(
            f"  The architecture's own recipe is for ImageNet; the one below suits {num_images:,} images. Flags "
            "override it."
        )
    return TrainConfig(
        **decided
        | {
            "architecture": architecture.name,
            "recipe": recipe,
            "init_from": source.path if source else None,
            "freeze": frozen,
            "reinitialize": new,
        }
    )


def make_run_config(
    train_config: TrainConfig, data: datasets.DataSet, source: PretrainedRun | None = None
) -> RunConfig:
    """Returns all that is needed to evaluate, export or resume a run.

    Args:
        train_config: How to train.
        data: What to train on.
        source: The run that the weights come from, in transfer learning.

    Raises:
        TrainingError: If a mean image is asked for and not known.
        transfer_learning.TransferError: If a layer that starts anew is frozen.
    """
    architecture, statistics = architectures.ARCHITECTURES[train_config.architecture], data.statistics
    if train_config.mean == "image" and statistics is None:
        line = shell.command_line("prepare", data_dir=data.directory, output_dir="OUT")
        raise TrainingError(
            f"mean=image needs images whose mean image is known; {data.directory} is not prepared. Type\n"
            f"  {line}\nand train with --data_dir=OUT."
        )
    mean: tuple[float, ...] | str = MEAN_IMAGE
    if train_config.mean != "image":
        mean = tuple(statistics.mean_pixel) if statistics else architecture.mean
    run_config = RunConfig(
        train=train_config,
        image_size=architecture.image_size,
        mean=source.mean if source else mean,
        scale=source.scale if source else None,
        source=source,
        colour_pca=ColourPCA(
            tuple(statistics.pca_stdevs) if statistics else architectures.IMAGENET_PCA_STDEVS,
            tuple(map(tuple, statistics.pca_vectors)) if statistics else architectures.IMAGENET_PCA_VECTORS,
        ),
        data=RunData(
            name=data.name,
            directory=data.directory,
            classes=tuple(data.class_names),
            images={name: len(split) for name, split in data.splits.items()},
            validation=data.validation,
            fingerprint=data.fingerprint(),
            options=dict(data.options),
        ),
    )
    transfer_learning.new_layers(run_config)  # Fails where one of them is frozen.
    return run_config
