"""What features, nearest images and predictions can be asked for: the commands' flags are made from these fields.

TensorFlow is not imported.
"""

import dataclasses
from typing import Any

from alexnet_tf.runs.config import PRECISIONS
from alexnet_tf.support.settings import setting


def precision_setting(default: str = "auto") -> Any:
    """Returns the field --precision of a command that does not train; see `devices.chosen_precision`."""
    return setting(
        default,
        "Numbers to compute in; auto: the fastest of this machine that loses nothing, whatever the run was trained in.",
        choices=PRECISIONS,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BadImageOptions:
    """What becomes of images that cannot be read."""

    on_bad_image: str = setting(
        "fail",
        "What to do with an image that cannot be read; it is reported either way.",
        choices=("fail", "skip"),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureOptions(BadImageOptions):
    """Which features to write."""

    layer: str = setting("fc7", "The layer; an unknown name lists the known ones.")
    data_dir: str | None = setting(
        None, "Images; by default those of the run. Their classes may differ.", path="directory"
    )
    dataset: str | None = setting(None, "Name of the TFDS data set in --data_dir.")
    split: str | None = setting(None, "Which split; by default train, or the only one.")
    checkpoint: str = setting("last", "Which checkpoint.", choices=("last", "best"))
    precision: str = precision_setting("float32")
    batch_size: int = setting(128, "Images a step.", lower=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimilarOptions:
    """How many images to find, and where things are."""

    top: int = setting(6, "How many images to find for each.", lower=1)
    grid: str | None = setting(None, "Also draw them into this .png or .jpg file, a row for each image.")
    workdir: str | None = setting(None, "The run's directory, if it is no longer where it was.")
    data_dir: str | None = setting(
        None, "The data set's images for --grid, if they are no longer where they were.", path="directory"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """With which weights to predict, and how."""

    top: int = setting(5, "How many classes to print.", lower=1)
    checkpoint: str = setting("last", "Which checkpoint.", choices=("last", "best"))
    ten_crop: bool = setting(False, "Average over ten crops, as the paper does (Section 4.1).")
    precision: str = precision_setting()
    batch_size: int = setting(128, "Crops a step.", lower=1)
