"""Figure 4: eight validation images with their five most probable classes, and the training images nearest to five.

Section 6.1. Near is the Euclidean distance of fc7's activations.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from alexnet_tf.data import datasets, plain_images, preprocessing
from alexnet_tf.evaluation import features, metrics, retrieval
from alexnet_tf.experiments import catalogue
from alexnet_tf.experiments.error_table import TrainedRun, load_runs
from alexnet_tf.support import plotting

_IMAGES, _QUERIES, _NEIGHBOURS = 8, 5, 6

# An image, and the most probable classes: (name, probability, whether it is the label), the first one first.
Prediction = tuple[retrieval.Tile, list[tuple[str, float, bool]]]


def run(name: str, options: catalogue.Options) -> Iterator[catalogue.Result]:
    """Yields the page of the first run."""
    yield reproduce(load_runs(options)[0])


def reproduce(run: TrainedRun, seed: int = 0) -> catalogue.Result:
    """Predicts, searches and draws the page.

    Args:
        run: The network; its data needs a training split.
        seed: Chooses the images: one of each class first, nothing else decides.
    """
    validation, train = run.data.splits[run.data.validation], run.data.splits["train"]
    extract = features.make_extractor(run.model, features.stage_of(run.model, run.architecture, "fc7").output)
    (known, train_labels), (queries, labels) = (
        run.outputs(lambda images: extract(images[:, 0]), split) for split in (train, validation)
    )
    places = retrieval.nearest(known, queries, _NEIGHBOURS)[0]
    agreement = float((train_labels[places] == labels[:, None]).mean())
    chance = float(np.mean(np.bincount(train_labels)[labels] / len(train_labels)))
    chosen = choose(labels, seed)
    found, _ = run.outputs(metrics.make_predictor(run.model), validation.subset(np.array(chosen)))
    predictions = [
        (
            _tile(run, validation, index),
            [
                (run.data.class_names[number], float(probabilities[number]), number == labels[index])
                for number in np.argsort(-probabilities, kind="stable")[:5].tolist()
            ],
        )
        for index, probabilities in zip(chosen, np.exp(found))
    ]
    rows = [
        [_tile(run, validation, index), *(_tile(run, train, place) for place in places[index].tolist())]
        for index in chosen[:_QUERIES]
    ]
    finding = catalogue.Finding(
        "training images with nearby fc7 show the same kind of thing",
        "shown for five images",
        f"{catalogue.percent(agreement)} of the six nearest have the query's class ({catalogue.percent(chance)} by "
        f"chance, {len(labels)} queries)",
        catalogue.verdict(agreement > chance, agreement > max(0.5, 1.5 * chance)),
    )
    hits = sum(bars[0][-1] for _, bars in predictions)
    return catalogue.Result(
        [finding],
        {},
        {"page": _draw(predictions, rows)},
        f"Left: {len(chosen)} validation images of {run.name}, chosen at random with seed {seed}, one of each class "
        f"first; {hits} of them are classified correctly. The label's bar is orange. Right: the first {len(rows)} of "
        "them, and the six training images with the nearest activations of fc7.",
    )


def choose(labels: np.ndarray, seed: int) -> list[int]:
    """Returns the places of eight random examples, first one of each class."""
    order = np.random.default_rng(seed).permutation(len(labels))
    _, first = np.unique(labels[order], return_index=True)
    return [*order[first].tolist(), *np.delete(order, first).tolist()][:_IMAGES]


def _tile(run: TrainedRun, split: datasets.ImageSource, index: int) -> retrieval.Tile:
    """Returns an example's class and its image at half its size, which keeps the files small."""
    image_bytes = tf.constant(plain_images.plain(split.image_bytes(index)))
    image = preprocessing.square(image_bytes, run.resize).numpy()
    small = image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2, 3).mean(axis=(1, 3)).astype("uint8")
    return plotting.shortened(run.data.class_names[split.label(index)], 18), small


@plotting.style()
def _draw(predictions: Sequence[Prediction], rows: Sequence[Sequence[retrieval.Tile]]) -> np.ndarray:
    """Draws the page: predictions in two rows on the left, a row of neighbours for each query on the right."""
    figure = plotting.new_figure(14, 8)
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.6))
    grid = left.subplots(4, _IMAGES // 2, height_ratios=(1, 1.4) * 2)
    for axes in grid.flat:
        axes.set_axis_off()
    for ((title, image), bars), above, below in zip(predictions, grid[::2].flat, grid[1::2].flat):
        above.imshow(image)
        above.set_title(title, fontsize=8)
        for place, (name, probability, is_label) in enumerate(reversed(bars)):
            below.barh(place, probability, color="C1" if is_label else "C0", alpha=0.6)
            below.text(0.02, place, plotting.shortened(name, 18), va="center", fontsize=7)
        below.set_xlim(0, 1)
    retrieval.draw_rows(right, rows)
    return plotting.pixels(figure)
