"""Which images is an export compared and calibrated on? The run's, others that were named, or synthetic ones."""

import dataclasses
import os
import pathlib

import numpy as np
import tensorflow as tf

from alexnet_tf.data import datasets, discovery, input_pipeline, synthetic
from alexnet_tf.data.options import ExampleOptions
from alexnet_tf.runs.config import RunConfig
from alexnet_tf.support import errors

# Images that the artifacts are compared on, and training images that int8 ranges are found on: at most so many.
COMPARED, CALIBRATED = 500, 200

_ENDINGS = (".jpg", ".jpeg", ".png")


@dataclasses.dataclass(frozen=True)
class SampleImages:
    """Images as the network sees them.

    Attributes:
        pixels: uint8 [n, size, size, 3], RGB, cropped as evaluation crops.
        labels: int32 [n]; None if they are not of the run's classes.
        source: What they are, for a person.
    """

    pixels: np.ndarray
    labels: np.ndarray | None
    source: str


def find_images(
    run_config: RunConfig, data_dir: str | None = None, dataset: str | None = None
) -> tuple[datasets.DataSet | None, str | None]:
    """Finds the images to compare and to calibrate on.

    Args:
        run_config: The run's config.
        data_dir: Where to look instead of where the run's images were: any images will do.
        dataset: Name of the TFDS data set there.

    Returns:
        (the data set, or None for synthetic images; a note for the report, or None).

    Raises:
        DataError: If there are no images in `data_dir`.
    """
    run_data = run_config.data
    if not data_dir and run_data.name != discovery.DEMO and not os.path.isdir(run_data.directory or ""):
        return None, (
            "The run's images are not there; synthetic images take their place. For real ones: --data_dir=DIR"
        )
    try:
        data = discovery.load_run_dataset(
            run_data, data_dir, ExampleOptions(dataset=dataset), any_classes=data_dir is not None
        )
    except errors.DataError:
        images = _flat_folder(data_dir)
        if images is None:
            raise
        data = images
    if tuple(data.class_names) != run_data.classes:
        return data, "These images are not of the run's classes: errors are left out."
    return data, None


def _flat_folder(directory: str | None) -> datasets.DataSet | None:
    """Returns all images under a directory, without labels; None if there are none."""
    if directory is None or not os.path.isdir(directory):
        return None
    paths = sorted(str(path) for path in pathlib.Path(directory).rglob("*") if path.suffix.lower() in _ENDINGS)
    if not paths:
        return None
    split = datasets.ImageFiles(tuple(paths), np.full(len(paths), -1, "int32"))
    return datasets.DataSet("images", directory, (), {"images": split}, "images")


def take_crops(
    split: datasets.ImageSource, image_size: int, resize: str, limit: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads images that are spread evenly over a split; those that cannot be read are skipped.

    Args:
        split: A split of a data set.
        image_size: Side of the crops in pixels.
        resize: As in `preprocessing.square`.
        limit: How many images at most.

    Returns:
        (images uint8 [n, image_size, image_size, 3], labels int32 [n] or None if some have none).

    Raises:
        DataError: If none can be read.
    """
    if len(split) > limit:
        split = split.subset(np.unique(np.linspace(0, len(split) - 1, limit).astype("int64")))
    batches = list(
        input_pipeline.evaluation_batches(
            split, batch_size=32, image_size=image_size, resize=resize, on_bad_image="skip"
        )
    )
    if not batches:
        raise errors.DataError("None of the images that the export would be compared on can be read.")
    labels = np.concatenate([labels for _, labels in batches])
    return np.concatenate([images[:, 0] for images, _ in batches]), None if (labels < 0).any() else labels


def synthetic_crops(image_size: int, resize: str) -> np.ndarray:
    """Draws synthetic images, uint8 [100, image_size, image_size, 3]."""
    encoded = [
        tf.io.encode_jpeg(synthetic.draw(name, np.random.default_rng(number)))
        for name in synthetic.CLASSES
        for number in range(20)
    ]
    return np.concatenate([input_pipeline.evaluation_crops(each, image_size, resize).numpy() for each in encoded])


def comparison_images(data: datasets.DataSet | None, run_config: RunConfig, limit: int = COMPARED) -> SampleImages:
    """Returns the images that artifacts are compared on: of the validation split, or synthetic ones."""
    size, resize = run_config.image_size, run_config.train.recipe.resize
    if data is None:
        pixels = synthetic_crops(size, resize)[:limit]
        return SampleImages(pixels, None, f"{len(pixels)} synthetic images")
    pixels, labels = take_crops(data.splits[data.validation], size, resize, limit)
    if tuple(data.class_names) != run_config.data.classes:
        labels = None
    return SampleImages(pixels, labels, f"{len(pixels)} images of {data.directory} ({data.validation})")


def calibration_images(data: datasets.DataSet | None, run_config: RunConfig) -> np.ndarray | None:
    """Returns the images that int8 ranges are found on, of the training split if there is one; None without images."""
    if data is None:
        return None
    split = data.splits.get("train", data.splits[data.validation])
    return take_crops(split, run_config.image_size, run_config.train.recipe.resize, CALIBRATED)[0]
