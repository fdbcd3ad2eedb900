"""Does a server's memory grow? Sends thousands of requests to a SavedModel in TF Serving's C++ loader, one in ten bad.

    python tests/helpers/serving_memory.py RUN/export/saved_model/1 IMAGE.jpg [requests]

Prints the resident memory after each tenth. After the first it should stay where it is.
"""

import pathlib
import resource
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))
from tests.helpers.serving_loader import Loader  # noqa: E402


def resident_bytes():
    """What the process has in memory now, not at its peak."""
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main(directory, image, requests=10_000):
    """Sends good and bad requests in turn; returns the resident memory in bytes after each tenth."""
    loader = Loader(directory)
    good = pathlib.Path(image).read_bytes()
    bad = [b"not an image", good[: len(good) // 2], b"", good[:100] + bytes(200)]
    signature = "serving_default_image_bytes:0", "StatefulPartitionedCall_3:0", "StatefulPartitionedCall_3:1"
    sizes, refused, start = [], 0, time.monotonic()
    for number in range(requests):
        is_bad = number % 10 == 9
        try:
            loader.run({signature[0]: [bad[number // 10 % len(bad)] if is_bad else good]}, signature[1:])
            assert not is_bad, number
        except RuntimeError:
            refused += 1
            assert is_bad, number
        if (number + 1) % (requests // 10) == 0:
            sizes.append(resident_bytes())
            print(
                f"{number + 1:,} requests, {refused:,} refused, {sizes[-1] / 1e6:.1f} MB, "
                f"{time.monotonic() - start:.0f} s",
                flush=True,
            )
    print(f"growth after the first tenth: {(np.array(sizes[1:]).max() - sizes[0]) / 1e6:.1f} MB")
    return sizes


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
