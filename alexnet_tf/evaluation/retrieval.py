"""Finds the images of a file of features that are nearest to a query, and draws them (Figure 4, Section 6.1)."""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import h5py
import numpy as np
import tensorflow as tf

from alexnet_tf.data import discovery, plain_images, preprocessing
from alexnet_tf.data.options import ExampleOptions
from alexnet_tf.evaluation import features, predictions
from alexnet_tf.evaluation.options import SimilarOptions
from alexnet_tf.runs.directory import RunDirectory, load_model
from alexnet_tf.support import errors, home, plotting, settings, shell

_LOGGER = logging.getLogger(__name__)

# Images in a picture; more would take gigabytes to draw.
MAX_TILES = 400

# Queries that are computed at a time.
_BATCH_SIZE = 32

# Numbers of the set's features that are read at a time.
_BLOCK_VALUES = 1 << 20

# A title and an image uint8 [height, width, 3], or None where it is not there.
Tile = tuple[str, np.ndarray | None]


@dataclasses.dataclass(frozen=True)
class Neighbour:
    """An image of the set.

    Attributes:
        file: Its name.
        class_name: Of its label, where it has one.
        distance: Euclidean, from the query's features.
    """

    file: str
    class_name: str | None
    distance: float


@dataclasses.dataclass(frozen=True)
class QueryResult:
    """The images nearest to a query.

    Attributes:
        file: The query's file.
        error: Why it could not be read, or None.
        neighbours: The nearest images of the set, nearest first; the query too if it is one of them, at distance 0.
    """

    file: str
    error: str | None
    neighbours: tuple[Neighbour, ...] = ()


def find_similar(path: str | os.PathLike[str], images: Sequence[str], options: SimilarOptions) -> list[QueryResult]:
    """Finds the images of a set that are nearest to each query by the Euclidean distance of their features (Figure 4).

    The queries' features are computed with the run that made the set's. In memory are the network, the queries and a
    few megabytes of the set's features.

    Args:
        path: What `write_features` wrote.
        images: The queries' files.
        options: How many images to find. In the picture the places of images that are no longer there stay empty, with
            a warning.

    Returns:
        A result for each query.

    Raises:
        UserError: If the file or the run cannot be read, or do not fit together, or the picture cannot be drawn.
    """
    settings.check(options)
    if options.grid:
        _check_grid(options.grid, len(images), options.top)
    with _open(path) as file:
        source = {"layer": file.attrs["layer"], **file.attrs}
    run = RunDirectory(options.workdir or source["workdir"])
    model, run_config, state = load_model(run, source["checkpoint"], source["precision"])
    if features.digest_weights(model) != source["weights"]:
        raise errors.UserError(
            f"{path} was written with other weights than those of {run} now: {source['checkpoint']} checkpoint, after "
            f"epoch {source['epoch']} then and {state['epoch']} now. Write it again with `features`, or give the run "
            "that made it: --workdir=RUN."
        )
    extract = features.make_extractor(model, features.stage_of(model, run_config.architecture, source["layer"]).output)
    resize = run_config.train.recipe.resize
    crops = predictions.crops_of(images, run_config.image_size, resize, ahead=_BATCH_SIZE)
    found = dict(predictions.compute(lambda batch: extract(batch[:, 0]), crops, _BATCH_SIZE))
    queries = {image: values for image, values in found.items() if not isinstance(values, str)}
    answers = {image: QueryResult(image, problem) for image, problem in found.items() if isinstance(problem, str)}
    if queries:
        with _open(path) as file:
            places, distances = nearest(file["features"], np.stack([*queries.values()]), options.top)
            numbers = file["indices"][:][places]
            for image, *each in zip(queries, places, distances):
                answers[image] = QueryResult(image, None, _neighbours(file, *each))
        if options.grid:
            rows = [answers[image] for image in queries]
            where = {name.file: int(i) for row, each in zip(rows, numbers) for name, i in zip(row.neighbours, each)}
            _draw(options.grid, rows, _reader(source, where, options.data_dir), resize)
    return [answers[image] for image in images]


@contextlib.contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Opens a file of features for a look; whatever h5py raises becomes an error of one line."""
    try:
        with h5py.File(home.expand(path)) as file:
            yield file
    except Exception as error:  # Of a damaged file h5py raises whatever the C library's error is taken for.
        reason = str(error).split("\n")[0]
        raise errors.UserError(
            f"{path} cannot be read: it is damaged, or `features` did not write it ({reason})."
        ) from error


def nearest(matrix: np.ndarray | h5py.Dataset, queries: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nearest rows of a matrix, of which a few megabytes are in memory at a time.

    Args:
        matrix: float32 [rows, width].
        queries: float32 [n, width].
        top: How many rows to find for each query.

    Returns:
        (int64 [n, k], float64 [n, k]): which rows, the first of equally distant ones first, and their Euclidean
        distances; k is `top`, or the number of rows if that is less.
    """
    squares, size = np.empty((len(queries), len(matrix))), max(1, _BLOCK_VALUES // matrix.shape[1])
    for first in range(0, len(matrix), size):
        # Not |a|^2 - 2ab + |b|^2: the difference of nearly equal numbers would be noise.
        block = matrix[first : first + size].astype("float64")
        for query, of_query in zip(queries, squares):
            difference = block - query
            of_query[first : first + size] = np.einsum("ij,ij->i", difference, difference)
    places = np.argsort(squares, axis=1, kind="stable")[:, :top]
    return places, np.sqrt(np.take_along_axis(squares, places, axis=1))


def _neighbours(file: h5py.File, places: np.ndarray, distances: np.ndarray) -> tuple[Neighbour, ...]:
    names, classes = (file[name].asstr(errors="surrogateescape") for name in ("names", "classes"))
    labels = [int(file["labels"][place]) for place in places]
    return tuple(
        Neighbour(names[place], classes[label] if label >= 0 else None, float(distance))
        for place, label, distance in zip(places, labels, distances)
    )


def _check_grid(path: str, rows: int, top: int) -> None:
    plotting.check_ending("grid", path, (".png", ".jpg"))
    if rows * (1 + top) > MAX_TILES:
        raise errors.UserError(
            f"--grid draws at most {MAX_TILES} images; got {rows} rows of {1 + top}. Give fewer images, or a lower "
            "--top."
        )


def _reader(source: Mapping[str, Any], numbers: Mapping[str, int], data_dir: str | None) -> Callable[[str], bytes]:
    """Returns what reads an image of the set by its name.

    Args:
        source: Attributes of the file.
        numbers: Where each image is in its split.
        data_dir: Where the images are, if not where they were.
    """
    if not data_dir and any(map(os.path.isfile, numbers)):
        return predictions.read
    directory = data_dir or source["data_dir"]  # They have moved, or lie inside records.
    data = discovery.find_dataset(directory, ExampleOptions(is_whole=source["split"] == "all"))
    if data.fingerprint() != source["fingerprint"]:
        raise errors.UserError(f"{directory} does not hold the images that the features are of. Give --data_dir=DIR.")
    split = data.splits[source["split"]]
    return lambda name: plain_images.plain(split.image_bytes(numbers[name]))


def _draw(path: str, answers: Sequence[QueryResult], read: Callable[[str], bytes], resize: str) -> None:
    """Draws a row for each answer; `read` reads the images of the set."""

    def tile(name: str, note: str, file: str, read: Callable[[str], bytes]) -> Tile:
        title = f"{plotting.shortened(name or os.path.basename(file), 18)}\n{note}"
        try:
            return title, preprocessing.square(tf.constant(read(file)), resize).numpy()
        except (OSError, plain_images.UnreadableImage, tf.errors.OpError) as error:
            _LOGGER.warning(f"Not shown: {shell.printable(file)}: {error}.")
            return title, None

    rows = [
        [
            tile("", "query", answer.file, predictions.read),
            *(
                tile(each.class_name or "", f"distance {each.distance:.1f}", each.file, read)
                for each in answer.neighbours
            ),
        ]
        for answer in answers
    ]
    with plotting.style():
        figure = plotting.new_figure(1.7 * len(rows[0]) + 0.3, 2.12 * len(rows) + 0.1)
        draw_rows(figure, rows)
        plotting.save(figure, path)


def draw_rows(figure: Any, rows: Sequence[Sequence[Tile]]) -> None:
    """Draws a row for each query as Figure 4 does: the query, framed and apart, then its nearest images.

    Args:
        figure: A Matplotlib figure, or a part of one.
        rows: The tiles of each query, its own first.
    """
    columns = max(map(len, rows))
    # A narrow empty column sets the queries apart.
    grid = figure.subplots(len(rows), columns + 1, squeeze=False, width_ratios=[1, 0.06, *[1] * (columns - 1)])
    for axes in grid.flat:
        axes.set_axis_off()
    for (query, _, *others), tiles in zip(grid, rows):
        query.set_axis_on()
        query.set(xticks=[], yticks=[])
        query.spines[:].set(visible=True, color=plotting.COLOURS[1], linewidth=3)
        for axes, (title, image) in zip([query, *others], tiles):
            axes.set_title(title, fontsize=8, fontweight="normal", loc="left")
            if image is None:
                axes.text(0.5, 0.5, "not found", fontsize=10, ha="center", va="center", transform=axes.transAxes)
                axes.set_aspect(1)
            else:
                axes.imshow(image)
