"""What the demo's images look like: textured shapes on varied backgrounds, made with NumPy, written as JPEG.

The class is the texture. Shape, place, size, angle, colours, background and light are random and say nothing about
it, and a texture is finer than a thumbnail's pixel: only a network that looks at the detail can tell them apart.
"""

import concurrent.futures
import itertools
import logging
import os
import shutil

import numpy as np
import tensorflow as tf
import tqdm

from alexnet_tf.support import processors

_LOGGER = logging.getLogger(__name__)

CLASSES = ("checks", "dots", "horizontal_stripes", "rings", "vertical_stripes")

SIZE = 256

IMAGES_PER_CLASS = {"train": 400, "val": 40}


def draw(class_name: str, rng: np.random.Generator) -> np.ndarray:
    """Draws one picture.

    Args:
        class_name: One of `CLASSES`.
        rng: The same state gives the same picture.

    Returns:
        uint8 [SIZE, SIZE, 3], RGB.
    """
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype("float32")
    first, second = _two_colours(rng)
    pattern = _soften(_texture(class_name, x, y, rng))[..., None]
    figure = first * pattern + second * (1 - pattern)
    mask = _shape(x, y, rng)[..., None]
    picture = mask * figure + (1 - mask) * _background(x, y, rng)
    direction = rng.uniform(0, 2 * np.pi)
    slope = ((x - SIZE / 2) * np.cos(direction) + (y - SIZE / 2) * np.sin(direction)) / SIZE
    light = rng.uniform(0.7, 1.1) + rng.uniform(0, 0.5) * slope
    picture = picture * light[..., None] + rng.normal(0, 4, picture.shape)
    return np.clip(picture, 0, 255).astype("uint8")


def _two_colours(rng: np.random.Generator) -> np.ndarray:
    """Returns two random RGB colours that differ clearly."""
    while True:
        colours = rng.uniform(0, 255, (2, 3))
        if np.abs(colours[0].mean() - colours[1].mean()) > 70:
            return colours


def _texture(class_name: str, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a signed height map, positive inside the texture's marks, in pixels."""
    period, angle = rng.uniform(12, 24), rng.normal(0, 0.12)
    u = (x - SIZE / 2) * np.cos(angle) + (y - SIZE / 2) * np.sin(angle) + rng.uniform(0, period)
    v = (y - SIZE / 2) * np.cos(angle) - (x - SIZE / 2) * np.sin(angle) + rng.uniform(0, period)

    def wave(t: np.ndarray) -> np.ndarray:  # A triangle wave: the distance to the mark's edge.
        return np.abs((t / period) % 1 - 0.5) * period - period / 4

    if class_name == "vertical_stripes":
        return wave(u)
    if class_name == "horizontal_stripes":
        return wave(v)
    if class_name == "checks":
        return np.minimum(np.abs(wave(u)), np.abs(wave(v))) * np.sign(wave(u) * wave(v))
    if class_name == "dots":
        return period * 0.33 - np.hypot((u % period) - period / 2, (v % period) - period / 2)
    center = rng.uniform(0.3, 0.7, 2) * SIZE
    return wave(np.hypot(x - center[0], y - center[1]))


def _shape(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the mask of a disc, a box, a triangle or a many-sided shape, in [0, 1]."""
    sides = rng.choice([3, 4, 5, 6, 60])
    radius = rng.uniform(0.34, 0.5) * SIZE
    center = rng.uniform(0.4, 0.6, 2) * SIZE
    angle = np.arctan2(y - center[1], x - center[0]) + rng.uniform(0, 2 * np.pi)
    edge = np.cos(np.pi / sides) / np.cos(angle % (2 * np.pi / sides) - np.pi / sides)
    return _soften(
        radius * max(edge.min(), 1.1 - 0.1 * sides / 6) ** -0.5 * edge - np.hypot(x - center[0], y - center[1])
    )


def _background(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a smooth landscape of two colours."""
    first, second = rng.uniform(0, 255, (2, 3))
    height = sum(
        np.sin(
            rng.uniform(0.2, 3) * 2 * np.pi * x / SIZE + rng.uniform(-3, 3) * 2 * np.pi * y / SIZE + rng.uniform(0, 6)
        )
        for _ in range(3)
    )
    blend = np.asarray(0.5 + height / 6)[..., None]
    return first * blend + second * (1 - blend)


def _soften(distance: np.ndarray) -> np.ndarray:
    """Turns a signed distance in pixels into coverage in [0, 1]."""
    return np.clip(distance + 0.5, 0, 1)


def write_all(directory: str) -> None:
    """Draws JPEG files into class folders: into a folder beside `directory`, renamed at the end.

    Args:
        directory: Where the splits' folders shall appear, all or none.

    Raises:
        OSError: If they cannot be written; nothing half-written stays.
    """
    temporary = f"{directory}.{os.getpid()}.tmp"
    folders = itertools.product(IMAGES_PER_CLASS.items(), CLASSES)
    jobs = [(split, name, number) for (split, count), name in folders for number in range(count)]

    def write(job: tuple[str, str, int]) -> None:
        split, name, number = job
        picture = draw(name, np.random.default_rng([split == "val", CLASSES.index(name), number]))
        with open(os.path.join(temporary, split, name, f"{number:04d}.jpg"), "wb") as file:
            file.write(tf.io.encode_jpeg(picture, quality=95).numpy())

    _LOGGER.info(f"Making {len(jobs):,} images in {directory} (once).")
    try:
        for split, name in itertools.product(IMAGES_PER_CLASS, CLASSES):
            os.makedirs(os.path.join(temporary, split, name), exist_ok=True)
        with concurrent.futures.ThreadPoolExecutor(processors.available_cpus()) as pool:
            list(tqdm.tqdm(pool.map(write, jobs), total=len(jobs), unit="image", disable=None))
        os.rename(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
