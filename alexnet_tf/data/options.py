"""Which examples of a data directory are meant: the options that commands make flags of. Imports no TensorFlow."""

import dataclasses

from alexnet_tf.support import errors, settings
from alexnet_tf.support.settings import setting

# Value of `labels` where the names of the files state the classes, and of `split_column` where no column is meant.
FILE_NAMES, NO_COLUMN = "file_names", "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExampleOptions:
    """What is asked for beyond the directory; None is found by looking. Each field made by `setting` is a flag.

    Attributes:
        is_whole: Whether one folder of class folders stays one split, "all", to measure on.
    """

    dataset: str | None = setting(None, "Name of the TFDS data set in --data_dir, such as imagenet2012.")
    download: bool = setting(False, "Let TFDS download and prepare --dataset into --data_dir.")
    labels: str | None = setting(
        None,
        "File of the labels (CSV, TSV, text or JSON lines), where images are not in class folders. Found by itself if "
        f"it is called labels.csv or train.csv. '{FILE_NAMES}': the names of the images state them, as cat.0.jpg does.",
    )
    image_column: str | None = setting(None, "Name of the --labels column that names the images, or its number from 0.")
    label_column: str | None = setting(None, "Name of the --labels column of the labels, or its number from 0.")
    split_column: str | None = setting(
        None,
        "Name of the --labels column of the splits (train, val, test), or its number from 0. "
        f"'{NO_COLUMN}': there is none, and a tenth is held out.",
    )
    labels_encoding: str | None = setting(None, "Encoding of the --labels file, such as cp1252; UTF-8 by default.")
    image_key: str | None = setting(None, "Name of a TFDS data set's image feature.")
    label_key: str | None = setting(None, "Name of a TFDS data set's label feature: a class, a text or an integer.")
    is_whole: bool = False

    def check(self) -> None:
        """Checks the values.

        Raises:
            UserError: If one cannot be used.
        """
        settings.check(self)
        if self.download and not self.dataset:
            raise errors.UserError("--download needs --dataset=NAME, the TFDS data set to fetch.")

    def of_examples(self) -> dict[str, str]:
        """Returns what must be asked for again to find the same examples in the directory of the same data set."""
        names = ("labels", "image_column", "label_column", "split_column", "labels_encoding", "image_key", "label_key")
        return {name: value for name in names if (value := getattr(self, name)) is not None}
