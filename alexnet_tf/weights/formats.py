"""Formats of weight files: their endings, how their arrays are laid out, how they are read and written.

A new format is one entry of `FORMATS`.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Callable

import numpy as np

from alexnet_tf.network import architectures
from alexnet_tf.support import atomic_files
from alexnet_tf.weights import caffemodel, containers, onnx_graph, pickled_arrays, prototxt


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a kind of file holds a network's weights. All of their readers, like Keras, compute cross-correlation.

    Attributes:
        kernel: Name of a stage's kernel in the file, with the stage's name in place of {}.
        bias: Name of its bias.
        is_channels_first: Whether convolutions are [out, in, height, width], dense kernels [out, in], and what a dense
            layer reads of a map is ordered by channel, row, column. Keras and .npy: [height, width, in, out],
            [in, out], and row, column, channel.
        is_bgr: Whether conv1 reads blue first.
        default: The architecture that is assumed where several fit and nothing in the file decides.
        supported: The architectures that readers of this kind of file can compute; None: those with a Caffe network.
        layer_names: The file's names of the stages, where they are not ours.
    """

    kernel: str
    bias: str
    is_channels_first: bool
    is_bgr: bool
    default: str | None = None
    supported: tuple[str, ...] | None = None
    layer_names: dict = dataclasses.field(default_factory=dict)

    def name(self, kind: str, stage_name: str) -> str:
        """Returns the file's name of a stage's "kernel" or "bias"."""
        return getattr(self, kind).format(self.layer_names.get(stage_name, stage_name))


# torchvision/models/alexnet.py: positions in its two Sequential modules.
_TORCHVISION_NAMES = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc6": "classifier.1",
    "fc7": "classifier.4",
    "fc8": "classifier.6",
}

_TORCHVISION = Layout(
    "{}.weight",
    "{}.bias",
    is_channels_first=True,
    is_bgr=False,
    supported=("torchvision",),
    layer_names=_TORCHVISION_NAMES,
)


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """A weight file that was read.

    Attributes:
        entries: Arrays by the file's own names.
        layers: The layers of a .caffemodel, in order.
        architecture: The architecture's name, where the file states it.
        mean: What the input's first step subtracts, RGB, where the file states it.
        scale: What it multiplies by, where the file states it.
        class_names: In the order of the logits, where the file states them.
        file_format: The key of `FORMATS` whose layout the entries have, if it is not that of the file.
    """

    entries: dict[str, np.ndarray]
    layers: list[caffemodel.Layer] | None = None
    architecture: str | None = None
    mean: tuple | list | np.ndarray | None = None
    scale: tuple[float, ...] | None = None
    class_names: list[str] | None = None
    file_format: str | None = None


@dataclasses.dataclass(frozen=True)
class Network:
    """What a writer needs.

    Attributes:
        architecture: With the run's scale and resizing.
        entries: Arrays by the format's own names.
        mean: RGB in [0, 255], or a mean image [height, width, 3].
        notes: What a reader must do with an image, as lines.
    """

    architecture: architectures.Architecture
    entries: dict[str, np.ndarray]
    mean: tuple[float, ...] | np.ndarray
    notes: list[str]


@dataclasses.dataclass(frozen=True)
class WeightFormat:
    """One kind of weight file.

    Attributes:
        endings: Of its files' names.
        read: From the file's bytes.
        layout: How its arrays are laid out; None for this project's own variables by their paths.
        write: Writes a network and returns the files; None where the format is only read.
        has_scale: Whether the file, or what reads it, scales the input; otherwise the scale is folded into conv1.
    """

    endings: tuple[str, ...]
    read: Callable[[bytes], WeightFile]
    layout: Layout | None = None
    write: Callable[[pathlib.Path, Network], list[pathlib.Path]] | None = None
    has_scale: bool = True


def _read_caffemodel(content: bytes) -> WeightFile:
    """Reads a .caffemodel; without a layer that scales the input, it is not scaled."""
    layers = caffemodel.read_caffemodel(content)
    entries: dict[str, np.ndarray] = {}
    scale: tuple[float, ...] = (1.0, 1.0, 1.0)
    for layer in layers:
        if layer.type == "Scale" and layer.name == "scale" and [blob.shape for blob in layer.blobs] == [(3,)]:
            scale = tuple(float(factor) for factor in layer.blobs[0][::-1])
            continue
        if layer.blobs and f"{layer.name}[0]" in entries:
            raise containers.WeightFileError(f"Two layers are called {layer.name}.")
        entries |= {f"{layer.name}[{index}]": blob for index, blob in enumerate(layer.blobs)}
    return WeightFile(entries, layers, scale=scale)


def _read_keras(content: bytes) -> WeightFile:
    """Reads a Keras file; a .keras file also states the architecture's name, the mean and the scale."""
    entries, model_config = containers.read_keras(content)
    if not model_config:
        return WeightFile(entries)
    try:
        [normalize] = [layer["config"] for layer in model_config["layers"] if layer["name"] == "normalize"]
        mean = np.array(normalize["mean"], "float32")
        if mean.shape != (3,) and (mean.ndim != 3 or mean.shape[-1] != 3):
            raise containers.WeightFileError(f"Its mean has the shape {mean.shape}.")
        name = model_config["name"]
        return WeightFile(
            entries,
            architecture=name if name in architectures.ARCHITECTURES else None,
            mean=mean.tolist() if mean.ndim == 1 else mean,
            scale=tuple(float(each) for each in normalize["scale"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise containers.WeightFileError("Its config.json is of no network of this project.") from error


def _numbers(metadata, name):
    """Returns three finite numbers of a .safetensors file's metadata, if they are there."""
    if name not in metadata:
        return None
    try:
        numbers = [float(word) for word in metadata[name].split()]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or not np.isfinite(numbers).all():
        raise containers.WeightFileError(f"{name!r} in its metadata is not three numbers.")
    return numbers


def _read_npy(content: bytes) -> WeightFile:
    entries = pickled_arrays.read_npy(content)
    if not isinstance(entries, dict):
        raise containers.WeightFileError("It holds one array and no dictionary of layers.")
    if set(entries) == {"[0]", "[1]"}:  # Kernel and bias of one layer, without its name.
        entries = {f"{_layer_of(entries['[0]'].shape)}{position}": array for position, array in entries.items()}
    return WeightFile(entries)


def _layer_of(shape: tuple[int, ...]) -> str:
    """Returns the convolution of Caffe's AlexNet whose kernel [height, width, in, out] has a shape."""
    names = [
        stage.name
        for stage in architectures.ARCHITECTURES["caffe"].stages
        if len(shape) == 4 and stage.kernel_size == shape[0] == shape[1] and stage.filters == shape[3]
    ]
    if len(names) != 1:
        raise containers.WeightFileError(
            f"It holds a kernel {shape} and a bias without their layer's name. Save a dictionary: "
            'np.save(FILE, {"conv1": [kernel, bias]}).'
        )
    return names[0]


def _plain_names(entries: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns arrays by torchvision's names: without what DataParallel, torch.compile and wrappers put before them."""
    plain = {re.sub(r"(?:^|(?<=\.))(?:module|_orig_mod)\.", "", name): array for name, array in entries.items()}
    for prefix in ("model.", "net.", "alexnet.", "backbone."):
        if plain and all(name.startswith(prefix) for name in plain):
            plain = {name.removeprefix(prefix): array for name, array in plain.items()}
    return plain if len(plain) == len(entries) else entries


def _read_torch(content: bytes) -> WeightFile:
    return WeightFile(_plain_names(pickled_arrays.read_torch(content)))


def _read_npz(content: bytes) -> WeightFile:
    archive, entries = containers.open_zip(content), {}
    for name in archive.namelist():
        array = pickled_arrays.read_npy(containers.read_member(archive, name))
        if isinstance(array, dict):
            raise containers.WeightFileError(f"{name[:80]} holds objects, not an array.")
        entries[name.removesuffix(".npy")] = array
    return WeightFile(_plain_names(entries))


def _read_safetensors(content: bytes) -> WeightFile:
    entries, metadata = containers.read_safetensors(content)
    return WeightFile(_plain_names(entries), mean=_numbers(metadata, "mean"), scale=_numbers(metadata, "scale"))


# A kernel's name in an export of this project: "conv2_a/kernel", or, in those of older versions,
# "paper_1/conv2_a_1/convolution/ReadVariableOp:0".
_OWN_NAME = re.compile(r"(?:^|/)((?:conv|fc)\d(?:_[ab])?)(?:_\d+)?/")

# The same in the ONNX model zoo's networks, which Caffe2 wrote: "conv2_w_0".
_CAFFE2_NAME = re.compile(r"((?:conv|fc)\d)_w(?:_\d+)?")


def _read_onnx(content: bytes) -> WeightFile:
    """Reads a .onnx file: of this project, of Caffe's networks in the ONNX model zoo, or of PyTorch."""
    graph = onnx_graph.read_onnx(content)
    weighted = [layer for layer in graph.layers if layer.blobs]
    own, caffe2 = (
        {layer.name: match[1] for layer in weighted if (match := pattern.search(layer.name))}
        for pattern in (_OWN_NAME, _CAFFE2_NAME)
    )
    entries = dict(graph.others)
    if len(own) == len(weighted):
        for layer in weighted:
            kernel, *bias = layer.blobs
            kernel = kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T
            entries |= {f"{own[layer.name]}/{each}": array for each, array in zip(("kernel", "bias"), (kernel, *bias))}
        return _read_own_onnx(entries, graph)
    if len(caffe2) == len(weighted):
        layers = [dataclasses.replace(layer, name=caffe2.get(layer.name, layer.name)) for layer in graph.layers]
        entries |= {f"{layer.name}[{index}]": blob for layer in layers for index, blob in enumerate(layer.blobs)}
        return WeightFile(entries, layers, scale=(1.0, 1.0, 1.0), file_format="caffemodel")
    for layer in weighted:
        entries |= dict(zip((layer.name, f"{layer.name.removesuffix('.weight')}.bias"), layer.blobs))
    return WeightFile(_plain_names(entries), file_format="torch")


def _read_own_onnx(entries: dict[str, np.ndarray], graph: onnx_graph.Graph) -> WeightFile:
    """Returns what an export of this project states beside its weights."""
    name, mean, scale = graph.metadata.get("architecture"), graph.mean, graph.scale
    if mean is not None and mean.shape != (3,) and (mean.ndim != 3 or mean.shape[-1] != 3):
        raise containers.WeightFileError(f"Its mean has the shape {mean.shape}.")
    try:
        classes = [str(each) for each in json.loads(graph.metadata["classes"])]
    except (KeyError, TypeError, ValueError, RecursionError):
        classes = None
    return WeightFile(
        entries,
        architecture=name if name in architectures.ARCHITECTURES else None,
        class_names=classes,
        mean=None if mean is None else mean if mean.ndim == 3 else mean.tolist(),
        file_format="keras",
        scale=(1.0, 1.0, 1.0) if scale is None or scale.shape != (3,) else tuple(float(each) for each in scale),
    )


def _write_caffemodel(output: pathlib.Path, network: Network) -> list[pathlib.Path]:
    """Writes the weights, the network's definition beside them, and a mean image if there is one."""
    architecture, mean, layers = network.architecture, network.mean, []
    for layer in prototxt.to_caffe_layers(architecture):
        names = (f"{layer.name}[0]", f"{layer.name}[1]")
        blobs = tuple(network.entries[name] for name in names if name in network.entries)
        if layer.type == "Scale":
            blobs = (np.array(architecture.scale[::-1], "float32"),)
        layers.append(dataclasses.replace(layer, blobs=blobs))
    files = [output, output.with_suffix(".prototxt")]
    atomic_files.atomic_write(output, lambda file: caffemodel.write_caffemodel(file, architecture.name, layers))
    text = prototxt.prototxt(architecture, network.notes)
    atomic_files.atomic_write(files[1], lambda file: file.write(text.encode()))
    if np.ndim(mean) == 3:
        files.append(output.with_suffix(".binaryproto"))
        image = np.asarray(mean)[:, :, ::-1].transpose(2, 0, 1)
        atomic_files.atomic_write(files[2], lambda file: caffemodel.write_mean(file, image))
    return files


def _write_npy(output: pathlib.Path, network: Network) -> list[pathlib.Path]:
    atomic_files.atomic_write(output, lambda file: pickled_arrays.write_npy(file, network.entries))
    return [output]


def _write_torch(output: pathlib.Path, network: Network) -> list[pathlib.Path]:
    atomic_files.atomic_write(output, lambda file: pickled_arrays.write_torch(file, network.entries))
    return [output]


def _write_safetensors(output: pathlib.Path, network: Network) -> list[pathlib.Path]:
    """Writes the arrays, and as metadata the architecture, the scale and a mean colour."""
    metadata = {"architecture": network.architecture.name, "scale": " ".join(map(repr, network.architecture.scale))}
    if np.ndim(network.mean) == 1:
        metadata["mean"] = " ".join(map(repr, network.mean))
    atomic_files.atomic_write(output, lambda file: containers.write_safetensors(file, network.entries, metadata))
    return [output]


FORMATS = {
    # BVLC/caffe, base_conv_layer.cpp and inner_product_layer.cpp: [out, in / group, height, width] and [out, in].
    # Images are BGR, as cv::imread gives them.
    "caffemodel": WeightFormat(
        (".caffemodel",),
        _read_caffemodel,
        Layout("{}[0]", "{}[1]", is_channels_first=True, is_bgr=True),
        _write_caffemodel,
    ),
    # bvlc_alexnet.npy, as ethereon/caffe-tensorflow converts the caffemodel: transposed, fc6's rows reordered, conv1
    # still BGR. Its readers compute bvlc_alexnet; caffenet's weights have the same shapes.
    "npy": WeightFormat(
        (".npy",),
        _read_npy,
        Layout(
            "{}[0]", "{}[1]", is_channels_first=False, is_bgr=True, default="caffe", supported=("caffe", "caffenet")
        ),
        _write_npy,
        has_scale=False,
    ),
    "torch": WeightFormat((".pth", ".pt", ".pth.tar"), _read_torch, _TORCHVISION, _write_torch),
    "npz": WeightFormat((".npz",), _read_npz, _TORCHVISION),  # numpy.savez of a state dictionary.
    "safetensors": WeightFormat((".safetensors",), _read_safetensors, _TORCHVISION, _write_safetensors),
    "keras": WeightFormat((".weights.h5", ".keras"), _read_keras),
    # Whose layout it has is seen when it is read; exported by `exporting/onnx_file.py`.
    "onnx": WeightFormat((".onnx",), _read_onnx),
}

# Formats that `export_weights` writes.
WRITTEN = tuple(name for name, file_format in FORMATS.items() if file_format.write)


def format_of(name: str) -> str:
    """Returns the key of `FORMATS` for a file's name.

    Raises:
        WeightFileError: If its ending is not known.
    """
    known = {ending: key for key, file_format in FORMATS.items() for ending in file_format.endings}
    for ending, key in known.items():
        if name.lower().endswith(ending):
            return key
    raise containers.WeightFileError(f"Its name ends in none of {', '.join(known)}.")
