"""Which images is an export compared and calibrated on? The run's, others that were named, or synthetic ones."""

import dataclasses
import pathlib

import numpy as np
import tensorflow as tf

from alexnet_tf.data import datasets, discovery, input_pipeline, synthetic
from alexnet_tf.data.options import ExampleOptions
from alexnet_tf.exporting.formats import NetworkOptions
from alexnet_tf.runs.config import RunConfig, RunData
from alexnet_tf.support import errors

# Training images that int8 ranges are found on: at most so many.
CALIBRATED = 200

_ENDINGS = (".jpg", ".jpeg", ".png")


@dataclasses.dataclass(frozen=True)
class Sample:
    """Images as the network sees them.

    Attributes:
        pixels: uint8 [n, size, size, 3], RGB, cropped as evaluation crops.
        labels: int32 [n]; None if they are not of the run's classes.
        source: What they are, for a person.
    """

    pixels: np.ndarray
    labels: np.ndarray | None
    source: str


class Images:
    """The images of a run, or others in their place.

    Args:
        run_config: The run's config.
        options: `data_dir` says where to look instead of where the run's images were: any images will do.

    Attributes:
        notes: What a person should know of them.

    Raises:
        DataError: If there are no images in `data_dir`.
    """

    def __init__(self, run_config: RunConfig, options: NetworkOptions) -> None:
        self._run_config = run_config
        self._data: datasets.DataSet | None = None
        self.notes: list[str] = []
        example_options = ExampleOptions(dataset=options.dataset)
        try:
            self._data = discovery.load_run_dataset(run_config.data, options.data_dir, example_options)
        except errors.DataError as error:
            if options.data_dir is None:
                self.notes = [f"{error} Synthetic images take their place."]
                return
            self._data = _foreign(run_config.data, options.data_dir, example_options)
            self.notes = ["These images are not of the run's classes: errors are left out."]

    @property
    def _are_of_the_run(self) -> bool:
        return self._data is not None and tuple(self._data.class_names) == self._run_config.data.classes

    def to_compare(self, limit: int) -> Sample:
        """Returns images of the validation split, or synthetic ones.

        Raises:
            DataError: If none can be read.
        """
        if self._data is None:
            encoded = [
                tf.io.encode_jpeg(synthetic.draw(name, np.random.default_rng(number)))
                for name in synthetic.CLASSES
                for number in range(20)
            ][:limit]
            size, resize = self._run_config.image_size, self._run_config.train.recipe.resize
            pixels = [input_pipeline.evaluation_crops(each, size, resize).numpy() for each in encoded]
            return Sample(np.concatenate(pixels), None, f"{len(pixels)} synthetic images")
        crops, labels = self._crops(self._data.splits[self._data.validation], limit)
        source = f"{len(crops)} images of {self._data.directory} ({self._data.validation})"
        return Sample(crops, labels if self._are_of_the_run else None, source)

    def to_calibrate(self) -> np.ndarray | None:
        """Returns images of the training split if there is one, uint8 [n, size, size, 3]; None without images."""
        if self._data is None:
            return None
        return self._crops(self._data.splits.get("train", self._data.splits[self._data.validation]), CALIBRATED)[0]

    def _crops(self, split: datasets.ImageSource, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Reads images that are spread evenly over a split, and their labels; unreadable ones are skipped."""
        if len(split) > limit:
            split = split.subset(np.unique(np.linspace(0, len(split) - 1, limit).astype("int64")))
        batches = list(
            input_pipeline.evaluation_batches(
                split,
                batch_size=32,
                image_size=self._run_config.image_size,
                resize=self._run_config.train.recipe.resize,
                on_bad_image="skip",
            )
        )
        if not batches:
            raise errors.DataError("None of the images that the export would be compared on can be read.")
        return (
            np.concatenate([images[:, 0] for images, _ in batches]),
            np.concatenate([labels for _, labels in batches]),
        )


def _foreign(run_data: RunData, directory: str, options: ExampleOptions) -> datasets.DataSet:
    """Returns images of other classes than the run's, or all that lie under a directory, without labels.

    Raises:
        DataError: If there are none.
    """
    try:
        return discovery.load_run_dataset(run_data, directory, options, any_classes=True)
    except errors.DataError:
        paths = sorted(str(path) for path in pathlib.Path(directory).rglob("*") if path.suffix.lower() in _ENDINGS)
        if not paths:
            raise
        split = datasets.ImageFiles(tuple(paths), np.full(len(paths), -1, "int32"))
        return datasets.DataSet("images", directory, (), {"images": split}, "images")
