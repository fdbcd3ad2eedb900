"""What a look at some images finds before they cost hours: files that are no images, and images in two splits.

Also whether 16-bit PNG images are almost black, which `png_depth` knows.
"""

import collections
import hashlib
import typing

from alexnet_tf.data import plain_images, png_depth, reading

if typing.TYPE_CHECKING:
    from alexnet_tf.data import datasets

# Images of each split whose content is looked at.
_SAMPLES = 16

# Files that are read at most to find the same image in two splits.
_MOST_READ = 1000


def notes(data: "datasets.DataSet") -> list[str]:
    """Returns what a person should know before training; reads a few images of each split."""
    watch, looked, others = png_depth.Watch(), 0, []
    for split in data.splits.values():
        for index in () if split.is_square else range(0, len(split), -(-len(split) // _SAMPLES) or 1):
            try:
                content = split.image_bytes(index)
            except OSError:  # It is reported when it is its turn.
                continue
            looked += 1
            watch.look("", content)
            if kind := plain_images.kind_of(content, plain_images.OTHERS):
                others.append(f"{split.describe(index)} is {kind}")
    found = [f"{len(others)} of {looked} files looked at are no images: {others[0]}."] if others else []
    return [*found, *watch.notes(), *_repeated(data)]


def repeated_note(count: int, total: int, validation: str, example: str = "") -> list[str]:
    """Returns the note that some of the validation images are training images too, if some are."""
    text = f"{count:,} of {total:,} {validation} images are in train as well{example}: they do not measure the error."
    return [text] if count else []


def _repeated(data: "datasets.DataSet") -> list[str]:
    """Compares validation images with training images of the same size in bytes, those with fewest of them first."""
    train, validation = data.splits.get("train"), data.splits[data.validation]
    if train is None or any(len(split.files) != len(split) for split in (train, validation)):  # Files of many images.
        return []
    same_size: dict[int, list[str]] = collections.defaultdict(list)
    wanted = set(validation.sizes)
    for path, size in zip(train.files, train.sizes):
        if size in wanted:
            same_size[size].append(path)
    digests: dict[str, bytes] = {}
    looked, pairs = 0, []
    for path, size in sorted(zip(validation.files, validation.sizes), key=lambda each: len(same_size[each[1]])):
        unread = {path, *same_size[size]} - digests.keys() if same_size[size] else set()
        if len(digests) + len(unread) > _MOST_READ:
            break
        digests |= {each: _digest(each) for each in unread}
        looked += 1
        pairs += [(path, each) for each in same_size[size] if digests[each] == digests[path]][:1]
    example = f", such as {pairs[0][0]}, which is {pairs[0][1]}" if pairs else ""
    return repeated_note(len(pairs), looked, data.validation, example)


def _digest(path: str) -> bytes:
    try:
        return hashlib.sha256(reading.read_file(path)).digest()
    except OSError:  # It is like no other.
        return path.encode("utf-8", "surrogateescape")
