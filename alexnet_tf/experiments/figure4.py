"""Figure 4: eight validation images with their five most probable classes, and the training images nearest to five.

Section 6.1. Near is the Euclidean distance of fc7's activations.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from alexnet_tf.data import input_pipeline, plain_images, preprocessing
from alexnet_tf.evaluation import features, metrics, retrieval
from alexnet_tf.experiments import catalogue
from alexnet_tf.experiments.error_table import TrainedRun, load_runs
from alexnet_tf.support import plotting
from alexnet_tf.support.shell import printable

_IMAGES, _QUERIES, _NEIGHBOURS = 8, 5, 6


@dataclasses.dataclass(frozen=True)
class Prediction:
    """An image and what the network says of it.

    Attributes:
        image: uint8 [256, 256, 3].
        label: Its class.
        probabilities: (class, probability) of the five most probable, or of all if there are fewer.
    """

    image: np.ndarray
    label: str
    probabilities: tuple[tuple[str, float], ...]


def run(name: str, options: catalogue.Options) -> Iterator[catalogue.Result]:
    """Yields the page of the first run."""
    yield reproduce(load_runs(options)[0])


def reproduce(run: TrainedRun, *, seed: int = 0, batch_size: int = 64) -> catalogue.Result:
    """Predicts, searches and draws the page.

    Args:
        run: The network; its data needs a training split.
        seed: Chooses the images: one of each class first, nothing else decides.
        batch_size: Images a step.
    """
    validation, train = run.data.splits[run.data.validation], run.data.splits["train"]
    chosen = _choose(validation, seed)
    extract = features.make_extractor(run.model, features.stage_of(run.model, run.architecture, "fc7").output)
    train_features = _features(run, extract, train, batch_size)
    validation_features = _features(run, extract, validation, batch_size)
    places = retrieval.nearest(train_features, validation_features, _NEIGHBOURS)[0]
    train_labels, labels = np.asarray(train.labels), np.asarray(validation.labels)
    agreement = float((train_labels[places] == labels[:, None]).mean())
    chance = float(np.mean(np.bincount(train_labels)[labels] / len(train_labels)))
    predictions = _predict(run, validation, chosen)
    neighbours = [
        [
            _tile(run, validation, index),
            *(_tile(run, train, place) for place in places[index]),
        ]
        for index in chosen[:_QUERIES]
    ]
    verdict = catalogue.NOT_SEEN
    if agreement > chance:
        is_sure = agreement > 0.5 and agreement > 1.5 * chance
        verdict = catalogue.REPRODUCED if is_sure else catalogue.SAME_DIRECTION
    finding = catalogue.Finding(
        "training images with nearby fc7 show the same kind of thing",
        "shown for five images",
        f"{catalogue.percent(agreement)} of the six nearest have the query's class ({catalogue.percent(chance)} by "
        f"chance, {len(labels)} queries)",
        verdict,
    )
    hits = sum(each.label == each.probabilities[0][0] for each in predictions)
    notes = (
        f"Left: {len(predictions)} validation images of {run.name}, chosen at random with seed {seed}, one of each "
        f"class first; {hits} of them are classified correctly. The label's bar is orange. Right: the "
        f"first {len(neighbours)} of them, and the six training images with the nearest activations of fc7.",
    )
    with plotting.style():
        page = _draw(predictions, neighbours)
    return catalogue.Result((finding,), pictures={"page": page}, notes=notes)


def _choose(split, seed: int) -> list[int]:
    """Returns the places of eight random examples, first one of each class."""
    labels = np.asarray(split.labels)
    order = np.random.default_rng(seed).permutation(len(labels))
    first = {int(label): int(index) for index, label in reversed(list(zip(order, labels[order])))}
    rest = [int(index) for index in order if int(index) not in first.values()]
    return [*(first[label] for label in sorted(first)), *rest][:_IMAGES]


def _features(run: TrainedRun, extract, split, batch_size: int) -> np.ndarray:
    batches = input_pipeline.evaluation_batches(
        split, batch_size=batch_size, image_size=run.architecture.image_size, resize=run.resize
    )
    return np.concatenate([extract(images[:, 0]).numpy() for images, _ in batches])


def _predict(run: TrainedRun, split, chosen: list[int]) -> list[Prediction]:
    predict, predictions = metrics.make_predictor(run.model), []
    for index in chosen:
        crops = input_pipeline.evaluation_crops(
            tf.constant(plain_images.plain(split.image_bytes(index))), run.architecture.image_size, run.resize
        )
        probabilities = np.exp(predict(crops[None]).numpy()[0])
        best = np.argsort(-probabilities, kind="stable")[:5]
        predictions.append(
            Prediction(
                _picture(run, split, index),
                run.data.class_names[split.label(index)],
                tuple((run.class_names[number], float(probabilities[number])) for number in best),
            )
        )
    return predictions


def _picture(run: TrainedRun, split, index: int) -> np.ndarray:
    return preprocessing.square(tf.constant(plain_images.plain(split.image_bytes(int(index)))), run.resize).numpy()


def _tile(run: TrainedRun, split, index: int) -> retrieval.Tile:
    name = run.data.class_names[split.label(int(index))]
    return plotting.shortened(name, 18), _small(_picture(run, split, index))


def _draw(predictions: list[Prediction], neighbours: list[list[retrieval.Tile]]):
    """Draws the page: predictions in two columns on the left, a row of neighbours for each query on the right."""
    figure = plotting.new_figure(14, 8)
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.6))
    columns = 4
    blocks = -(-len(predictions) // columns)
    axes = left.subplots(2 * blocks, columns, squeeze=False, height_ratios=(1, 1.4) * blocks)
    for place in range(blocks * columns):
        above, below = axes[2 * (place // columns), place % columns], axes[2 * (place // columns) + 1, place % columns]
        if place < len(predictions):
            _draw_prediction(above, below, predictions[place])
        else:
            above.set_axis_off()
            below.set_axis_off()
    retrieval.draw_rows(right, neighbours)
    return figure


def _draw_prediction(above, below, prediction: Prediction) -> None:
    above.imshow(_small(prediction.image))
    above.set_title(printable(prediction.label)[:18], fontsize=8, fontweight="bold", parse_math=False)
    above.set_axis_off()
    names = [name for name, _ in prediction.probabilities][::-1]
    values = [value for _, value in prediction.probabilities][::-1]
    colours = ["C1" if name == prediction.label else "C0" for name in names]
    below.barh(range(len(names)), values, color=colours, alpha=0.6)
    below.set_xlim(0, 1)
    below.set_xticks([])
    below.set_yticks([])
    below.spines[:].set_visible(False)
    for place, name in enumerate(names):
        below.text(0.02, place, printable(name)[:18], va="center", fontsize=7, parse_math=False)


def _small(image: np.ndarray) -> np.ndarray:
    """Returns an image at half its size, which keeps the files small."""
    return image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2, 3).mean(axis=(1, 3)).astype("uint8")
