"""Reads .weights.h5 and .keras files of models of `alexnet.build_model`, without Keras."""

import io
import json
import zipfile

import h5py

from alexnet_tf.weights import formats


def read(content: bytes) -> formats.WeightFile:
    """Reads arrays by the variable's path: "conv1_a/kernel". A .keras file states the architecture, mean and scale too.

    Raises:
        WeightFileError: If an array lies outside the file.
    """
    arrays, stated = {}, {}
    if content.startswith(b"PK"):
        archive = zipfile.ZipFile(io.BytesIO(content))
        content, config = archive.read("model.weights.h5"), json.loads(archive.read("config.json"))["config"]
        [normalize] = [layer["config"] for layer in config["layers"] if layer["name"] == "normalize"]
        stated = {"architecture": config["name"], "mean": normalize["mean"], "scale": normalize["scale"]}

    def collect(path, item):
        if isinstance(item, h5py.Dataset) and item.shape:  # Without a shape it is a count.
            if item.external or item.is_virtual:
                raise formats.WeightFileError(f"{path} lies outside the file.")
            kind = {"0": "kernel", "1": "bias"}[path.rpartition("/")[2]]
            arrays[f"{item.parent.attrs['name']}/{kind}"] = item[()]

    with h5py.File(io.BytesIO(content)) as file:
        file["layers"].visititems(collect)  # Follows no links out of the file.
    return formats.WeightFile(arrays, "own", **stated)
