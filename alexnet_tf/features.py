"""What a layer makes of each image of a set, on disk, and which images it makes nearly the same of (Section 6.1).

The file is an .npz of `array_files`:

    features       float32 [n, width], an image's activations, flattened in the order height, width, channel
    shape          what the activations of an image were before: [4096], or [height, width, channels]
    names          of the images: absolute paths; in records and tar files, the file and the place in it
    labels         int32 [n], -1 where there is none; classes: their names
    indices        int64 [n], each image's number in its split
    layer, workdir, checkpoint, epoch, weights (their SHA-256), data_dir, split, fingerprint    where all that is from

Everything is computed in float32 with the crop that evaluation uses, whatever the run was trained in: as the export's.
"""

import contextlib
import dataclasses
import hashlib
import math
import os
import pathlib
import shutil
import sys
import tempfile
import time
import warnings

import keras
import numpy as np
import tensorflow as tf
import tqdm

from alexnet_tf import alexnet, array_files, config, datasets, evaluation, input_pipeline, monitoring, preprocessing, workdir

# Of a picture: more would be too small to see, and take gigabytes to draw.
MAX_TILES = 400

# The arrays that `find_similar` needs: NumPy's letter for their kind, and their number of dimensions.
_MEMBERS = {
    "features": ("f", 2), "names": ("U", 1), "labels": ("i", 1), "indices": ("i", 1), "classes": ("U", 1), "epoch": ("i", 0),
    **{name: ("U", 0) for name in ("layer", "workdir", "checkpoint", "weights", "data_dir", "split", "fingerprint")}}


@dataclasses.dataclass(frozen=True)
class Request:
    """What to write the features of.

    Attributes:
        layer: As `layers_of` knows it.
        images: Image files; without any, those of a data set.
        data_dir: As for `datasets.find`; by default the run's.
        dataset: As for `datasets.find`.
        split: Name of a split; by default "train", or the only one.
        checkpoint: "last" or "best".
        on_bad_image: As in `input_pipeline.evaluation_batches`.
        batch_size: Images a batch.
    """

    layer: str
    images: tuple[str, ...] = ()
    data_dir: str | None = None
    dataset: str | None = None
    split: str | None = None
    checkpoint: str = "last"
    on_bad_image: str = "fail"
    batch_size: int = 128


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
class Answer:
    """What is nearest to a query.

    Attributes:
        file: The query's file.
        error: Why it could not be read, or None.
        neighbours: The nearest images of the set, nearest first; the query too if it is one of them, at distance 0.
    """

    file: str
    error: str | None
    neighbours: tuple[Neighbour, ...]


def layers_of(model: keras.Model, architecture: config.Architecture) -> dict[str, tuple[str, ...]]:
    """Returns {name that a person may give: the layers of the model whose outputs it means}, stages first.

    A stage's name, `conv1` or `fc7`, means both its towers joined, a before b, after its ReLU where it has one (before
    dropout). The name of a step, `conv5_pool`, means both towers' too. Any other name is a layer's own: `conv2_b` is
    linear, `conv2_b_relu` is not.
    """
    names = [layer.name for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    meanings = {name: (name,) for name in names}
    for stage in architecture.stages:
        first, *_ = stage.layer_names
        for suffix in [name.removeprefix(first) for name in names if f"{name}_".startswith(f"{first}_")]:
            meanings.setdefault(stage.name + suffix, tuple(name + suffix for name in stage.layer_names))
    stages = {stage.name: meanings.get(f"{stage.name}_relu", meanings[stage.name]) for stage in architecture.stages}
    return stages | {name: layers for name, layers in meanings.items() if name not in stages}


def make_extractor(model: keras.Model, architecture: config.Architecture, layer: str):
    """Returns (function from images uint8 [batch, size, size, 3] to float32 [batch, width], the layers it shows, their shape).

    Raises:
        UserError: If there is no such layer.
    """
    known = layers_of(model, architecture)
    if layer not in known:
        stages = [stage.name for stage in architecture.stages]
        raise config.UserError(
            f"{architecture.name} has no layer {layer!r}. Stages, after ReLU: {', '.join(stages)}. Single steps: "
            f"{', '.join(name for name in known if name not in stages)}.")
    outputs = [model.get_layer(name).output for name in known[layer]]
    part = keras.Model(model.input, outputs[0] if len(outputs) == 1 else keras.ops.concatenate(outputs, axis=-1))

    @tf.function(input_signature=[tf.TensorSpec([None, *model.input_shape[1:]], tf.uint8)])
    def extract(images):
        return tf.cast(tf.reshape(part(images, training=False), [tf.shape(images)[0], -1]), tf.float32)

    return extract, known[layer], part.output.shape[1:]


def write_features(path, output, request: Request, say=print) -> None:
    """Writes the activations of a layer for every image of a set; the file appears whole or not at all.

    In memory are the network, a few batches and the images' names. On the disk, while it is written, the file takes
    twice its size.

    Args:
        path: The run's directory.
        output: The .npz file.
        request: What to write.
        say: Called with each line for the screen.

    Raises:
        UserError: If something is not there, does not fit or cannot be read, or the file cannot be written.
    """
    output = pathlib.Path(output).expanduser()
    if output.suffix != ".npz":
        raise config.UserError(f"--output must be a file that ends in .npz; got {str(output)!r}.")
    run = workdir.Workdir(path)
    model, run_config, state = evaluation.load_model(run, request.checkpoint, precision="float32")
    architecture = config.architecture_of(run_config)
    extract, layers, shape = make_extractor(model, architecture, request.layer)
    split, source = _find_images(run_config["data"], request)
    width = math.prod(shape)
    say(f"{request.layer} of {run} ({architecture.name}, {request.checkpoint} checkpoint, after epoch {state['epoch']}): "
        f"{' and '.join(layers)}, {' x '.join(map(str, shape))} numbers an image")
    say(f"{source.pop('title')}: {len(split):,} images")
    batches = input_pipeline.evaluation_batches(
        split, batch_size=request.batch_size, image_size=architecture.image_size, resize=run_config["recipe"]["resize"],
        on_bad_image=request.on_bad_image, skipped=(skipped := {}))
    start = time.monotonic()
    with _scratch(output, 2 * len(split) * width * 4) as rows:
        labels = _extract_all(extract, batches, rows, len(split))
        # The rows are those of the images that could be read, in order.
        indices = np.array([index for index in range(len(split)) if index not in skipped], "int64")
        speed = len(labels) / (time.monotonic() - start)
        rows.seek(0)
        members = {
            "features": array_files.Stream("<f4", (len(labels), width), _pieces(rows)), "names": _names(split, indices),
            "labels": labels, "indices": indices, "shape": np.array(shape, "int64"), "layer": request.layer,
            "workdir": os.path.abspath(run), "checkpoint": request.checkpoint, "epoch": np.int64(state["epoch"]),
            "weights": _digest(model), **source}
        workdir.write_whole(output, lambda file: array_files.write(file, members))
    left_out = f" ({len(skipped):,} left out)" if skipped else ""
    say(f"Wrote {output}: {len(labels):,} images{left_out}, {os.path.getsize(output) / 1e6:,.1f} MB, {speed:.0f} images/s")


def _find_images(run_data: dict, request: Request):
    """Returns (the split, {array: what it holds} of where it is from, with its title for the screen)."""
    if request.images:
        if request.data_dir or request.dataset or request.split:
            raise config.UserError("Give either image files, or --data_dir (with --dataset and --split).")
        split = datasets.ImageFiles(tuple(map(os.path.abspath, request.images)), np.full(len(request.images), -1, "int32"))
        return split, {"title": "Files", "classes": np.array([], "<U1"), "data_dir": "", "split": "", "fingerprint": ""}
    data = datasets.find_again(run_data, request.data_dir, request.dataset, any_classes=True)
    name = request.split or ("train" if "train" in data.splits else data.validation)
    if name not in data.splits:
        raise config.UserError(f"--split={name} is not in {data.directory}; there: {', '.join(data.splits)}.")
    return data.splits[name], {
        "title": f"{data.directory}, {name}", "classes": np.array(data.class_names), "data_dir": data.directory,
        "split": name, "fingerprint": data.fingerprint()}


@contextlib.contextmanager
def _scratch(output, size: int):
    """Gives a file without a name beside the output: it is gone with this process, however that ends.

    Raises:
        UserError: If `size` bytes are not free there, or it cannot be written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(output.parent).free) < size:
            raise config.UserError(
                f"{output} needs {size / 1e9:.1f} GB while it is written, and {free / 1e9:.1f} GB are free in "
                f"{output.parent}. Give an --output on another disk, or a layer with fewer numbers.")
        with tempfile.TemporaryFile(dir=output.parent) as file:
            yield file
    except OSError as error:
        raise config.UserError(f"{output} could not be written: {error.strerror or error}.") from error


def _extract_all(extract, batches, rows, num_images: int) -> np.ndarray:
    """Writes the activations of all batches to a file and returns the labels, int32 [n]."""
    labels = [np.zeros(0, "int32")]
    with tqdm.tqdm(total=num_images, unit="image", disable=None) as bar:
        for images, batch_labels in batches:
            values = extract(images[:, 0]).numpy()
            if not np.isfinite(values).all():
                raise config.UserError("The network gives values that are no numbers: the run has diverged.")
            rows.write(values)
            labels.append(batch_labels.numpy())
            bar.update(len(values))
    labels = np.concatenate(labels)
    if not len(labels):
        raise config.UserError("None of the images could be read: there is nothing to write.")
    return labels


def _pieces(file):
    """Yields the rest of a file, some bytes at a time."""
    return iter(lambda: file.read(array_files.BLOCK_BYTES), b"")


def _names(split, indices) -> array_files.Stream:
    """Returns the images' names; as text, where bytes that are no UTF-8 are Python's surrogates."""
    dtype = f"<U{max(len(split.describe(index)) for index in indices)}"
    blocks = (indices[first:first + 1024] for first in range(0, len(indices), 1024))
    parts = (np.array([split.describe(index) for index in block], dtype) for block in blocks)
    return array_files.Stream(dtype, (len(indices),), parts)


def _digest(model) -> str:
    """Returns the SHA-256 of a model's weights."""
    digest = hashlib.sha256()
    for variable in model.trainable_variables:
        digest.update(variable.path.encode())
        digest.update(np.ascontiguousarray(variable.numpy()))
    return digest.hexdigest()


def find_similar(
    path, images, *, top: int = 6, run_path=None, grid=None, data_dir: str | None = None) -> list[Answer]:
    """Finds the images of a set that are nearest to each query by the Euclidean distance of their features (Figure 4).

    The queries' features are computed with the run that made the set's. In memory are the network, the queries and a
    few megabytes of the set's features.

    Args:
        path: What `write_features` wrote.
        images: The queries' files.
        top: How many images to find for each. Of equally distant ones the first in the file comes first.
        run_path: Where the run is, if not where it was.
        grid: A .png or .jpg file to draw them into, a row for each query. Images that are not found any more are told
            on standard error, and empty there.
        data_dir: Where the set's images are, if not where they were.

    Returns:
        An answer for each query.

    Raises:
        UserError: If the file or the run cannot be read, or do not fit together, or the picture cannot be drawn.
    """
    if grid:
        _check_grid(grid, len(images), top)
    with array_files.Reader(pathlib.Path(path).expanduser()) as file:
        _check_members(file)
        queries = datasets.ImageFiles(tuple(images), np.full(len(images), -1, "int32"))
        errors = {index: reason for index in range(len(images))
                  if (reason := input_pipeline.why_unreadable(queries, index)) is not None}
        answers = [Answer(image, errors.get(index), ()) for index, image in enumerate(images)]
        if len(errors) == len(images):
            return answers
        features, resize = _query_features(file, run_path, queries, errors)
        places, distances = nearest(file.blocks("features"), features, top)
        if not np.isfinite(distances).all():
            raise config.UserError(f"{file.path}: 'features' holds values that are no numbers.")
        readable = [index for index in range(len(images)) if index not in errors]
        for index, neighbours in zip(readable, _describe(file, places, distances)):
            answers[index] = dataclasses.replace(answers[index], neighbours=neighbours)
        if grid:
            rows = [answers[index] for index in readable]
            found = _stored_images(file, rows, places, data_dir)
            tiles = [[queries.image_bytes(index), *row] for index, row in zip(readable, found)]
            _draw(grid, rows, tiles, resize)
    return answers


def nearest(blocks, queries: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nearest rows of a matrix that is given in blocks; only one of them is in memory.

    Args:
        blocks: (number of the first row, float32 [rows, width]) for all rows, in order.
        queries: float32 [n, width].
        top: How many rows to find for each query.

    Returns:
        (int64 [n, k], float64 [n, k]): which rows, and their Euclidean distances; k is `top`, or the number of rows if that
        is less.
    """
    places, squares = np.zeros((len(queries), 0), "int64"), np.zeros((len(queries), 0))
    for first, block in blocks:
        block = block.astype("float64")  # Not |a|^2 - 2ab + |b|^2: the difference of nearly equal numbers would be noise.
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
        raise array_files.ArrayFileError(
            f"{file.path}: 'features' has {count:,} rows of {width:,} numbers; beside them stand {others}.")


def _query_features(file, run_path, queries, errors):
    """Returns (float32 [n, width] of the readable queries, how images become square), by the run that made the file."""
    run, which, layer = workdir.Workdir(run_path or file.text("workdir")), file.text("checkpoint"), file.text("layer")
    if not run_path and run.read_config() is None:
        raise workdir.WorkdirError(f"The run that made {file.path} is no longer in {run}. Say where: --workdir=RUN.")
    model, run_config, state = evaluation.load_model(run, which, precision="float32")
    if _digest(model) != file.text("weights"):
        raise config.UserError(
            f"{file.path} was written with other weights than those of {run} now: {which} checkpoint, after epoch "
            f"{file.whole('epoch', 'i', 0)} then and {state['epoch']} now. The run has gone on, or is another one. Write the "
            "file again (python -m alexnet_tf features), or give the run that made it: --workdir=RUN.")
    extract, _, shape = make_extractor(model, config.architecture_of(run_config), layer)
    if (width := file.shape("features", "f", 2)[1]) != math.prod(shape):
        raise array_files.ArrayFileError(
            f"{file.path} holds {width:,} numbers an image; {layer} of {run} gives {math.prod(shape):,}.")
    batches = input_pipeline.evaluation_batches(
        queries, batch_size=32, image_size=run_config["image_size"], resize=run_config["recipe"]["resize"], skipped=dict(errors))
    return np.concatenate([extract(images[:, 0]).numpy() for images, _ in batches]), run_config["recipe"]["resize"]


def _describe(file, places, distances) -> list[tuple[Neighbour, ...]]:
    """Looks up which images the rows of a file are."""
    names, labels = file.values("names", places), file.values("labels", places)
    classes = file.whole("classes", "U", 1).tolist()

    def class_name(place):
        return classes[labels[place]] if 0 <= labels[place] < len(classes) else None

    return [tuple(Neighbour(names[place], class_name(place), distance) for place, distance in zip(*row))
            for row in zip(places.tolist(), distances.tolist())]


def _check_grid(path, rows: int, top: int):
    if pathlib.Path(path).suffix.lower() not in (".png", ".jpg"):
        raise config.UserError(f"--grid must be a file that ends in .png or .jpg; got {str(path)!r}.")
    if rows * (1 + top) > MAX_TILES:
        raise config.UserError(
            f"--grid draws at most {MAX_TILES} images; got {rows} rows of {1 + top}. Give fewer images, or a lower --top.")


def _stored_images(file, answers, places, data_dir):
    """Returns the encoded images of all neighbours, a row for each answer; None for what is not there, which is told."""
    names = {neighbour.file for answer in answers for neighbour in answer.neighbours}
    split = None
    if data_dir or file.text("data_dir") and not all(map(os.path.isfile, names)):  # Moved, or inside records.
        split = _find_split(file, data_dir)
    indices, told = file.values("indices", places), set()

    def read(name, place):
        source, index = datasets.ImageFiles((name,), np.array([-1], "int32")), 0
        if split is not None and 0 <= indices[place] < len(split):
            source, index = split, indices[place]
        is_there = source is split or os.path.isfile(name)  # A device would be read without an end.
        reason = input_pipeline.why_unreadable(source, index) if is_there else "it is not there"
        if reason and name not in told:
            told.add(name)
            print(f"Not drawn: {monitoring.printable(name)}: {reason}.", file=sys.stderr)
        return None if reason else source.image_bytes(index)

    found = [[read(neighbour.file, place) for neighbour, place in zip(answer.neighbours, row)]
             for answer, row in zip(answers, places.tolist())]
    if told and not data_dir:
        print("If the images have moved, say where they are: --data_dir=DIR.", file=sys.stderr)
    return found


def _find_split(file, data_dir):
    """Returns the split that a file was made of, or None, which is told."""
    directory, name = data_dir or file.text("data_dir"), file.text("split")
    try:
        data = datasets.find(directory, is_whole=name == "all")
    except datasets.DataError as error:
        print(str(error).split("\n")[0], file=sys.stderr)
        return None
    if data.fingerprint() != file.text("fingerprint") or name not in data.splits:
        print(f"{directory} does not hold the images that {file.path} was made of.", file=sys.stderr)
        return None
    return data.splits[name]


def _draw(path, answers, tiles, resize: str):
    """Draws a row for each answer as Figure 4 does: the query, then its neighbours with their classes and distances."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(map(len, tiles))
    figure = Figure(figsize=(1.3 * columns, 1.5 * len(tiles)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(tiles), columns, squeeze=False)
    for each in axes.flat:
        each.set_axis_off()
    for row, answer, images in zip(axes, answers, tiles):
        titles = [os.path.basename(answer.file)[:16]] + [
            f"{(neighbour.class_name or os.path.basename(neighbour.file))[:18]} {neighbour.distance:.1f}"
            for neighbour in answer.neighbours]
        for each, title, image_bytes in zip(row, titles, images):
            each.set_title(monitoring.printable(title), fontsize=7, parse_math=False)
            if image_bytes is None:
                each.text(0.5, 0.5, "not found", fontsize=7, ha="center", va="center")
            else:
                each.imshow(preprocessing.square(tf.constant(image_bytes), resize).numpy())
    kind = pathlib.Path(path).suffix[1:].lower()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # A box stands in its place.
        workdir.write_whole(path, lambda file: figure.savefig(file, format=kind, dpi=100))
