"""The same network in PyTorch, for comparison: walks a row as `alexnet` does, and takes its turns in `turns`.

Imports PyTorch and not TensorFlow: it is loaded in a process of its own, and only where a comparison is asked for.
"""

import collections
import contextlib
import dataclasses
import os
import pathlib
import shutil

import numpy as np
import torch
import torch._inductor.config
from torch.nn import functional

from alexnet_tf import architectures, errors, recipes
from alexnet_tf.benchmarks import worker_process


class Normalize(torch.nn.Module):
    """(images - mean) * scale, of uint8 images."""

    def __init__(self, mean, scale):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(3, 1, 1))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32).reshape(3, 1, 1))

    def forward(self, images):
        return (images.to(self.mean.dtype) - self.mean) * self.scale


class LocalResponseNorm(torch.nn.Module):
    """PyTorch's own LRN, which divides alpha by the window's size and has no kernel for half precision.

    Towers that do not see each other are a batch.
    """

    def __init__(self, lrn: architectures.LRN, towers: int):
        super().__init__()
        size = 2 * lrn.depth_radius + 1
        self.constants, self.towers = (size, lrn.alpha * size, lrn.beta, lrn.bias), towers

    def forward(self, x):
        y = x.reshape(x.shape[0] * self.towers, -1, *x.shape[2:])
        return functional.local_response_norm(y.float(), *self.constants).reshape(x.shape).to(x.dtype)


class SameMapNorm(torch.nn.Module):
    """cuda-convnet's `rnorm`: the window is spatial, with zeros outside the map."""

    def __init__(self, lrn: architectures.LRN):
        super().__init__()
        self.lrn, self.size = lrn, 2 * lrn.depth_radius + 1

    def forward(self, x):
        lrn = self.lrn
        mean = functional.avg_pool2d(x * x, self.size, stride=1, padding=lrn.depth_radius)
        return x * (lrn.bias + lrn.alpha * self.size ** 2 * mean) ** -lrn.beta


def build_network(row: architectures.Architecture) -> torch.nn.Sequential:
    """Returns the row's network: uint8 images [batch, 3, size, size] to logits. Towers are groups of one layer.

    Raises:
        UserError: If a dense stage's towers see their own half only, which PyTorch has no layer for.
    """
    modules, channels, size = {"normalize": Normalize(row.mean, row.scale)}, 3, row.image_size
    for stage in row.stages:
        if stage.kernel_size:
            if len(set(stage.padding)) > 1:
                modules[f"{stage.name}_pad"] = torch.nn.ZeroPad2d(stage.padding * 2)
            padding = stage.padding[0] if len(set(stage.padding)) == 1 else 0
            modules[stage.name] = torch.nn.Conv2d(
                channels, stage.filters, stage.kernel_size, stage.strides, padding, groups=stage.groups,
                bias=stage.bias is not None)
            size = (size + sum(stage.padding) - stage.kernel_size) // stage.strides + 1
        elif stage.groups > 1:
            raise errors.UserError(f"{stage.name} of {row.name}: PyTorch has no dense layer in groups to compare with.")
        else:
            if size:
                modules[f"{stage.name}_flatten"], channels, size = torch.nn.Flatten(), channels * size ** 2, 0
            modules[stage.name] = torch.nn.Linear(channels, stage.filters, bias=stage.bias is not None)
        channels = stage.filters
        for step in stage.ops:
            modules[f"{stage.name}_{step}"] = _following(step, stage, row)
        if "pool" in stage.ops:
            pool = stage.pool
            size = -(-size // pool.strides) if pool.padding == "same" else (size - pool.size) // pool.strides + 1
    if size:
        modules["logits"] = torch.nn.Flatten()
    return torch.nn.Sequential(collections.OrderedDict(modules))


def _following(step, stage, row):
    """Returns one step of `stage.ops`."""
    if step == "relu":
        return torch.nn.ReLU(inplace=True)
    if step == "pool":
        return torch.nn.MaxPool2d(stage.pool.size, stage.pool.strides, ceil_mode=stage.pool.padding == "same")
    if step == "dropout":
        return torch.nn.Dropout(row.dropout_rate)
    if step == "lrn":
        return LocalResponseNorm(row.lrn, stage.towers if row.lrn_across_towers is False else 1)
    return SameMapNorm(row.same_map_lrn)


def load_weights(network: torch.nn.Sequential, row: architectures.Architecture, arrays: dict) -> None:
    """Sets the weights.

    Args:
        network: From `build_network`.
        row: The row.
        arrays: By the paths of our model's variables, such as "conv2_a/kernel".
    """
    modules, channels = dict(network.named_children()), 3
    for stage in row.stages:
        module = modules[stage.name]
        kernel = np.concatenate([arrays[f"{name}/kernel"] for name in stage.layer_names], -1)
        if kernel.ndim == 4:
            kernel = kernel.transpose(3, 2, 0, 1)
        else:  # PyTorch flattens a map by channel, row, column.
            side = round((kernel.shape[0] // channels) ** 0.5)
            kernel = kernel.reshape(side, side, channels, -1).transpose(3, 2, 0, 1).reshape(kernel.shape[::-1])
        with torch.no_grad():
            module.weight.copy_(torch.from_numpy(kernel.copy()))
            if stage.bias:
                bias = np.concatenate([arrays[f"{name}/bias"] for name in stage.layer_names])
                module.bias.copy_(torch.from_numpy(bias))
        channels = stage.filters


def make_optimizer(network: torch.nn.Module, recipe: recipes.Recipe) -> torch.optim.Optimizer:
    """Returns the recipe's SGD: decay of kernels only, the biases at their own rate."""
    kernels = [p for p in network.parameters() if p.ndim > 1]
    biases = [p for p in network.parameters() if p.ndim == 1]
    groups = [{"params": kernels, "weight_decay": recipe.weight_decay},
              {"params": biases, "lr": recipe.learning_rate * recipe.bias_learning_rate_multiplier}]
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, fused=True)


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to run the network.

    Attributes:
        precision: "float32"; "bfloat16 autocast": as PyTorch recommends; "bfloat16 math": float32 tensors, multiplied
            in bfloat16; "bfloat16" or "float16": weights and activations, for inference.
        memory_format: "contiguous" or "channels_last".
        compiled: Whether by `torch.compile`.
    """

    precision: str
    memory_format: str
    compiled: bool = False

    def __str__(self):
        return f"{self.precision}, {self.memory_format}{', compiled' if self.compiled else ''}"


def variants(is_training: bool, is_compiled: bool) -> list[Variant]:
    """Returns every way; `torch.compile` chooses the layout inside by itself."""
    precisions = ["float32", "bfloat16 autocast", "bfloat16 math"] + ([] if is_training else ["bfloat16", "float16"])
    ways = [Variant(precision, layout) for precision in precisions for layout in ("contiguous", "channels_last")]
    return ways + [Variant(precision, "channels_last", True) for precision in precisions if is_compiled]


def make_workload(row: architectures.Architecture, directory, *, batch_size: int, is_training: bool, is_compiled: bool) -> worker_process.Workload:
    """Returns PyTorch's contestants, one for each variant.

    Args:
        row: The network.
        directory: Where weights.npz is.
        batch_size: Images a step; they lie in memory as the variant wants them.
        is_training: Whether to train or to infer.
        is_compiled: Whether `torch.compile` takes part.
    """
    torch.set_num_threads(os.cpu_count())
    can_compile = any(map(shutil.which, ("c++", "g++", "clang++")))
    if is_compiled and not is_training:
        torch._inductor.config.freezing = True  # Weights become constants, laid out for their convolutions.
    with np.load(pathlib.Path(directory, "weights.npz")) as arrays:
        arrays = dict(arrays)
    images, labels = map(torch.from_numpy, worker_process.random_batch(row, batch_size))
    networks, calls = {}, {}
    for variant in variants(is_training, is_compiled and can_compile):
        dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(variant.precision, torch.float32)
        key = variant.memory_format, dtype
        if key not in networks:
            layout = torch.channels_last if variant.memory_format == "channels_last" else torch.contiguous_format
            network = build_network(row).train(is_training)
            load_weights(network, row, arrays)
            network = network.to(dtype).to(memory_format=layout)
            pixels = images.permute(0, 3, 1, 2).contiguous(memory_format=layout)
            networks[key] = network, pixels, make_optimizer(network, row.recipe)
        network, pixels, optimizer = networks[key]
        call = torch.compile(network) if variant.compiled else network
        if is_training:
            step = _training_step(variant, call, pixels, labels, optimizer)
        else:
            step = _inference_step(variant, call, pixels)
        calls[str(variant)] = worker_process.repeated(step, batch_size)
    return worker_process.Workload(calls, {
        "name": "PyTorch",
        "version": torch.__version__,
        "threads": torch.get_num_threads(),
        "data": "uint8 images, normalised in the network; oneDNN "
                f"{'in use' if torch.backends.mkldnn.is_available() else 'missing'}, torch.compile "
                f"{('in use' if can_compile else 'needs a C++ compiler') if is_compiled else 'left out'}"})


@contextlib.contextmanager
def _computing_in(precision):
    """Sets what a precision needs set."""
    settings = torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv
    before = [each.fp32_precision for each in settings]
    for each in settings:
        each.fp32_precision = "bf16" if precision == "bfloat16 math" else "ieee"
    try:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16 autocast"):
            yield
    finally:
        for each, value in zip(settings, before):
            each.fp32_precision = value


def _training_step(variant, network, images, labels, optimizer):
    def step():
        with _computing_in(variant.precision):
            loss = functional.cross_entropy(network(images).float(), labels)
        with _computing_in(variant.precision if variant.precision == "bfloat16 math" else "float32"):
            loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def _inference_step(variant, network, images):
    def step():
        with torch.inference_mode(), _computing_in(variant.precision):
            return float(network(images)[0, 0])

    return step
