"""Small networks that every test can afford to build and train."""

import dataclasses

from alexnet_tf.network import architectures, recipes

# Two towers and every kind of step; 67 pixels give maps of 15, 7 (pool), 7 and 3 (pool).
TINY = architectures.Architecture(
    name="tiny",
    source="the tests",
    image_size=67,
    stages=(
        architectures.Stage("conv1", 8, 11, strides=4, towers=2, ops=("relu", "lrn", "pool")),
        architectures.Stage("conv2", 8, 5, padding=(2, 2), towers=2, input_towers="own", ops=("relu", "pool")),
        architectures.Stage("fc6", 8, towers=2, ops=("relu", "dropout")),
        architectures.Stage("fc8", 5, ops=()),
    ),
    recipe=recipes.Recipe(),
)


# TINY with the fc7 that exports give away, and a little wider and surer, so that it learns to tell five colours apart.
SMALL = dataclasses.replace(
    TINY,
    name="small",
    dropout_rate=0.1,
    stages=(
        *TINY.stages[:2],
        architectures.Stage("fc6", 32, towers=2, ops=("relu", "dropout")),
        architectures.Stage("fc7", 16, towers=2, ops=("relu", "dropout")),
        TINY.stages[-1],
    ),
)


def narrow(architecture: architectures.Architecture) -> architectures.Architecture:
    """Returns an architecture with 16 filters in every stage and 10 classes: all it has, at a hundredth of the cost."""
    *stages, last = architecture.stages
    return dataclasses.replace(
        architecture,
        stages=(*(dataclasses.replace(stage, filters=16) for stage in stages), dataclasses.replace(last, filters=10)),
    )


def narrow_dense(row: architectures.Architecture, units: int) -> architectures.Architecture:
    """Returns an architecture with dense layers of so many units, which had nine tenths of the weights: fc6 and fc7."""
    return dataclasses.replace(
        row,
        stages=tuple(
            dataclasses.replace(stage, filters=units) if stage.name in ("fc6", "fc7") else stage for stage in row.stages
        ),
    )


def use_narrow_paper(units: int) -> None:
    """Makes the paper's architecture narrow in this process, for good."""
    architectures.ARCHITECTURES["paper"] = narrow_dense(architectures.PAPER, units)
