"""From a weight file to a run, and back: which conventions of the input, which classes.

An imported run has neither images nor momentum. Apart from that it is as training leaves a run, for every command.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from alexnet_tf.network import architectures
from alexnet_tf.runs.config import MEAN_IMAGE, ImportedFile, RunConfig, RunData, TrainConfig, class_names_in
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import errors, home, settings, shell
from alexnet_tf.weights import formats, guard, layouts, safetensors_file

_CLASSES = pathlib.Path(__file__).with_name("imagenet_classes.txt")

# What `Recipe.resize` does, in words.
_RESIZED = {"caffe": "warped to 256 x 256", "paper": "with the shorter side scaled to 256"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """How a weight file becomes a run."""

    architecture: str | None = settings.setting(
        None,
        "Which network it is; by default detected from the names, shapes and order of the layers.",
        choices=architectures.ARCHITECTURES,
    )
    classes: str | None = settings.setting(
        None,
        "Text with a class name on each line, in the order of the logits. By default the file's own, or ImageNet's "
        "1000.",
        path="file",
    )
    mean: str | None = settings.setting(
        None,
        "What is subtracted from an image: B,G,R in [0, 255], or a .binaryproto or .npy file, [3, height, width], BGR. "
        "By default what the file states, or else what networks of its kind were trained with.",
    )
    allow_nan: bool = settings.setting(False, "Accept weights that are not finite.")
    partial: bool = settings.setting(
        False,
        "Accept a file that lacks layers, such as one of convolutions only; the others are initialised at random.",
    )


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
    if mean.lower().endswith((".binaryproto", ".npy")):
        array, *_ = guard.read(mean)[0].arrays.values()
    else:
        try:
            array = np.array([float(each) for each in mean.split(",")])
        except ValueError as error:
            raise formats.WeightFileError(f"--mean={mean} is neither B,G,R nor a .binaryproto or .npy file.") from error
    if array.shape[:1] != (3,) or array.ndim not in (1, 3) or not np.isfinite(array).all():
        raise formats.WeightFileError(
            f"--mean={mean} is not a mean: it must be three numbers, or an array [3, height, width]."
        )
    if array.ndim == 1:
        return array[::-1].tolist()
    top, left = ((size - image_size) // 2 for size in array.shape[1:])
    if min(top, left) < 0 or max(array.shape[1:]) > architectures.SQUARE_SIZE:
        raise formats.WeightFileError(
            f"--mean={mean} has {array.shape[1]} x {array.shape[2]} pixels; {image_size} to "
            f"{architectures.SQUARE_SIZE} are needed."
        )
    centre = array[::-1, top : top + image_size, left : left + image_size]
    return np.ascontiguousarray(centre.transpose(1, 2, 0), "float32")


def _input_of(file: formats.WeightFile, architecture, mean: str | None):
    """Returns (the mean [3] or [size, size, 3], the scale [3]) of a network's input, RGB."""
    size, scale = architecture.image_size, architecture.scale if file.scale is None else file.scale
    given = read_mean(mean, size) if mean else architecture.mean if file.mean is None else file.mean
    if np.shape(given) not in ((3,), (size, size, 3)) or np.shape(scale) != (3,):
        raise formats.WeightFileError("The mean and the scale that it states are not three numbers each, or an image.")
    return given, tuple(scale)


def _choose_classes(path: str | None, of_the_file: list[str] | None, count: int) -> tuple[list[str], list[str]]:
    """Returns (the classes' names as data sets have them, as people read them), for `count` logits."""
    if path is None:
        if of_the_file is not None and len(of_the_file) == count:
            return of_the_file, of_the_file
        if count != 1000:
            raise formats.WeightFileError(
                f"It has {count} classes. Name them: --classes=FILE, a line each, in the order of the logits."
            )
        return imagenet_classes()
    names = _read_lines(path)
    if len(names) != count:
        raise formats.WeightFileError(f"--classes={path} has {len(names)} lines; the network has {count} logits.")
    return names, names


def _read_lines(path: str) -> list[str]:
    try:
        return class_names_in(home.expand(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise formats.WeightFileError(f"--classes={path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise formats.WeightFileError(f"--classes={path} is not UTF-8 text.") from error


def import_run(
    source: str | os.PathLike, path: str | os.PathLike, options: ImportOptions = ImportOptions()
) -> list[str]:
    """Turns a weight file into a run.

    Args:
        source: The file; its ending is one of `formats.ENDINGS`.
        path: The run's directory, new.
        options: Which network, classes and mean, where the file does not state them.

    Returns:
        What was found and decided, as lines to print.

    Raises:
        WeightFileError: If the file cannot be read, or fits no architecture.
        errors.RunError: If the directory holds a run already, or cannot be written.
    """
    settings.check(options)
    run = RunDirectory(path)
    if run.read_config() is not None or run.steps():
        raise errors.RunError(f"{run} holds a run already. Give another --workdir.")
    file, sha256 = guard.read(source)
    try:
        network, how = layouts.identify(file, options.architecture, partial=options.partial)
        arrays = layouts.from_file(network, layouts.LAYOUTS[file.layout], file.arrays)
        if not options.allow_nan:
            check_finite(arrays)
        missing = [name for name in layouts.variable_shapes(network) if name not in arrays]
        if options.classes and not any(name.startswith(network.stages[-1].name) for name in arrays):
            network = architectures.with_num_classes(network, len(_read_lines(options.classes)))
        mean, scale = _input_of(file, network, options.mean)
        ids, names = _choose_classes(options.classes, file.class_names, network.num_classes)
    except formats.WeightFileError as error:
        raise formats.WeightFileError(f"{source}: {error}") from error
    if missing:
        arrays |= _initial_arrays(network, missing)
    with run.locked():
        run_config = make_run_config(network, mean, scale, ids, ImportedFile(pathlib.Path(source).name, sha256))
        run.write_checkpoint(0, {**arrays, **layouts.dropout_counts(network)}, {"epoch": 0})
        if run_config.mean == MEAN_IMAGE:
            run.write_mean_image(np.asarray(mean, "float32"))
        run.write_config(run_config, names)
    return _report(network, how, arrays, run_config, names, missing)


def check_finite(arrays: layouts.Arrays) -> None:
    """Refuses weights that are not finite.

    Raises:
        WeightFileError: If there are any, with their names and how many.
    """
    bad = {name: int((~np.isfinite(array)).sum()) for name, array in arrays.items()}
    listed = ", ".join(f"{count:,} in {name}" for name, count in bad.items() if count)
    if listed:
        raise formats.WeightFileError(
            f"Some weights are not finite: {listed}. To accept them nevertheless: --allow_nan."
        )


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


def _initial_arrays(architecture, names) -> dict[str, np.ndarray]:
    """Returns some variables of a network at the start of its training."""
    from alexnet_tf.network import alexnet  # TensorFlow takes seconds, and most imports do without.

    model = alexnet.build_model(architecture)
    return {variable.path: variable.numpy() for variable in model.variables if variable.path in set(names)}


def _report(architecture, how, arrays, run_config, names, missing):
    mean = run_config.mean
    mean = "a mean image" if mean == MEAN_IMAGE else "R, G, B = " + ", ".join(f"{each:.3f}" for each in mean)
    is_scaled = set(run_config.scale) != {1.0}
    factor = ", then times " + ", ".join(f"{each:.6f}" for each in run_config.scale) if is_scaled else ""
    return [
        f"Network: {architecture.name} ({how}), {sum(array.size for array in arrays.values()):,} parameters",
        f"Input: RGB {architecture.image_size} x {architecture.image_size} in [0, 255]; minus {mean}{factor}; images "
        f"{_RESIZED[architecture.recipe.resize]}, the centre",
        f"Classes: {len(names)}: {names[0]} ... {names[-1]}",
        *([f"Not in the file, and initialised at random: {', '.join(missing)}. Train before use."] if missing else []),
    ]


def export_run(path: str | os.PathLike, output: str | os.PathLike, *, which: str = "last") -> list[str]:
    """Writes a run's weights as a .safetensors file, which PyTorch, JAX and others load.

    The arrays are those of a PyTorch network: of torchvision's by its names, of all others by the names of the stages
    ("conv1.weight"), with towers as groups. The architecture, the input's mean and scale, and the classes are its
    metadata.

    Args:
        path: The run's directory.
        output: The file, ending in .safetensors.
        which: "last" or "best" checkpoint.

    Returns:
        What was written, and what its reader must know, as lines to print.

    Raises:
        WeightFileError: If the output's name has another ending.
        errors.RunError: If there is no run or checkpoint, or the output cannot be written.
    """
    output = home.expand(output)
    if output.suffix.lower() != ".safetensors":
        raise formats.WeightFileError(
            f"--output={output} must end in .safetensors, which is what this command writes. As ONNX:\n  "
            + shell.command_line("export", workdir=str(path), formats="onnx")
        )
    run = RunDirectory(path)
    run_config = run.existing_config()
    architecture = run_config.architecture
    shapes, mean = layouts.variable_shapes(architecture), run.read_mean(run_config)
    arrays, _ = run.existing_checkpoint(which, is_wanted=shapes.__contains__)
    problems = layouts.differences(shapes, arrays)
    if problems:
        raise errors.RunError(f"The checkpoint of {run} does not fit {architecture.name}: {'; '.join(problems)}.")
    layout = layouts.LAYOUTS["torchvision" if architecture.name == "torchvision" else "stages"]
    stated = {
        "architecture": architecture.name,
        "scale": " ".join(map(repr, architecture.scale)),
        "classes": json.dumps(run.class_names()),
    }
    if np.ndim(mean) == 1:
        stated["mean"] = " ".join(map(repr, mean))
    safetensors_file.write(output, layouts.to_file(architecture, layout, arrays), stated)
    subtracted = f"({', '.join(f'{each:.9g}' for each in mean)})" if np.ndim(mean) == 1 else "the run's mean image"
    factor = f", times ({', '.join(f'{each:.9g}' for each in architecture.scale)})"
    return [
        f"Written: {output}",
        f"Input: R, G, B, 0 to 255, minus {subtracted}{factor if set(architecture.scale) != {1.0} else ''}; images "
        f"{_RESIZED[architecture.recipe.resize]}, the central {architecture.image_size} pixels",
    ]
