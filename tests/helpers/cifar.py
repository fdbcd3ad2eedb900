"""Images of CIFAR-10's shape that a network learns in seconds."""

import numpy as np
from PIL import Image

from alexnet_tf.experiments.cifar import IMAGE_SIZE, CifarImages, Split


def synthetic(train=512, test=128, seed=0):
    """Returns images with one colour and one wave for each of ten classes."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE]

    def split(count):
        labels = (np.arange(count) % 10).astype("int32")
        phase = generator.uniform(0, 2 * np.pi, (count, 1, 1))
        wave = np.sin((rows * (labels % 2)[:, None, None] + columns * (1 - labels % 2)[:, None, None]) * 0.8 + phase)
        colour = np.random.default_rng(1).uniform(60, 200, (10, 3))[labels]
        noise = generator.normal(0, 12, (count, IMAGE_SIZE, IMAGE_SIZE, 3))
        images = colour[:, None, None] + 40 * wave[..., None] + noise
        return Split(np.clip(images, 0, 255).astype("uint8"), labels)

    return CifarImages(split(train), split(test))


def write_folders(path, images):
    """Writes such images as class folders of PNG files."""
    for name, split in (("train", images.train), ("test", images.test)):
        for number, (pixels, label) in enumerate(zip(split.images, split.labels)):
            folder = path / name / f"class{label}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return path
