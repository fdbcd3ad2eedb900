"""Table 2: errors of several networks with one crop and with ten, and of the average of their predictions."""

import dataclasses
import pathlib
from collections.abc import Iterator

import keras
import numpy as np

from alexnet_tf.data import datasets, discovery, input_pipeline
from alexnet_tf.evaluation import metrics
from alexnet_tf.experiments import catalogue
from alexnet_tf.network import architectures
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


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A network that has learned, and the images to try it on.

    Attributes:
        name: For tables.
        model: Learns no more.
        architecture: Its architecture.
        class_names: Of its outputs.
        resize: How its images become 256 x 256.
        data: Splits and their class names.
    """

    name: str
    model: keras.Model
    architecture: architectures.Architecture
    class_names: tuple[str, ...]
    resize: str
    data: datasets.DataSet

    def labels_of(self, labels: np.ndarray) -> np.ndarray:
        """Returns the network's class for each label of the data, which may have fewer classes, in another order."""
        numbers = {name: number for number, name in enumerate(self.class_names)}
        return np.array([numbers[name] for name in self.data.class_names])[labels]


def load_runs(options: catalogue.Options) -> list[TrainedRun]:
    """Loads the runs that an experiment is asked to use, with their images or with others of their classes.

    Raises:
        errors.UserError: If there is no run, or its network does not know a class of the images.
    """
    if not options.workdir:
        raise errors.UserError("This experiment needs a run: --workdir=RUN.")
    return [_load(workdir, options.data_dir) for workdir in options.workdir]


def _load(workdir: str, data_dir: str | None) -> TrainedRun:
    model, config, _ = load_model(RunDirectory(workdir))
    data = discovery.load_run_dataset(config.data, data_dir, any_classes=True)
    if unknown := sorted(set(data.class_names) - set(config.data.classes)):
        raise errors.DataError(
            f"{workdir} does not know {len(unknown)} classes of {data.directory}: {datasets.abbreviate(unknown)}."
        )
    name, resize = pathlib.Path(workdir).name, config.train.recipe.resize
    return TrainedRun(name, model, config.architecture, tuple(config.data.classes), resize, data)


def run(name: str, options: catalogue.Options) -> Iterator[catalogue.Result]:
    """Yields the table of the runs."""
    yield reproduce(load_runs(options), split=options.split)


def reproduce(runs: list[TrainedRun], *, split: str | None = None, batch_size: int = 128) -> catalogue.Result:
    """Measures each run and the average of all.

    Args:
        runs: Networks with the same classes and images.
        split: Which split; by default the validation split.
        batch_size: Crops a step.
    """
    name = split or runs[0].data.validation
    rows, findings = [], []
    for crops in (1, 10):
        probabilities = []
        for run in runs:
            values, labels = _probabilities(run, name, crops, max(1, batch_size // crops))
            probabilities.append(values)
            rows.append((run.name, crops, *_errors(values, labels)))
        if len(runs) > 1:
            average = _errors(np.mean(probabilities, axis=0), labels)
            rows.append((f"average of {len(runs)}", crops, *average))
            single = [_errors(each, labels)[0] for each in probabilities]
            findings.append(_finding(single, average[0], crops, len(labels)))
    published = tuple((each, crops, top1, top5) for each, crops, top1, top5 in PUBLISHED)
    columns = ("network", "crops", "top-1 error", "top-5 error")
    images = len(runs[0].data.splits[name])
    return catalogue.Result(
        tuple(findings),
        (
            catalogue.Table(f"Here: {runs[0].data.name}, {name}, {images:,} images", columns, tuple(rows)),
            catalogue.Table("Published: ILSVRC-2012, validation, 50,000 images", columns, published),
        ),
        {"errors": _draw(rows)},
    )


def _finding(single: list[float], average: float, crops: int, images: int) -> catalogue.Finding:
    verdict = catalogue.NOT_SEEN
    if average < min(single):
        is_sure = min(single) - average > (average * (1 - average) / images) ** 0.5
        verdict = catalogue.REPRODUCED if is_sure else catalogue.SAME_DIRECTION
    each = ", ".join(catalogue.percent(value) for value in single)
    return catalogue.Finding(
        f"{_CLAIM} ({crops} crop{'s' if crops > 1 else ''})",
        "40.7 % alone, 38.1 % for five (ten crops)",
        f"{each} alone, {catalogue.percent(average)} averaged ({images:,} images)",
        verdict,
    )


def _probabilities(run: TrainedRun, split: str, crops: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (float32 [images, classes], the network's class for each image)."""
    predict = metrics.make_predictor(run.model)
    batches = input_pipeline.evaluation_batches(
        run.data.splits[split],
        batch_size=batch_size,
        image_size=run.architecture.image_size,
        resize=run.resize,
        ten_crop=crops == 10,
    )
    values = [(np.exp(predict(images).numpy()), labels.numpy()) for images, labels in batches]
    probabilities, labels = (np.concatenate(each) for each in zip(*values))
    return probabilities, run.labels_of(labels)


def _errors(probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, float | None]:
    """Returns the top-1 error, and the top-5 error where there are more than five classes."""
    ranked = np.argsort(-probabilities, axis=-1, kind="stable")
    top1 = float((ranked[:, 0] != labels).mean())
    return top1, float((ranked[:, :5] != labels[:, None]).all(axis=-1).mean()) if probabilities.shape[1] > 5 else None


@plotting.style()
def _draw(rows: list[tuple]):
    names = list(dict.fromkeys(row[0] for row in rows))
    figure = plotting.new_figure(7, 1 + 0.45 * len(names))
    axes = figure.add_subplot()
    for offset, crops, colour in ((0.2, 1, "C0"), (-0.2, 10, "C1")):
        values = [row[2] for row in rows if row[1] == crops]
        bars = axes.barh(
            [place + offset for place in range(len(names))],
            values,
            0.38,
            color=colour,
            label="one crop" if crops == 1 else "ten crops",
        )
        axes.bar_label(bars, [catalogue.percent(value) for value in values], padding=3, fontsize=9)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel("top-1 error")
    axes.margins(x=0.15)
    figure.legend(loc="outside upper center", ncols=2, fontsize=9)
    return figure
