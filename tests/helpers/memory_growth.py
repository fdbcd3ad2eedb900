"""Does memory grow? Runs a long job on tiny data; prints the peak resident memory of each tenth of its time.

    python tests/helpers/memory_growth.py train [epochs]
    python tests/helpers/memory_growth.py prepare [images]
    python tests/helpers/memory_growth.py similar [rows]

After the first tenth it should stay where it is.
"""

import itertools
import pathlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable

import numpy as np
import psutil

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))


def tenths(call: Callable[[], object], interval: float = 0.02) -> list[float]:
    """Runs a call; returns this process's and its children's peak resident memory in MiB in each tenth of the time."""
    samples, is_done, process = [], threading.Event(), psutil.Process()

    def resident() -> int:
        total = 0
        for each in [process, *process.children(recursive=True)]:
            try:
                total += each.memory_info().rss
            except psutil.NoSuchProcess:
                pass
        return total

    def sample():
        while not is_done.wait(interval):
            samples.append((time.perf_counter(), resident()))

    start, sampler = time.perf_counter(), threading.Thread(target=sample, daemon=True)
    sampler.start()
    call()
    seconds = time.perf_counter() - start
    is_done.set()
    sampler.join()
    parts = [[] for _ in range(10)]
    for moment, size in samples:
        parts[min(9, int(10 * (moment - start) / seconds))].append(size / 2**20)
    return [max(part, default=float("nan")) for part in parts]


def train(directory: pathlib.Path, epochs: int = 20) -> Callable[[], object]:
    """Returns a training of a tiny network on 400 images, with everything that a run writes."""
    from alexnet_tf.data import discovery
    from alexnet_tf.network import architectures, recipes
    from alexnet_tf.runs.config import TrainConfig
    from alexnet_tf.training import trainer
    from tests.helpers import files, networks

    architectures.ARCHITECTURES["tiny"] = networks.TINY
    data = discovery.find_dataset(str(files.write_folders(directory / "images", "abcde", train=80, val=16)))
    recipe = recipes.Recipe(batch_size=8, epochs=epochs, schedule="cosine", learning_rate=0.01)
    return lambda: trainer.train(TrainConfig(architecture="tiny", recipe=recipe), data, directory / "run")


def prepare(directory: pathlib.Path, images: int = 10_000) -> Callable[[], object]:
    """Returns `prepare` over so many images of 40 x 30 pixels."""
    import tensorflow as tf

    from alexnet_tf.data import discovery
    from alexnet_tf.data import prepare as preparing

    rng = np.random.default_rng(0)
    for split, name in itertools.product(("train", "val"), "ab"):
        (directory / "images" / split / name).mkdir(parents=True)
    for number in range(images):
        image = tf.io.encode_jpeg(rng.integers(0, 256, (30, 40, 3), "uint8")).numpy()
        folder = directory / "images" / ("train" if number % 10 else "val") / "ab"[number // 10 % 2]
        (folder / f"{number}.jpg").write_bytes(image)
    data = discovery.find_dataset(str(directory / "images"))
    return lambda: preparing.prepare(data, directory / "prepared")


def similar(directory: pathlib.Path, rows: int = 100_000) -> Callable[[], object]:
    """Returns the search for the nearest of so many rows of 1,024 features, of a file that is written here."""
    import h5py

    from alexnet_tf.evaluation import retrieval

    rng = np.random.default_rng(0)
    with h5py.File(directory / "features.h5", "w") as file:
        features = file.create_dataset("features", (rows, 1024), "float32", chunks=True, fletcher32=True)
        for first in range(0, rows, 1000):
            features[first : first + 1000] = rng.normal(size=(min(1000, rows - first), 1024))

    def search():
        with h5py.File(directory / "features.h5") as file:
            retrieval.nearest(file["features"], np.zeros((4, 1024), "float32"), 6)

    return search


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in ("train", "prepare", "similar"):
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as scratch:
        peaks = tenths(globals()[sys.argv[1]](pathlib.Path(scratch), *map(int, sys.argv[2:])))
    print(f"\n{sys.argv[1]}: MiB in each tenth: {' '.join(f'{peak:,.0f}' for peak in peaks)}")
    print(f"The last tenth over the second: {peaks[-1] / peaks[1]:.3f}")
