"""The mean and the colour components of the training images, from exact sums: the same however the work is divided."""

import dataclasses

import numpy as np

from alexnet_tf.data import tfrecords
from alexnet_tf.network import architectures


@dataclasses.dataclass
class Sums:
    """Exact sums over the pixels of some images: the order in which they come does not matter.

    Attributes:
        images: How many.
        pixels: uint64 [256, 256, 3], over the images.
        products: uint64 [3, 3], over all pixels: of each colour times each colour.
    """

    images: int = 0
    pixels: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros((architectures.SQUARE_SIZE, architectures.SQUARE_SIZE, 3), "uint64")
    )
    products: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((3, 3), "uint64"))

    def add_image(self, image: np.ndarray) -> None:
        """Adds an image, uint8 [256, 256, 3]."""
        flat = image.reshape(-1, 3).astype("float64")  # Whole numbers below 2^53 are exact.
        self.add(Sums(1, image, (flat.T @ flat).astype("uint64")))

    def add(self, other: "Sums") -> None:
        """Adds the sums over other images."""
        self.images += other.images
        self.pixels += other.pixels
        self.products += other.products


def statistics_of(num_images: int, pixel_sums: np.ndarray, product_sums: np.ndarray) -> tfrecords.Statistics:
    """Returns the mean and the components of the colours from sums over images.

    Args:
        num_images: How many images of 256 x 256 pixels were summed.
        pixel_sums: uint64 [256, 256, 3], over the images.
        product_sums: uint64 [3, 3], over all pixels: of each colour times each colour.
    """
    mean_image = pixel_sums / num_images
    mean_pixel = mean_image.mean(axis=(0, 1))
    covariance = product_sums / (num_images * architectures.SQUARE_SIZE**2) - np.outer(mean_pixel, mean_pixel)
    variances, vectors = np.linalg.eigh(covariance)
    vectors *= np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(3)])  # eigh leaves the sign to chance.
    return tfrecords.Statistics(
        tuple(mean_pixel.tolist()),
        mean_image.astype("float32"),
        tuple(np.sqrt(np.maximum(variances, 0)).tolist()),
        tuple(map(tuple, vectors.tolist())),
    )
