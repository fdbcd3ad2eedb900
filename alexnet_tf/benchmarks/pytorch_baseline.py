"""The same network in PyTorch: walks an architecture as `alexnet` does. Imports no TensorFlow."""

import collections
import collections.abc
import os
import pathlib
import shutil
import typing
from collections.abc import Sequence

import numpy as np
import torch
import torch._inductor.config
from torch.nn import functional

from alexnet_tf import architectures, errors, recipes
from alexnet_tf.benchmarks import rounds, worker_process
from alexnet_tf.weights import layouts

_LAYOUT = layouts.Layout("{}.weight", "{}.bias", is_channels_first=True, is_bgr=False)


class Normalize(torch.nn.Module):
    """(images - mean) * scale, of uint8 images."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, mean: Sequence[float] | np.ndarray, scale: Sequence[float]):
        super().__init__()
        for name, value in ("mean", mean), ("scale", scale):
            self.register_buffer(name, torch.tensor(value, dtype=torch.float32).reshape(3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Computes the layer on [batch, channels, height, width]."""
        return (images.to(self.mean.dtype) - self.mean) * self.scale


class LocalResponseNorm(torch.nn.Module):
    """PyTorch's own LRN, which divides alpha by the window's size and has no half-precision kernel on a CPU.

    Towers that do not see each other are stacked in the batch.
    """

    def __init__(self, lrn: architectures.LRN, towers: int):
        super().__init__()
        size = 2 * lrn.depth_radius + 1
        self.constants, self.towers = (size, lrn.alpha * size, lrn.beta, lrn.bias), towers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Computes the layer on [batch, channels, height, width]."""
        y = x.reshape(x.shape[0] * self.towers, -1, *x.shape[2:])
        return functional.local_response_norm(y.float(), *self.constants).reshape(x.shape).to(x.dtype)


class SameMapNorm(torch.nn.Module):
    """cuda-convnet's `rnorm`: the window is spatial, with zeros outside the map."""

    def __init__(self, lrn: architectures.LRN):
        super().__init__()
        self.lrn, self.size = lrn, 2 * lrn.depth_radius + 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Computes the layer on [batch, channels, height, width]."""
        mean = functional.avg_pool2d(x * x, self.size, stride=1, padding=self.lrn.depth_radius)
        return x * (self.lrn.bias + self.lrn.alpha * self.size ** 2 * mean) ** -self.lrn.beta


def build_network(architecture: architectures.Architecture) -> torch.nn.Sequential:
    """Returns the network from uint8 images [batch, 3, size, size] to logits. Towers are groups of one layer.

    Raises:
        UserError: If towers of a dense stage read their own half only: PyTorch has no such layer.
    """
    modules: dict[str, torch.nn.Module] = {"normalize": Normalize(architecture.mean, architecture.scale)}
    shapes, is_map = architecture.tower_shapes(), True
    for stage in architecture.stages:
        name, channels, has_bias = stage.name, shapes[stage.name].kernel[-2] * stage.groups, stage.bias is not None
        if stage.kernel_size:
            before, after = stage.padding
            if before != after:
                modules[f"{name}_pad"] = torch.nn.ZeroPad2d(stage.padding * 2)
            modules[name] = torch.nn.Conv2d(
                channels, stage.filters, stage.kernel_size, stage.strides, before if before == after else 0,
                groups=stage.groups, bias=has_bias)
        elif stage.groups > 1:
            raise errors.UserError(f"{name} of {architecture.name}: PyTorch has no dense layer in groups.")
        else:
            if is_map:
                modules[f"{name}_flatten"], is_map = torch.nn.Flatten(), False
            modules[name] = torch.nn.Linear(channels, stage.filters, bias=has_bias)
        modules |= {f"{name}_{op}": _make_op(op, stage, architecture) for op in stage.ops}
    if is_map:
        modules["logits"] = torch.nn.Flatten()
    return torch.nn.Sequential(collections.OrderedDict(modules))


def _make_op(op, stage, architecture):
    """Returns one of `stage.ops`."""
    return {
        "relu": lambda: torch.nn.ReLU(inplace=True),
        "pool": lambda: torch.nn.MaxPool2d(stage.pool.size, stage.pool.strides, ceil_mode=stage.pool.padding == "same"),
        "dropout": lambda: torch.nn.Dropout(architecture.dropout_rate),
        "lrn": lambda: LocalResponseNorm(architecture.lrn, 1 if architecture.lrn_across_towers else stage.towers),
        "same_map_lrn": lambda: SameMapNorm(architecture.same_map_lrn)}[op]()


def load_weights(network: torch.nn.Sequential, architecture: architectures.Architecture, arrays: dict) -> None:
    """Sets the weights from arrays by the paths of our model's variables, such as "conv2_a/kernel"."""
    entries = layouts.to_file(architecture, _LAYOUT, arrays)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in entries.items()})


def make_optimizer(network: torch.nn.Module, recipe: recipes.Recipe) -> torch.optim.Optimizer:
    """Returns the recipe's SGD: decay of kernels only, the biases at their own rate."""
    kernels, biases = ([p for p in network.parameters() if (p.ndim > 1) == is_kernel] for is_kernel in (True, False))
    return torch.optim.SGD([
        {"params": kernels, "weight_decay": recipe.weight_decay},
        {"params": biases, "lr": recipe.learning_rate * recipe.bias_learning_rate_multiplier},
    ], lr=recipe.learning_rate, momentum=recipe.momentum, fused=True)


class Precision(typing.NamedTuple):
    """How a case computes."""

    dtype: torch.dtype = torch.float32  # Of weights and activations.
    autocast: torch.dtype | None = None  # What PyTorch's autocast computes in.
    math: str = "ieee"  # What float32 tensors are multiplied in: "ieee", "tf32" or "bf16".


def precisions(is_training: bool, device: str) -> dict[str, Precision]:
    """Returns every precision by name; half-precision weights are for inference only."""
    math = {"TF32 math": Precision(math="tf32")} if device == "cuda" else {"bfloat16 math": Precision(math="bf16")}
    half = {} if is_training else {"bfloat16": Precision(torch.bfloat16), "float16": Precision(torch.float16)}
    return {"float32": Precision(), "bfloat16 autocast": Precision(autocast=torch.bfloat16), **math, **half}


def make_workload(
    architecture: architectures.Architecture, directory: str, *, batch_size: int, is_training: bool,
    is_compiled: bool = True) -> worker_process.Workload:
    """Returns a case for every precision and memory format, on the GPU if PyTorch can use one.

    Args:
        architecture: The network.
        directory: Where weights.npz is.
        batch_size: Images a step; they lie in memory as the case wants them.
        is_training: Whether to train or to infer.
        is_compiled: Whether every precision by `torch.compile` takes part; it chooses the layout inside by itself.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(os.cpu_count() or 1)
    can_compile = is_compiled and any(map(shutil.which, ("c++", "g++", "clang++")))
    torch._inductor.config.freezing = is_compiled and not is_training  # Weights become constants, laid out once.
    with np.load(pathlib.Path(directory, "weights.npz")) as arrays:
        weights = dict(arrays)
    batch = worker_process.random_batch(architecture, batch_size)
    images, labels = (torch.from_numpy(each).to(device) for each in batch)
    networks: dict[tuple, tuple] = {}
    calls = {}
    ways = ("contiguous", ""), ("channels_last", ""), ("channels_last", ", compiled")
    for layout, suffix in ways[:2 + can_compile]:
        memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        for name, precision in precisions(is_training, device).items():
            if (layout, precision.dtype) not in networks:
                network = build_network(architecture).train(is_training)
                load_weights(network, architecture, weights)
                network = network.to(device, precision.dtype).to(memory_format=memory_format)  # type: ignore[call-overload]
                networks[layout, precision.dtype] = (
                    network, images.permute(0, 3, 1, 2).contiguous(memory_format=memory_format),
                    make_optimizer(network, architecture.recipe) if is_training else None)
            network, *rest = networks[layout, precision.dtype]
            call = torch.compile(network) if suffix else network
            calls[f"{name}, {layout}{suffix}"] = rounds.repeat(make_step(precision, call, labels, *rest), batch_size)
    compiler = "left out" if not is_compiled else "in use" if can_compile else "needs a C++ compiler"
    return worker_process.Workload(calls, {
        "name": "PyTorch", "version": torch.__version__, "threads": torch.get_num_threads(), "device": device,
        "data": "uint8 images, normalised in the network; oneDNN "
                f"{'in use' if torch.backends.mkldnn.is_available() else 'missing'}, torch.compile {compiler}"})


def make_step(
    precision: Precision, network: collections.abc.Callable, labels: torch.Tensor, images: torch.Tensor,
    optimizer: torch.optim.Optimizer | None = None) -> collections.abc.Callable[[], float]:
    """Returns the function that trains on a batch, or without an optimizer predicts it; it waits for the result."""
    autocast = torch.autocast(images.device.type, precision.autocast, enabled=precision.autocast is not None)

    def step() -> float:
        torch.backends.fp32_precision = precision.math  # type: ignore[attr-defined]
        if optimizer is None:
            with torch.inference_mode(), autocast:
                return float(network(images)[0, 0])
        with autocast:
            loss = functional.cross_entropy(network(images).float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step
