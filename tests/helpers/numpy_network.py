"""Layers of the network in NumPy, written from the paper's formulas."""

import dataclasses

import numpy as np

from tests.helpers.networks import TINY


def lrn(x, k, alpha):
    """x / (k + alpha * sum over 5 channels of x^2)^.75."""
    padded = np.pad(x.astype("float64") ** 2, ((0, 0), (0, 0), (0, 0), (2, 2)))
    channels = x.shape[-1]
    total = sum(padded[..., offset : offset + channels] for offset in range(5))
    return (x / (k + alpha * total) ** 0.75).astype("float32")


def max_pool(x, size):
    """Stride 2 with sizes rounded up, as cuda-convnet and Caffe do: a window may hang over at the end."""
    outputs = -(-(x.shape[1] - size) // 2) + 1
    over = 2 * (outputs - 1) + size - x.shape[1]
    x = np.pad(x, ((0, 0), (0, over), (0, over), (0, 0)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::2, ::2]
    return windows.max((-2, -1))


# The same small network as Caffe has it: groups in conv2 only, the window across them.
TINY_GROUPS = dataclasses.replace(
    TINY,
    name="tiny_groups",
    lrn_across_towers=True,
    stages=(
        dataclasses.replace(TINY.stages[0], towers=1),
        dataclasses.replace(TINY.stages[1], ops=("relu", "lrn", "same_map_lrn", "pool")),
        dataclasses.replace(TINY.stages[2], towers=1),
        TINY.stages[3],
    ),
)
