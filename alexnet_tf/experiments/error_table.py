"""Table 2: errors of several networks with one crop and with ten, and of the average of their predictions."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from alexnet_tf.data import datasets, discovery, input_pipeline
from alexnet_tf.evaluation import metrics
from alexnet_tf.experiments import catalogue
from alexnet_tf.network import architectures
from alexnet_tf.network.model import AlexNet
from alexnet_tf.runs.directory import RunDirectory, load_model
from alexnet_tf.support import errors, plotting

# Published errors on ILSVRC-2012's validation images: (network, crops, top-1 error, top-5 error).
PUBLISHED = (
    ("the paper, 1 CNN", 10, 0.407, 0.182),
    ("the paper, average of 5 CNNs", 10, 0.381, 0.164),
    ("Caffe, bvlc_alexnet", 1, 0.429, 0.198),
    ("Caffe, bvlc_reference_caffenet", 1, 0.426, 0.196),
    ("torchvision, alexnet", 1, 0.43478, 0.20934),
)

_CLAIM = "the average of several networks' predictions is better than each of them"

_COLUMNS = ("network", "crops", "top-1 error", "top-5 error")

# Crops a step.
_BATCH_SIZE = 128


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A network that has learned, and the images to try it on.

    Attributes:
        name: For tables.
        model: Learns no more.
        architecture: Its architecture.
        resize: How its images become 256 x 256.
        data: Splits, and the classes that the network knows, in its order.
    """

    name: str
    model: AlexNet
    architecture: architectures.Architecture
    resize: str
    data: datasets.DataSet

    def outputs(
        self, function: Callable[[tf.Tensor], tf.Tensor], split: datasets.ImageSource, crops: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns what a function gives for the crops of each image, in the split's order, and the labels."""
        batches = input_pipeline.evaluation_batches(
            split,
            batch_size=max(1, _BATCH_SIZE // crops),
            image_size=self.architecture.image_size,
            resize=self.resize,
            ten_crop=crops == 10,
        )
        found = [(function(images).numpy(), labels.numpy()) for images, labels in batches]
        outputs, labels = (np.concatenate(each) for each in zip(*found))
        return outputs, labels


def load_runs(options: catalogue.Options) -> list[TrainedRun]:
    """Loads the runs that an experiment is asked to use, with their images or with others of their classes.

    Raises:
        errors.UserError: If there is no run, or the images have other classes.
    """
    if not options.workdir:
        raise errors.UserError("This experiment needs a run: --workdir=RUN.")
    runs = []
    for workdir in options.workdir:
        model, config, _ = load_model(RunDirectory(workdir))
        data = discovery.load_run_dataset(config.data, options.data_dir)
        resize = config.train.recipe.resize
        runs.append(TrainedRun(pathlib.Path(workdir).name, model, config.architecture, resize, data))
    return runs


def run(name: str, options: catalogue.Options) -> Iterator[catalogue.Result]:
    """Yields the table of the runs."""
    yield reproduce(load_runs(options))


def reproduce(runs: Sequence[TrainedRun]) -> catalogue.Result:
    """Measures each run and the average of all, on the validation split.

    Args:
        runs: Networks with the same classes and images.
    """
    split = runs[0].data.validation
    rows, findings = [], []
    for crops in (1, 10):
        predictions, labels = zip(
            *(run.outputs(metrics.make_predictor(run.model), run.data.splits[split], crops) for run in runs)
        )
        errors_of_runs = [_errors(*each) for each in zip(predictions, labels)]
        rows += [(run.name, crops, *each) for run, each in zip(runs, errors_of_runs)]
        if len(runs) > 1:
            average = _errors(np.logaddexp.reduce(predictions) - np.log(len(runs)), labels[0])
            rows.append((f"average of {len(runs)}", crops, *average))
            findings.append(_finding([top1 for top1, _ in errors_of_runs], average[0], crops, len(labels[0])))
    return catalogue.Result(
        findings,
        {
            f"Here: {runs[0].data.name}, {split}, {len(labels[0]):,} images": [_COLUMNS, *rows],
            "Published: ILSVRC-2012, validation, 50,000 images": [_COLUMNS, *PUBLISHED],
        },
        {"errors": _draw(rows)},
    )


def _errors(log_probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, float | None]:
    """Returns the top-1 error, and the top-5 error where there are more than five classes."""
    batch = tf.constant(log_probabilities), tf.constant(labels)
    result = metrics.evaluate(tf.identity, [batch], log_probabilities.shape[1])
    return result.top1_error, result.top5_error


def _finding(single: Sequence[float], average: float, crops: int, images: int) -> catalogue.Finding:
    gain, standard_error = min(single) - average, (average * (1 - average) / images) ** 0.5
    each = ", ".join(map(catalogue.percent, single))
    return catalogue.Finding(
        f"{_CLAIM} ({crops} crop{'s' if crops > 1 else ''})",
        "40.7 % alone, 38.1 % for five (ten crops)",
        f"{each} alone, {catalogue.percent(average)} averaged ({images:,} images)",
        catalogue.verdict(gain > 0, gain > standard_error),
    )


@plotting.style()
def _draw(rows: Sequence[tuple]) -> np.ndarray:
    """Draws the top-1 errors of each network, with one crop and with ten."""
    networks = len(rows) // 2
    figure = plotting.new_figure(7, 1 + 0.45 * networks)
    axes = figure.add_subplot(xlabel="top-1 error")
    for name, offset, part in ("one crop", 0.2, rows[:networks]), ("ten crops", -0.2, rows[networks:]):
        values = [top1 for _, _, top1, _ in part]
        bars = axes.barh(np.arange(networks) + offset, values, 0.38, label=name)
        axes.bar_label(bars, map(catalogue.percent, values), padding=3, fontsize=9)
    axes.set_yticks(range(networks), [name for name, *_ in part])
    axes.invert_yaxis()
    axes.margins(x=0.15)
    figure.legend(loc="outside upper center", ncols=2, fontsize=9)
    return plotting.pixels(figure)
