"""Where a run's weights come from, and which of them learn: transfer learning from another run.

Layers go by the names of the network; a stage's name (`conv2`) means both its towers (`conv2_a`, `conv2_b`). What a run
takes over, beside weights, is how its source saw images: the architecture, the mean, the scale. All of it is written
into the new run's config.json and its first checkpoint, so that nothing but the first start needs the source.
"""

import math
import os
import pathlib
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from alexnet_tf.network import architectures
from alexnet_tf.runs import checkpoints
from alexnet_tf.runs.config import MEAN_IMAGE, PretrainedRun, RunConfig
from alexnet_tf.runs.directory import CONFIG, RunDirectory
from alexnet_tf.support import errors, shell


class TransferError(errors.UserError):
    """The weights of another run cannot be taken over as asked; the message says why and what to do."""


# The flags that say something only with a source, and those that may not contradict it.
_ALONE = ("freeze", "freeze_until", "reinitialize", "new_layer_learning_rate_multiplier")

FLAGS = (*_ALONE, "architecture", "mean")


def find_source(init_from: str | None, path: str | os.PathLike) -> PretrainedRun | None:
    """Returns what a run takes over, or took over when it began.

    Args:
        init_from: The source's directory, as typed; None gives None.
        path: The new run's directory. If it has begun from the same source, the answer is from there alone.

    Raises:
        TransferError: If there is no run, or no checkpoint, in the source.
        errors.RunError: If either config.json cannot be read.
    """
    if init_from is None:
        return None
    init_from = str(pathlib.PurePath(init_from))  # A completed name ends in a slash.
    run = RunDirectory(path)
    begun = run.read_config()
    if begun and begun.source and begun.source.path == init_from and run.steps():
        return begun.source
    run = RunDirectory(init_from)
    if run.path.is_file():
        raise TransferError(
            f"--init_from={init_from} is a file; a run's directory is needed. Make one of a weight file:\n"
            f"  {shell.command_line('import_weights', source=init_from, workdir='RUN')}"
        )
    run_config, steps = run.read_config(), run.steps()
    if run_config is None or not steps:
        raise TransferError(
            f"--init_from={init_from} has no {'checkpoint' if run_config else CONFIG}; the directory of a run "
            "that train.py trained or import_weights made is needed."
        )
    return PretrainedRun(
        path=init_from,
        step=steps[0],
        architecture=run_config.train.architecture,
        classes=run_config.data.classes,
        mean=run_config.mean,
        scale=run_config.architecture.scale,
        resize=run_config.train.recipe.resize,
    )


def check_flags(source: PretrainedRun | None, given: dict) -> None:
    """Refuses flags that say something only with a source, or something else than the source.

    Args:
        source: The run that the weights come from, if there is one.
        given: By names in `FLAGS`, the values of the flags; None for one that was not given.

    Raises:
        TransferError: Names the flag.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if source is None:
        alone = [name for name in _ALONE if name in given]
        if alone:
            raise TransferError(
                f"--{alone[0]} needs --init_from=RUN: it says what becomes of the weights of another run, and "
                "there is none."
            )
        return
    if given.get("architecture", source.architecture) != source.architecture:
        raise TransferError(
            f"--architecture={given['architecture']} differs from that of --init_from={source.path}, which is "
            f"{source.architecture}: its weights fit no other. Leave --architecture away."
        )
    is_image = source.mean == MEAN_IMAGE
    if given.get("mean", "image" if is_image else "pixel") != ("image" if is_image else "pixel"):
        raise TransferError(
            f"--mean={given['mean']} differs from that of --init_from={source.path}: its weights were trained with a "
            f"mean {'image' if is_image else 'colour'}, which comes with them. Leave --mean away."
        )


def choose_layers(
    architecture: architectures.Architecture,
    *,
    freeze: Iterable[str] | None = None,
    freeze_until: str | None = None,
    reinitialize: Iterable[str] | None = None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns (frozen layers, layers that start anew) by their full names, in the network's order.

    Args:
        architecture: The run's.
        freeze: Names of stages or layers.
        freeze_until: Name of the last stage to freeze; all before it are frozen too.
        reinitialize: Names of stages or layers.

    Raises:
        TransferError: If a name is not known, nothing would learn, or a frozen layer would start anew.
    """
    if freeze and freeze_until:
        raise TransferError(
            f"--freeze={','.join(freeze)} and --freeze_until={freeze_until} both say what is frozen. Give one of them."
        )
    stages = [stage.name for stage in architecture.stages]
    if freeze_until:
        if freeze_until not in stages:
            raise TransferError(
                f"--freeze_until={freeze_until} is no stage of {architecture.name}. It has: {', '.join(stages)}."
            )
        freeze = stages[: stages.index(freeze_until) + 1]
    frozen = _resolve(freeze, architecture, "freeze")
    new = _resolve(reinitialize, architecture, "reinitialize")
    if len(frozen) == len(architecture.layer_names):
        raise TransferError(
            f"All layers of {architecture.name} would be frozen, and nothing could learn. Leave at least "
            f"{stages[-1]} free."
        )
    _check_frozen(frozen, new, "it is to start anew (--reinitialize)")
    return frozen, new


def _resolve(names, architecture, flag):
    """Returns the layers that names of stages and layers mean, in the network's order."""
    known = {layer: layer for layer in architecture.layer_names}
    meant = set()
    for name in names or ():
        layers = [layer for stage in architecture.stages if name == stage.name for layer in stage.layer_names]
        if not layers and name not in known:
            stages = [stage.name for stage in architecture.stages]
            raise TransferError(
                f"--{flag}={name} is no layer of {architecture.name}. It has: {', '.join(stages)}"
                + (
                    f"; towers: {', '.join(layer for layer in known if layer not in stages)}."
                    if set(known) - set(stages)
                    else "."
                )
            )
        meant |= {*(layers or [name])}
    return tuple(layer for layer in known if layer in meant)


def _check_frozen(frozen, new, why):
    both = [layer for layer in new if layer in frozen]
    if both:
        raise TransferError(f"{both[0]} cannot be frozen: {why}, and frozen it would stay random. Freeze less.")


def _source_of(run_config: RunConfig) -> PretrainedRun:
    assert run_config.source  # Callers have looked.
    return run_config.source


def new_layers(run_config: RunConfig) -> tuple[str, ...]:
    """Returns the layers of a run that started anew: those asked for, and the last if the number of classes differs.

    Args:
        run_config: config.json of a run that has a source.

    Raises:
        TransferError: If one of them is frozen.
    """
    classes, source = run_config.data.classes, _source_of(run_config)
    if len(classes) == len(source.classes):
        return run_config.train.reinitialize
    last = run_config.architecture.stages[-1].layer_names
    _check_frozen(
        run_config.train.freeze,
        last,
        f"its weights are for the {len(source.classes)} classes of {source.path}, here are {len(classes)}, so it "
        "starts anew",
    )
    return tuple(dict.fromkeys((*run_config.train.reinitialize, *last)))


def first_learning_stage(architecture: architectures.Architecture, frozen: Iterable[str]) -> str:
    """Returns the name of the lowest stage that has a layer which is not frozen."""
    return next(stage.name for stage in architecture.stages if set(stage.layer_names) - {*frozen})


def freeze(network: Any, frozen: Iterable[str]) -> None:
    """Takes layers away from the optimizer: no gradient, no momentum, no decay. Before the network is compiled."""
    for name in frozen:
        network.get_layer(name).trainable = False


def load_weights(network: Any, run_config: RunConfig) -> None:
    """Gives a network the weights of its run's source, and new numbers to the layers that start anew.

    Those are drawn by the run's initialisation, from a seed of the run's own and of the weights that they replace:
    never the numbers that the source itself began with. The dropout counters and the optimizer stay as they are.

    Args:
        network: From `alexnet.build_model`, of the run's architecture and seed.
        run_config: config.json of a run that has a source.

    Raises:
        errors.RunError: If the source's checkpoint cannot be read or does not fit.
    """
    source, architecture, new = _source_of(run_config), run_config.architecture, new_layers(run_config)
    layers = [network.get_layer(name) for name in architecture.layer_names]
    paths = {variable.path for layer in layers for variable in layer.weights}
    arrays, _ = RunDirectory(source.path).existing_checkpoint(is_wanted=paths.__contains__)
    checkpoints.restore([v for layer in layers if layer.name not in new for v in layer.weights], arrays)
    for layer in layers:
        if layer.name in new:
            _draw(layer, arrays, _input_factor(architecture, layer.name, run_config.train.initialization))


def _draw(layer, arrays, factor):
    """Gives a layer new numbers."""
    for variable, initializer in ((layer.kernel, layer.kernel_initializer), (layer.bias, layer.bias_initializer)):
        if variable is None:
            continue
        settings = initializer.get_config()
        if "seed" in settings:
            replaced = zlib.crc32(arrays[variable.path].tobytes()) if variable.path in arrays else 0
            settings["seed"] = int(np.random.SeedSequence((settings["seed"], replaced)).generate_state(1)[0]) >> 1
        values = type(initializer).from_config(settings)(variable.shape, dtype="float32")
        variable.assign(values * factor if variable is layer.kernel else values)


def _input_factor(architecture, name, initialization):
    """Returns the factor on conv1's new kernels for a source whose pixels have another scale than "he" expects."""
    if name not in architecture.stages[0].layer_names or initialization != "he":
        return 1.0
    own = architectures.with_initialization(architectures.ARCHITECTURES[architecture.name], "he")
    return float(np.mean(own.scale) / np.mean(architecture.scale))


def read_mean_image(source: PretrainedRun) -> np.ndarray:
    """Returns the source's mean image."""
    run = RunDirectory(source.path)
    return np.asarray(run.read_mean(run.existing_config()))


def describe(network: Any, run_config: RunConfig) -> str:
    """Says in lines for a person what comes from where and what learns."""
    source, new, frozen = _source_of(run_config), new_layers(run_config), run_config.train.freeze
    architecture, classes = run_config.architecture, run_config.data.classes
    multiplier = run_config.train.recipe.new_layer_learning_rate_multiplier
    line = f"Weights: from {source.path} (last checkpoint, step {source.step:,})"
    if new:
        names = _by_stage(architecture, new)
        why = ""
        if len(classes) != len(source.classes):
            why = f" ({len(classes)} classes instead of {len(source.classes)})"
        line += f"; {names} {'are' if ',' in names else 'is'} new{why}" + (
            f", at {multiplier:g} times the rate" if multiplier != 1 else ""
        )
    if frozen:
        total, learning = (
            sum(math.prod(v.shape) for v in variables)
            for variables in (
                [v for name in architecture.layer_names for v in network.get_layer(name).weights],
                network.trainable_variables,
            )
        )
        line += f"; frozen: {_by_stage(architecture, frozen)} ({learning:,} of {total:,} parameters learn)"
    mean = "mean image" if source.mean == MEAN_IMAGE else "mean colour"
    lines = [
        line,
        f"Input: the {mean} and scale of {source.path}, which its weights were trained with, not those of these images",
    ]
    if len(classes) == len(source.classes) and list(classes) != list(source.classes) and not new:
        last = architecture.stages[-1].name
        lines.insert(
            1,
            f"{last} is kept: {len(classes)} classes as before, though of other names. "
            f"--reinitialize={last} starts it anew.",
        )
    return "\n".join(lines)


def _by_stage(architecture, layers) -> str:
    """Names layers in words: the stage where all its towers are meant."""
    names = []
    for stage in architecture.stages:
        inside = [name for name in stage.layer_names if name in layers]
        names += [stage.name] if len(inside) == len(stage.layer_names) else inside
    return ", ".join(names)
