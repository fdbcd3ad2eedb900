"""How `prepare` writes a file of records, and beside it what must be kept about it until all files are written."""

import json
import os
import pathlib
import typing
from collections.abc import Iterable

import google_crc32c
import numpy as np
import tensorflow as tf

from alexnet_tf.data import image_statistics, prepare_images
from alexnet_tf.support import atomic_files

# What is kept of each image: where its bytes are in the file, its label, and the CRC-32C of its bytes.
ARRAYS = {"offsets": "int64", "lengths": "int64", "labels": "int32", "checksums": "uint32"}


def write_shard(path: pathlib.Path, results: Iterable[prepare_images.Result], source: str) -> None:
    """Writes a TFRecord file, and last, beside it, its summary, which says that both are whole."""
    columns: dict[str, list[int]] = {name: [] for name in ARRAYS}
    skipped, rotated, sums, position = [], 0, image_statistics.Sums(), 0
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with tf.io.TFRecordWriter(str(temporary)) as writer:
            for images, chunk_sums in results:
                sums.add(chunk_sums)
                for image in images:
                    if image.jpeg is None:
                        skipped.append({"file": image.name, "reason": image.problem})
                        continue
                    record = _record(image, source)
                    writer.write(record)
                    # A record is its length (8 bytes), that number's checksum (4), the data, and its checksum (4).
                    values = (
                        position + 12 + record.index(image.jpeg),
                        len(image.jpeg),
                        image.label,
                        google_crc32c.value(image.jpeg),
                    )
                    for column, value in zip(columns.values(), values, strict=True):
                        column.append(value)
                    rotated += image.is_rotated
                    position += len(record) + 16
    except tf.errors.OpError as error:
        raise OSError(None, str(error.message), str(path)) from error
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    arrays: dict[str, typing.Any] = {name: np.array(columns[name], dtype) for name, dtype in ARRAYS.items()}
    atomic_files.atomic_write(
        summary_of(path),
        lambda file: np.savez(
            file,
            **arrays,
            size=position,
            rotated=rotated,
            skipped=json.dumps(skipped),
            images=sums.images,
            pixels=sums.pixels,
            products=sums.products,
        ),
    )


def summary_of(path: pathlib.Path) -> pathlib.Path:
    """Returns the file beside a shard that lists what is in it."""
    return path.with_name(f"{path.name}.npz")


def _record(image: prepare_images.PreparedImage, source: str) -> bytes:
    name = os.fsencode(image.name.removeprefix(f"{source}/"))
    feature = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.jpeg])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[image.label])),
        "file_name": tf.train.Feature(bytes_list=tf.train.BytesList(value=[name])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)
