"""Figure 3: conv1's kernels, and whether one tower is colour-blind and the other is not.

Section 6.1. The number behind the words is how coloured a kernel is: its standard deviation over red, green and blue,
averaged over its pixels, relative to its standard deviation over all values. A grey kernel has 0.
"""

import pathlib
from collections.abc import Iterator, Mapping

import numpy as np

from alexnet_tf.experiments import catalogue
from alexnet_tf.runs.directory import RunDirectory, load_model
from alexnet_tf.support import errors, plotting
from alexnet_tf.weights import guard

_CLAIM = "conv1's kernels specialise: largely colour-agnostic on one GPU, largely colour-specific on the other"

# Random divisions into two halves that the towers' difference is compared with.
_DIVISIONS = 10_000

# Below this share of random divisions a difference is not chance.
_SIGNIFICANT = 0.01


def colourfulness(kernels: np.ndarray) -> np.ndarray:
    """Returns how coloured each kernel is, float64 [n].

    Args:
        kernels: [height, width, 3, n], in any order of the colours.
    """
    kernels = kernels.astype("float64")
    return kernels.std(axis=2).mean(axis=(0, 1)) / np.maximum(kernels.std(axis=(0, 1, 2)), 1e-12)


def _means(values: np.ndarray) -> np.ndarray:
    """Returns the means of both halves, [2, ...] from [..., n]."""
    return np.stack([half.mean(axis=-1) for half in np.array_split(values, 2, axis=-1)])


def chance_of_difference(values: np.ndarray, seed: int = 0) -> float:
    """Returns the share of random divisions into halves whose means differ as much as those of the two halves given.

    Args:
        values: [n], those of the first tower before those of the second.
        seed: Of the random divisions.
    """
    shuffled = np.random.default_rng(seed).permuted(np.tile(values, (_DIVISIONS, 1)), axis=1)
    given, by_chance = (np.ptp(_means(each), axis=0) for each in (values, shuffled))
    return float((by_chance >= given - 1e-12).mean())


def read_kernels(path: str) -> np.ndarray:
    """Reads conv1's kernels from an .npy file: an array, or an object array whose first element is one.

    Kernels [n, 3, height, width], as Caffe and PyTorch have them, are transposed.

    Returns:
        float32 [height, width, 3, n].

    Raises:
        errors.UserError: If there are no such kernels.
    """
    arrays = list(guard.read(path)[0].arrays.values())
    for array in arrays:
        for order in (0, 1, 2, 3), (2, 3, 1, 0):
            if array.ndim == 4 and array.shape[order[2]] == 3:
                return array.transpose(order).astype("float32")
    shapes = ", ".join(str(list(array.shape)) for array in arrays[:5]) or "nothing"
    raise errors.UserError(f"{path} holds {shapes}: no kernels [height, width, 3, n] or [n, 3, height, width].")


def run(name: str, options: catalogue.Options) -> Iterator[catalogue.Result]:
    """Yields what the kernels show."""
    sources = {pathlib.Path(path).stem: read_kernels(path)[:, :, :: -1 if options.bgr else 1] for path in options.conv1}
    for path in options.workdir:
        sources[pathlib.Path(path).name] = plotting.first_kernels(load_model(RunDirectory(path))[0])
    if not sources:
        raise errors.UserError("figure3 needs kernels: --workdir=RUN or --conv1=FILE.npy.")
    yield describe(sources)


def describe(sources: Mapping[str, np.ndarray]) -> catalogue.Result:
    """Measures and draws the kernels of several networks.

    Args:
        sources: Name -> kernels [height, width, 3, n], RGB, the first tower's before the second's.
    """
    rows: list[tuple] = [("conv1 of", "kernels", "first half", "second half", "ratio", "as large by chance")]
    findings = []
    for name, kernels in sources.items():
        values = colourfulness(kernels)
        first, second = _means(values).tolist()
        ratio, chance = max(first, second) / max(min(first, second), 1e-12), chance_of_difference(values)
        rows.append((name, len(values), first, second, ratio, f"{chance:.4f}" if chance else "under 0.0001"))
        verdict = catalogue.verdict(chance < _SIGNIFICANT, ratio >= 2)
        findings.append(
            catalogue.Finding(f"{_CLAIM} ({name})", "seen in every run", f"{first:.2f} and {second:.2f}", verdict)
        )
    return catalogue.Result(
        findings,
        {"How coloured the kernels are": rows},
        {name: plotting.kernels_image(kernels, zoom=6) for name, kernels in sources.items()},
        "Colourfulness is a kernel's standard deviation over its three colours, averaged over its pixels, relative to "
        "its standard deviation over all its values. The last column is the share of 10,000 random divisions into two "
        "halves whose means differ at least as much. *Reproduced*: below 1 % and twice as coloured; *same direction*: "
        "below 1 %.",
    )
