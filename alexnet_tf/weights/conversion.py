"""From a weight file to a run, and back: which reader, which conventions of the input, which classes.

An imported run has neither images nor momentum. Apart from that it is as training leaves a run, for every command.
"""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from alexnet_tf.network import architectures
from alexnet_tf.runs.config import MEAN_IMAGE, ImportedFile, RunConfig, RunData, TrainConfig, class_names_in
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import atomic_files, errors
from alexnet_tf.weights import caffemodel, containers, formats, layouts, pickled_arrays

_CLASSES = pathlib.Path(__file__).with_name("imagenet_classes.txt")

# What `Recipe.resize` does, in words.
_RESIZED = {"caffe": "warped to 256 x 256", "paper": "with the shorter side scaled to 256"}


def imagenet_classes() -> tuple[list[str], list[str]]:
    """Returns (WordNet ids, "id name" for people) of ImageNet's 1000 classes, in Caffe's and torchvision's order."""
    lines = [line for line in _CLASSES.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return [line.split()[0] for line in lines], lines


def read_mean(mean: str, image_size: int) -> list[float] | np.ndarray:
    """Returns the mean of --mean, as the first layer subtracts it.

    Args:
        mean: "B,G,R" in [0, 255], as Caffe's users know it, or a .binaryproto or .npy file in Caffe's order [3, height,
            width], BGR. Of a larger mean image the centre is taken, where the centre crop of an evaluation lies; Caffe
            moves it with the crop.
        image_size: Side of the network's input.

    Returns:
        [R, G, B], or float32 [image_size, image_size, 3] RGB.

    Raises:
        WeightFileError: If it is neither.
    """
    array: np.ndarray | dict
    if not mean.lower().endswith((".binaryproto", ".npy")):
        try:
            array = np.array([float(each) for each in mean.split(",")])
        except ValueError as error:
            raise containers.WeightFileError(
                f"--mean={mean} is neither B,G,R nor a .binaryproto or .npy file."
            ) from error
    else:
        content = containers.read_bytes(mean)
        is_proto = mean.lower().endswith(".binaryproto")
        array = caffemodel.read_mean(content) if is_proto else pickled_arrays.read_npy(content)
    if isinstance(array, dict) or array.shape[:1] != (3,) or array.ndim not in (1, 3) or not np.isfinite(array).all():
        raise containers.WeightFileError(
            f"--mean={mean} is not a mean: it must be three numbers, or an array [3, height, width]."
        )
    if array.ndim == 1:
        return array[::-1].tolist()
    offsets = [(size - image_size) // 2 for size in array.shape[1:]]
    if min(offsets) < 0 or array.shape[1] > architectures.SQUARE_SIZE or array.shape[2] > architectures.SQUARE_SIZE:
        raise containers.WeightFileError(
            f"--mean={mean} has {array.shape[1]} x {array.shape[2]} pixels; {image_size} to "
            f"{architectures.SQUARE_SIZE} are needed."
        )
    top, left = offsets
    return np.ascontiguousarray(
        array[::-1, top : top + image_size, left : left + image_size].transpose(1, 2, 0), "float32"
    )


def _read_lines(path) -> list[str]:
    try:
        return class_names_in(containers.read_bytes(path).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise containers.WeightFileError(f"--classes={path} is not UTF-8 text.") from error


def _choose_classes(path, of_the_file: list[str] | None, count: int) -> tuple[list[str], list[str]]:
    """Returns (the classes' names as data sets have them, as people read them), for `count` logits."""
    if path is None:
        if of_the_file is not None and len(of_the_file) == count:
            return of_the_file, of_the_file
        if count != 1000:
            raise containers.WeightFileError(
                f"It has {count} classes. Name them: --classes=FILE, a line each, in the order of the logits."
            )
        return imagenet_classes()
    names = _read_lines(path)
    if len(names) != count:
        raise containers.WeightFileError(f"--classes={path} has {len(names)} lines; the network has {count} logits.")
    return names, names


def import_run(
    source: str | os.PathLike,
    path: str | os.PathLike,
    *,
    architecture: str | None = None,
    classes: str | os.PathLike | None = None,
    mean: str | None = None,
    allow_nan: bool = False,
    partial: bool = False,
) -> list[str]:
    """Turns a weight file into a run.

    Args:
        source: The file; its ending is one of those in `formats.FORMATS`.
        path: The run's directory, new.
        architecture: Name of the architecture; by default it is detected.
        classes: File with a class name on each line; by default the file's own, or ImageNet's if there are 1000 logits.
        mean: See `read_mean`; by default the file's, or else the architecture's own.
        allow_nan: Whether weights may be other than finite numbers.
        partial: Whether layers may be missing; they are then initialised as for training.

    Returns:
        What was found and decided, as lines to print.

    Raises:
        WeightFileError: If the file cannot be read, or fits no architecture.
        errors.RunError: If the directory holds a run already, or cannot be written.
    """
    run = RunDirectory(path)
    if run.read_config() is not None or run.steps():
        raise errors.RunError(f"{run} holds a run already. Give another --workdir.")
    content = containers.read_bytes(source)
    try:
        file_format = formats.format_of(str(source))
        read = formats.FORMATS[file_format].read(content)
        file_format = read.file_format or file_format
        network, how = layouts.detect_architecture(
            file_format,
            read.entries,
            layers=read.layers,
            architecture=architecture or read.architecture,
            partial=partial,
        )
        how = "as the file states" if read.architecture and not architecture else how
        layout = formats.FORMATS[file_format].layout
        if partial and classes and not _has_last_layer(network, layout, read.entries):
            network = architectures.with_num_classes(network, len(_read_lines(classes)))
        arrays = layouts.from_file(network, layout, read.entries) if layout else read.entries
        arrays = {name: np.asarray(array, "float32") for name, array in arrays.items()}
        if not allow_nan:
            layouts.check_finite(arrays)
    except containers.WeightFileError as error:
        raise containers.WeightFileError(f"{source}: {error}") from error
    missing = [name for name in layouts.variable_shapes(network) if name not in arrays]
    if missing:
        arrays |= _initial_arrays(network, missing)
    ids, names = _choose_classes(classes, read.class_names, network.num_classes)
    subtracted = read_mean(mean, network.image_size) if mean else network.mean if read.mean is None else read.mean
    scale = tuple(network.scale if read.scale is None else read.scale)
    with run.locked():
        run_config = make_run_config(
            network,
            subtracted,
            scale,
            ids,
            ImportedFile(pathlib.Path(source).name, hashlib.sha256(content).hexdigest()),
        )
        run.write_checkpoint(0, {**arrays, **layouts.dropout_counts(network)}, {"epoch": 0})
        if run_config.mean == MEAN_IMAGE:
            run.write_mean_image(np.asarray(subtracted, "float32"))
        run.write_config(run_config, names)
    return _report(network, how, arrays, run_config, names, missing)


def make_run_config(
    architecture: architectures.Architecture,
    mean: Sequence[float] | np.ndarray,
    scale: Sequence[float],
    classes: Sequence[str],
    source: ImportedFile,
) -> RunConfig:
    """Returns the config of an imported run."""
    return RunConfig(
        train=TrainConfig(
            architecture=architecture.name,
            recipe=architecture.recipe,
            mean="image" if np.ndim(mean) == 3 else "pixel",
        ),
        image_size=architecture.image_size,
        mean=MEAN_IMAGE if np.ndim(mean) == 3 else tuple(mean),
        scale=tuple(scale),
        data=RunData(classes=tuple(classes), fingerprint=source.sha256),
        imported=source,
    )


def _has_last_layer(architecture, layout, entries) -> bool:
    last = architecture.stages[-1].name
    return (layout.name("kernel", last) if layout else f"{last}/kernel") in entries


def _initial_arrays(architecture, names) -> dict[str, np.ndarray]:
    """Returns some variables of a network at the start of its training."""
    from alexnet_tf.network import alexnet  # TensorFlow takes seconds, and most imports do without.

    model = alexnet.build_model(architecture)
    return {variable.path: variable.numpy() for variable in model.variables if variable.path in set(names)}


def _report(architecture, how, arrays, run_config, names, missing):
    mean = run_config.mean
    mean = "a mean image" if mean == MEAN_IMAGE else "R, G, B = " + ", ".join(f"{each:.3f}" for each in mean)
    factor = (
        ""
        if set(run_config.scale) == {1.0}
        else ", then times " + ", ".join(f"{each:.6f}" for each in run_config.scale)
    )
    return [
        f"Network: {architecture.name} ({how}), {sum(array.size for array in arrays.values()):,} parameters",
        f"Input: RGB {architecture.image_size} x {architecture.image_size} in [0, 255]; minus {mean}{factor}; images "
        f"{_RESIZED[architecture.recipe.resize]}, the centre",
        f"Classes: {len(names)}: {names[0]} ... {names[-1]}",
        *([f"Not in the file, and initialised at random: {', '.join(missing)}. Train before use."] if missing else []),
    ]


def export_run(
    path: str | os.PathLike, file_format: str, output: str | os.PathLike, *, which: str = "last"
) -> list[str]:
    """Writes a run's weights for another engine.

    Args:
        path: The run's directory.
        file_format: One of `formats.WRITTEN`.
        output: The file. Beside a .caffemodel appear its .prototxt, its .classes.txt, and a mean image as .binaryproto.
        which: "last" or "best" checkpoint.

    Returns:
        What was written, and what its reader must know, as lines to print.

    Raises:
        WeightFileError: If the format cannot hold the architecture.
        errors.RunError: If there is no run or checkpoint, or the output cannot be written.
    """
    run = RunDirectory(path)
    run_config = run.existing_config()
    architecture = run_config.architecture
    reason = layouts.unsupported_reason(architecture, file_format)
    if reason:
        possible = [name for name in formats.WRITTEN if not layouts.unsupported_reason(architecture, name)]
        raise containers.WeightFileError(f"{reason}. Formats that can: {', '.join(possible) or 'none'}.")
    shapes, mean = layouts.variable_shapes(architecture), run.read_mean(run_config)
    arrays, _ = run.existing_checkpoint(which, is_wanted=shapes.__contains__)
    problems = layouts.differences(shapes, arrays)
    if problems:
        raise errors.RunError(f"The checkpoint of {run} does not fit {architecture.name}: {'; '.join(problems)}.")
    output = pathlib.Path(output).expanduser()
    chosen, shown = formats.FORMATS[file_format], architecture
    assert chosen.layout and chosen.write  # It is one of formats.WRITTEN.
    if not chosen.has_scale and architecture.scale != (1.0, 1.0, 1.0):
        _fold_scale(arrays, architecture)
        shown = dataclasses.replace(architecture, scale=(1.0,) * 3)
    lines = _conventions(shown, mean, chosen.layout.is_bgr)
    if shown is not architecture:
        lines.append("The file has no place for the input's scale: conv1 was multiplied by it.")
    if chosen.layout.default not in (None, architecture.name):
        lines.append(
            f"The file does not state that it is {architecture.name}: readers take it for {chosen.layout.default} by "
            "default."
        )
    entries = layouts.to_file(architecture, chosen.layout, arrays)
    files = chosen.write(output, formats.Network(architecture, entries, mean, lines))
    if file_format == "caffemodel":  # It has no place for them.
        files.append(_write_class_names(run, output.with_suffix(".classes.txt")))
    return [*(f"Written: {file}" for file in files), *lines]


def _write_class_names(run: RunDirectory, path: pathlib.Path) -> pathlib.Path:
    """Writes a run's class names, one a line in the order of the logits, as `--classes` reads them."""
    content = "".join(f"{name}\n" for name in run.class_names()).encode("utf-8", "surrogateescape")
    atomic_files.atomic_write(path, lambda file: file.write(content))
    return path


def _fold_scale(arrays, architecture):
    for name in architecture.stages[0].layer_names:
        arrays[f"{name}/kernel"] *= np.array(architecture.scale, "float32")[:, None]


def _conventions(architecture, mean, is_bgr) -> list[str]:
    """Returns what a reader of the file must do with an image."""
    step = -1 if is_bgr else 1
    order = "B, G, R" if is_bgr else "R, G, B"
    mean = "the run's mean image" if np.ndim(mean) == 3 else f"({', '.join(f'{each:.9g}' for each in mean[::step])})"
    factor = ""
    if architecture.scale != (1.0, 1.0, 1.0):
        factor = f", times ({', '.join(f'{each:.9g}' for each in architecture.scale[::step])})"
        factor += " (the layer `scale` does so)" if is_bgr else ""
    return [
        f"Input: {order}, 0 to 255, minus {mean}{factor}; images {_RESIZED[architecture.recipe.resize]}, the "
        f"central {architecture.image_size} pixels"
    ]
