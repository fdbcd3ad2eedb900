"""Finds the images of a feature file that are nearest to a query, and draws them (Figure 4, Section 6.1)."""

import dataclasses
import logging
import math
import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from alexnet_tf.data import datasets, discovery, input_pipeline, plain_images, preprocessing
from alexnet_tf.data.options import ExampleOptions
from alexnet_tf.evaluation import features, npz_stream
from alexnet_tf.runs.directory import RunDirectory, load_model
from alexnet_tf.support import errors, plotting, shell

_LOGGER = logging.getLogger(__name__)

# Images in a picture; more would take gigabytes to draw.
MAX_TILES = 400

_PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")

# The arrays that `find_similar` needs: NumPy's letter for their kind and their number of dimensions.
_MEMBERS = {
    "features": ("f", 2),
    "names": ("U", 1),
    "labels": ("i", 1),
    "indices": ("i", 1),
    "classes": ("U", 1),
    "epoch": ("i", 0),
    **{name: ("U", 0) for name in ("layer", "workdir", "checkpoint", "weights", "data_dir", "split", "fingerprint")},
}


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
    neighbours: tuple[Neighbour, ...]


def find_similar(
    path: str | os.PathLike,
    images: Sequence[str],
    *,
    top: int = 6,
    run_path: str | None = None,
    grid: str | None = None,
    data_dir: str | None = None,
) -> list[QueryResult]:
    """Finds the images of a set that are nearest to each query by the Euclidean distance of their features (Figure 4).

    The queries' features are computed with the run that made the set's. In memory are the network, the queries and a
    few megabytes of the set's features.

    Args:
        path: What `write_features` wrote.
        images: The queries' files.
        top: How many images to find for each. Of equally distant ones the first in the file comes first.
        run_path: Where the run is, if not where it was.
        grid: A .png or .jpg file to draw them into, a row for each query. Images that are no longer there are reported
            on standard error, and their places stay empty.
        data_dir: Where the set's images are, if not where they were.

    Returns:
        A result for each query.

    Raises:
        UserError: If the file or the run cannot be read, or do not fit together, or the picture cannot be drawn.
    """
    if grid:
        _check_grid(grid, len(images), top)
    with npz_stream.Reader(pathlib.Path(path).expanduser()) as file:
        _check_members(file)
        queries = datasets.ImageFiles(tuple(images), np.full(len(images), -1, "int32"))
        problems = {
            index: reason
            for index in range(len(images))
            if (reason := input_pipeline.why_unreadable(queries, index)) is not None
        }
        answers = [QueryResult(image, problems.get(index), ()) for index, image in enumerate(images)]
        if len(problems) == len(images):
            return answers
        query_features, resize = _query_features(file, run_path, queries, problems)
        places, distances = nearest(file.blocks("features"), query_features, top)
        if not np.isfinite(distances).all():
            raise errors.UserError(f"{file.path}: 'features' holds values that are not finite.")
        readable = [index for index in range(len(images)) if index not in problems]
        for index, neighbours in zip(readable, _describe(file, places, distances)):
            answers[index] = dataclasses.replace(answers[index], neighbours=neighbours)
        if grid:
            rows = [answers[index] for index in readable]
            found = _stored_images(file, rows, places, data_dir)
            tiles = [[queries.image_bytes(index), *row] for index, row in zip(readable, found)]
            _draw(grid, rows, tiles, resize)
    return answers


def nearest(blocks: Iterable[tuple[int, np.ndarray]], queries: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nearest rows of a matrix that is given in blocks; only one of them is in memory.

    Args:
        blocks: (number of the first row, float32 [rows, width]) for all rows, in order.
        queries: float32 [n, width].
        top: How many rows to find for each query.

    Returns:
        (int64 [n, k], float64 [n, k]): which rows, and their Euclidean distances; k is `top`, or the number of rows if
        that is less.
    """
    places, squares = np.zeros((len(queries), 0), "int64"), np.zeros((len(queries), 0))
    for first, block in blocks:
        # Not |a|^2 - 2ab + |b|^2: the difference of nearly equal numbers would be noise.
        block = block.astype("float64")
        differences = (block - query for query in queries)
        here = np.stack([np.einsum("ij,ij->i", difference, difference) for difference in differences])
        squares = np.concatenate([squares, here], axis=1)
        rows = np.arange(first, first + len(block))
        places = np.concatenate([places, np.broadcast_to(rows, here.shape)], axis=1)
        order = np.argsort(squares, axis=1, kind="stable")[:, :top]
        places, squares = (np.take_along_axis(each, order, axis=1) for each in (places, squares))
    return places, np.sqrt(squares)


def _check_members(file):
    """Raises ArrayFileError if a file is not one of `write_features`."""
    shapes = {name: file.shape(name, *form) for name, form in _MEMBERS.items()}
    count, width = shapes["features"]
    others = {name: shapes[name] for name in ("names", "labels", "indices")}
    if not count * width or set(others.values()) != {(count,)}:
        raise npz_stream.ArrayFileError(
            f"{file.path}: 'features' has {count:,} rows of {width:,} numbers, but the other arrays have the shapes "
            f"{others}."
        )


def _query_features(file, run_path, queries, problems):
    """Returns (float32 [n, width] of the readable queries, how images become square), by the run that made the file."""
    run, which, layer = RunDirectory(run_path or file.text("workdir")), file.text("checkpoint"), file.text("layer")
    if not run_path and run.read_config() is None:
        raise errors.RunError(
            f"The run that made {file.path} is no longer in {run}. Give its directory: --workdir=RUN."
        )
    # Files of older versions hold no precision: they are all float32.
    precision = file.text("precision") if "precision" in file.names() else "float32"
    if precision not in _PRECISIONS:
        raise npz_stream.ArrayFileError(f"{file.path}: 'precision' is {precision[:40]!r}, which is not known.")
    model, run_config, state = load_model(run, which, precision)
    if features.digest_weights(model) != file.text("weights"):
        files = () if file.text("data_dir") else ("IMAGE...",)
        again = shell.command_line(
            "features",
            *files,
            workdir=run,
            layer=layer,
            checkpoint=which,
            data_dir=file.text("data_dir") or None,
            split=file.text("split") or None,
            output=file.path,
        )
        raise errors.UserError(
            f"{file.path} was written with other weights than those of {run} now: {which} checkpoint, after epoch "
            f"{file.whole('epoch', 'i', 0)} then and {state['epoch']} now. The run has gone on, or is another one. "
            f"Write the file again, or give the run that made it: --workdir=RUN.\n  {again}"
        )
    extract, _, shape = features.make_extractor(model, run_config.architecture, layer)
    if (width := file.shape("features", "f", 2)[1]) != math.prod(shape):
        raise npz_stream.ArrayFileError(
            f"{file.path} holds {width:,} numbers an image; {layer} of {run} gives {math.prod(shape):,}."
        )
    batches = input_pipeline.evaluation_batches(
        queries,
        batch_size=32,
        image_size=run_config.image_size,
        resize=run_config.train.recipe.resize,
        skipped=dict(problems),
    )
    return np.concatenate([extract(images[:, 0]).numpy() for images, _ in batches]), run_config.train.recipe.resize


def _describe(file, places, distances) -> list[tuple[Neighbour, ...]]:
    """Returns the images of some places in a file, for each query."""
    names, labels = file.values("names", places), file.values("labels", places)
    classes = file.whole("classes", "U", 1).tolist()

    def class_name(place):
        return classes[labels[place]] if 0 <= labels[place] < len(classes) else None

    return [
        tuple(Neighbour(names[place], class_name(place), distance) for place, distance in zip(*row))
        for row in zip(places.tolist(), distances.tolist())
    ]


def _check_grid(path, rows: int, top: int):
    plotting.check_ending("grid", path, (".png", ".jpg"))
    if rows * (1 + top) > MAX_TILES:
        raise errors.UserError(
            f"--grid draws at most {MAX_TILES} images; got {rows} rows of {1 + top}. Give fewer images, or a lower "
            "--top."
        )


def _stored_images(file, answers, places, data_dir):
    """Returns the encoded images of all neighbours, a row for each answer; None, with a warning, for a missing one."""
    names = {neighbour.file for answer in answers for neighbour in answer.neighbours}
    split = None
    if data_dir or file.text("data_dir") and not all(map(os.path.isfile, names)):  # Moved, or inside records.
        split = _find_split(file, data_dir)
    indices, reported = file.values("indices", places), set()

    def read(name, place):
        source, index = datasets.ImageFiles((name,), np.array([-1], "int32")), 0
        if split is not None and 0 <= indices[place] < len(split):
            source, index = split, indices[place]
        is_there = source is split or os.path.isfile(name)  # A device would be read without an end.
        reason = input_pipeline.why_unreadable(source, index) if is_there else "it is not there"
        if reason and name not in reported:
            reported.add(name)
            _LOGGER.warning(f"Not shown: {shell.printable(name)}: {reason}.")
        return None if reason else source.image_bytes(index)

    found = [
        [read(neighbour.file, place) for neighbour, place in zip(answer.neighbours, row)]
        for answer, row in zip(answers, places.tolist())
    ]
    if reported and not data_dir:
        _LOGGER.warning("If the images have moved, give their directory: --data_dir=DIR.")
    return found


def _find_split(file, data_dir):
    """Returns the split that a file was made of, or None, with a warning."""
    directory, name = data_dir or file.text("data_dir"), file.text("split")
    try:
        data = discovery.find_dataset(directory, ExampleOptions(is_whole=name == "all"))
    except errors.DataError as error:
        _LOGGER.warning(str(error).split("\n")[0])
        return None
    if data.fingerprint() != file.text("fingerprint") or name not in data.splits:
        _LOGGER.warning(f"{directory} does not hold the images that {file.path} was made of.")
        return None
    return data.splits[name]


def _draw(path, answers, tiles, resize: str):
    """Draws a row for each answer as Figure 4 does: the query, apart, then its neighbours, nearest first."""
    columns = max(map(len, tiles))
    with plotting.style():
        figure = plotting.new_figure(1.7 * columns + 0.3, 2.12 * len(tiles) + 0.1)
        # A narrow empty column sets the queries apart.
        axes = figure.subplots(len(tiles), columns + 1, squeeze=False, width_ratios=[1, 0.06, *[1] * (columns - 1)])
        for each in axes.flat:
            each.set_axis_off()
        for (query, _, *row), answer, (query_bytes, *images) in zip(axes, answers, tiles):
            _draw_tile(query, os.path.basename(answer.file), "query", query_bytes, resize)
            query.set_axis_on()
            query.set(xticks=[], yticks=[])
            query.spines[:].set(visible=True, color=plotting.COLOURS[1], linewidth=3)
            for each, neighbour, image_bytes in zip(row, answer.neighbours, images):
                name = neighbour.class_name or os.path.basename(neighbour.file)
                _draw_tile(each, name, f"distance {neighbour.distance:.1f}", image_bytes, resize)
        plotting.save(figure, path)


def _draw_tile(axes, name: str, note: str, image_bytes: bytes | None, resize: str):
    axes.set_title(f"{plotting.shortened(name, 18)}\n{note}", fontsize=9, fontweight="normal", loc="left")
    if image_bytes is None:
        axes.text(0.5, 0.5, "not found", fontsize=10, ha="center", va="center", transform=axes.transAxes)
        axes.set_aspect(1)
    else:
        axes.imshow(preprocessing.square(tf.constant(plain_images.plain(image_bytes)), resize).numpy())
