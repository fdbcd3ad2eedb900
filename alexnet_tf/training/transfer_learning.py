"""Where a run's weights come from, and which of them learn: transfer learning from another run.

Layers go by the names of the network; a stage's name (`conv2`) means both its towers (`conv2_a`, `conv2_b`). What a run
reuses, beside weights, is how its source saw images: the architecture, the mean, the scale. All of it is written
into the new run's config.json and its first checkpoint, so that nothing but the first start needs the source.
"""

import math
import os
import pathlib
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from alexnet_tf.network import architectures
from alexnet_tf.runs import checkpoints
from alexnet_tf.runs.config import MEAN_IMAGE, PretrainedRun, RunConfig
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import errors, shell


class TransferError(errors.UserError):
    """The weights of another run cannot be reused as asked; the message says why and what to do."""


def find_source(init_from: str | None, path: str | os.PathLike) -> PretrainedRun | None:
    """Returns the run whose weights are reused, or were when this one began.

    Args:
        init_from: The source's directory, as typed; None gives None.
        path: The new run's directory. If it has begun from the same source, the answer is from there alone.

    Raises:
        TransferError: If there is no checkpoint in the source.
        errors.RunError: If there is no run, or either config.json cannot be read.
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
    run_config, steps = run.existing_config(), run.steps()
    if not steps:
        raise TransferError(f"--init_from={init_from} has no checkpoint yet.")
    return PretrainedRun(
        path=init_from,
        step=steps[0],
        architecture=run_config.train.architecture,
        classes=run_config.data.classes,
        mean=run_config.mean,
        scale=run_config.architecture.scale,
        resize=run_config.train.recipe.resize,
    )


def check_same_input(source: PretrainedRun, given: Mapping[str, Any]) -> None:
    """Refuses another architecture or mean than the source's.

    Args:
        source: The run that the weights come from.
        given: Values of fields of `TrainConfig` that were asked for, by name.

    Raises:
        TransferError: Names the field.
    """
    own = {"architecture": source.architecture, "mean": "image" if source.mean == MEAN_IMAGE else "pixel"}
    for name, value in own.items():
        if given.get(name, value) != value:
            raise TransferError(
                f"{name}={given[name]} does not fit the weights of init_from={source.path}, which need {value}. Leave "
                "it out."
            )


def choose_layers(
    architecture: architectures.Architecture,
    freeze: Iterable[str] = (),
    freeze_until: str | None = None,
    reinitialize: Iterable[str] = (),
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns (frozen layers, layers that start anew) by their full names, in the network's order.

    Args:
        architecture: The run's.
        freeze: Names of stages or layers.
        freeze_until: Name of the last of some more stages to freeze: all before it are frozen too.
        reinitialize: Names of stages or layers.

    Raises:
        TransferError: If a name is not known, nothing would learn, or a frozen layer would start anew.
    """
    stages = [stage.name for stage in architecture.stages]
    if freeze_until:
        if freeze_until not in stages:
            raise TransferError(
                f"freeze_until={freeze_until} is not a stage of {architecture.name}. It has: {', '.join(stages)}."
            )
        freeze = (*freeze, *stages[: stages.index(freeze_until) + 1])
    frozen, new = _layers(architecture, freeze), _layers(architecture, reinitialize)
    if len(frozen) == len(architecture.layer_names):
        raise TransferError(f"All layers of {architecture.name} would be frozen. Leave at least {stages[-1]} free.")
    _check_frozen(frozen, new, "it is to start anew (reinitialize)")
    return frozen, new


def _layers(architecture: architectures.Architecture, names: Iterable[str]) -> tuple[str, ...]:
    """Returns the layers that names of stages and layers mean, in the network's order."""
    meanings: dict[str, tuple[str, ...]] = {name: (name,) for name in architecture.layer_names}
    meanings |= {stage.name: stage.layer_names for stage in architecture.stages}
    if unknown := [name for name in names if name not in meanings]:
        raise TransferError(
            f"{unknown[0]} is not a layer of {architecture.name}. It has: {', '.join(sorted(meanings))}."
        )
    meant = {layer for name in names for layer in meanings[name]}
    return tuple(layer for layer in architecture.layer_names if layer in meant)


def _check_frozen(frozen, new, why):
    both = [layer for layer in new if layer in frozen]
    if both:
        raise TransferError(f"{both[0]} cannot be frozen: {why}, and frozen it would stay random. Freeze less.")


def new_layers(run_config: RunConfig) -> tuple[str, ...]:
    """Returns the layers of a run that started anew: those asked for, and the last if the number of classes differs.

    Args:
        run_config: config.json of the run; without a source, none does.

    Raises:
        TransferError: If one of them is frozen.
    """
    classes, source = run_config.data.classes, run_config.source
    if source is None:
        return ()
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
    architecture, new = run_config.architecture, new_layers(run_config)
    layers = [network.get_layer(name) for name in architecture.layer_names]
    paths = {variable.path for layer in layers for variable in layer.weights}
    assert run_config.source
    arrays, _ = RunDirectory(run_config.source.path).existing_checkpoint(is_wanted=paths.__contains__)
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


def describe(network: Any, run_config: RunConfig) -> str:
    """Describes, line by line, which weights are reused and which layers are trained."""
    source, new, frozen = run_config.source, new_layers(run_config), run_config.train.freeze
    assert source
    architecture, classes = run_config.architecture, run_config.data.classes
    multiplier = run_config.train.recipe.new_layer_learning_rate_multiplier
    line = f"Weights: from {source.path} (last checkpoint, step {source.step:,})"
    if new:
        is_other = len(classes) != len(source.classes)
        line += f"; new: {_by_stage(architecture, new)}"
        line += f" ({len(classes)} classes instead of {len(source.classes)})" if is_other else ""
        line += f", at {multiplier:g} times the rate" if multiplier != 1 else ""
    if frozen:
        layers = [network.get_layer(name) for name in architecture.layer_names]
        total = sum(math.prod(v.shape) for layer in layers for v in layer.weights)
        learning = sum(math.prod(v.shape) for v in network.trainable_variables)
        line += f"; frozen: {_by_stage(architecture, frozen)} ({learning:,} of {total:,} parameters learn)"
    lines = [line]
    if list(classes) != list(source.classes) and not new:
        last = architecture.stages[-1].name
        lines.append(
            f"{last} is kept: {len(classes)} classes as before, though of other names. --reinitialize={last} starts it "
            "anew."
        )
    mean = "mean image" if source.mean == MEAN_IMAGE else "mean colour"
    lines.append(
        f"Input: the {mean} and scale of {source.path}, which its weights were trained with, not those of these images"
    )
    return "\n".join(lines)


def _by_stage(architecture: architectures.Architecture, layers: Iterable[str]) -> str:
    """Names layers in words: the stage where all its towers are meant."""
    names: list[str] = []
    for stage in architecture.stages:
        inside = [name for name in stage.layer_names if name in layers]
        names += [stage.name] if len(inside) == len(stage.layer_names) else inside
    return ", ".join(names)
