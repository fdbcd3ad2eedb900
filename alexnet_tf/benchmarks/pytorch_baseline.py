"""The same network in PyTorch: every precision, memory format and `torch.compile`. Imports no TensorFlow."""

import pathlib
import shutil
from collections.abc import Callable

import numpy as np
import torch
import torch._inductor.config
from torch.nn import functional

from alexnet_tf.benchmarks import rounds
from alexnet_tf.network import architectures, recipes
from alexnet_tf.support import processors
from alexnet_tf.weights import layouts


class Normalize(torch.nn.Module):
    """(images - mean) * scale, of uint8 images [batch, 3, height, width]."""

    def __init__(self, architecture: architectures.Architecture):
        super().__init__()
        self.mean, self.scale = (
            torch.nn.Buffer(torch.tensor(each).reshape(3, 1, 1), persistent=False)
            for each in (architecture.mean, architecture.scale)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Computes the layer on [batch, channels, height, width]."""
        return (images.to(self.mean.dtype) - self.mean) * self.scale


class LocalResponseNorm(torch.nn.Module):
    """Both kinds of LRN, by PyTorch's own operations.

    Args:
        lrn: The constants.
        towers: Number of towers that do not see each other: they are stacked in the batch. 0 for the other kind, whose
            window is spatial, with zeros outside the map, as in cuda-convnet's `rnorm`.
    """

    def __init__(self, lrn: architectures.LRN, towers: int):
        super().__init__()
        self.lrn, self.towers, self.size = lrn, towers, 2 * lrn.depth_radius + 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Computes the layer on [batch, channels, height, width]."""
        lrn, size = self.lrn, self.size
        if not self.towers:
            mean = functional.avg_pool2d(x * x, size, stride=1, padding=lrn.depth_radius)
            return x * (lrn.bias + lrn.alpha * size**2 * mean) ** -lrn.beta
        y = x.reshape(x.shape[0] * self.towers, -1, *x.shape[2:])
        # PyTorch divides alpha by the window's size, and has no half-precision kernel on a CPU.
        y = functional.local_response_norm(y.float(), size, lrn.alpha * size, lrn.beta, lrn.bias)
        return y.reshape(x.shape).to(x.dtype)


def build_network(architecture: architectures.Architecture, arrays: dict[str, np.ndarray]) -> torch.nn.Sequential:
    """Returns the network from uint8 images [batch, 3, size, size] to logits. Towers are groups of one layer.

    Args:
        architecture: The network.
        arrays: Its weights by the paths of our model's variables, such as "conv2_a/kernel".
    """
    network, shapes = torch.nn.Sequential(Normalize(architecture)), architecture.tower_shapes()
    for stage in architecture.stages:
        channels, has_bias = shapes[stage.name].kernel[-2] * stage.groups, stage.bias is not None
        if stage.kernel_size:
            before, after = stage.padding
            if before != after:
                network.append(torch.nn.ZeroPad2d(stage.padding * 2))
                before = 0
            size = stage.kernel_size, stage.strides, before
            layer: torch.nn.Module = torch.nn.Conv2d(channels, stage.filters, *size, groups=stage.groups, bias=has_bias)
        else:
            network.append(torch.nn.Flatten())
            layer = torch.nn.Linear(channels, stage.filters, has_bias)
        network.add_module(stage.name, layer)
        pool, towers = stage.pool, 1 if architecture.lrn_across_towers else stage.towers
        ops = {
            "relu": torch.nn.ReLU(inplace=True),
            "pool": torch.nn.MaxPool2d(pool.size, pool.strides, ceil_mode=pool.padding == "same"),
            "dropout": torch.nn.Dropout(architecture.dropout_rate),
            "lrn": LocalResponseNorm(architecture.lrn, towers),
            "same_map_lrn": LocalResponseNorm(architecture.same_map_lrn, 0),
        }
        network.extend(ops[op] for op in stage.ops)
    network.append(torch.nn.Flatten())  # The last stages may be convolutions.
    entries = layouts.to_file(architecture, layouts.LAYOUTS["stages"], arrays)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in entries.items()})
    return network


def make_optimizer(network: torch.nn.Module, recipe: recipes.Recipe) -> torch.optim.Optimizer:
    """Returns the recipe's SGD: weight decay on kernels only, and the biases' own learning rate."""
    kernels, biases = ([p for p in network.parameters() if (p.ndim > 1) == is_kernel] for is_kernel in (True, False))
    rate = recipe.learning_rate
    groups = [
        {"params": kernels, "weight_decay": recipe.weight_decay},
        {"params": biases, "lr": rate * recipe.bias_learning_rate_multiplier},
    ]
    return torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum, fused=True)


# By dtype of the weights and activations: what autocast computes in; half-precision weights are for inference only.
PRECISIONS: dict[torch.dtype, dict[str, torch.dtype | None]] = {
    torch.float32: {"float32": None, "bfloat16 autocast": torch.bfloat16},
    torch.bfloat16: {"bfloat16 weights": None},
}


def make_workload(
    architecture: architectures.Architecture,
    directory: str,
    *,
    batch_size: int,
    is_training: bool,
    is_compiled: bool = True,
) -> rounds.Workload:
    """Returns a case for every precision and memory format, on the GPU if PyTorch can use one.

    Args:
        architecture: The network.
        directory: Directory of weights.npz.
        batch_size: Images a step, which are in memory in the format that the case wants.
        is_training: Whether to train or to infer.
        is_compiled: Whether to add every precision under `torch.compile`, which chooses the inner layout by itself.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(processors.available_cpus())
    torch.backends.cudnn.benchmark = True  # As TensorFlow does, the fastest algorithm is chosen by trying.
    if device == "cuda":  # As ours.
        torch.backends.fp32_precision = "tf32" if is_training else "ieee"  # type: ignore[attr-defined]
    can_compile = is_compiled and any(map(shutil.which, ("c++", "g++", "clang++")))
    torch._inductor.config.freezing = is_compiled and not is_training  # Weights become constants, laid out once.
    weights = dict(np.load(pathlib.Path(directory, "weights.npz")))
    images, labels = (torch.from_numpy(each).to(device) for each in rounds.random_batch(architecture, batch_size))
    trials = {}
    for layout, memory_format in ("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last):
        batch = images.permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
        for dtype in [torch.float32] if is_training else PRECISIONS:
            network = build_network(architecture, weights).train(is_training).to(device, dtype)
            network = network.to(memory_format=memory_format)  # type: ignore[call-overload]
            optimizer = make_optimizer(network, architecture.recipe) if is_training else None
            for name, autocast in PRECISIONS[dtype].items():
                ways = {"": network}
                if can_compile and layout == "channels_last":
                    ways[", compiled"] = torch.compile(network)
                for suffix, way in ways.items():
                    step = make_step(way, batch, labels, optimizer, autocast)
                    trials[f"PyTorch {name}: {layout}{suffix}"] = rounds.repeat(step, batch_size)
    note = "; torch.compile needs a C++ compiler" if is_compiled and not can_compile else ""
    return trials, {"machine": f"PyTorch {torch.__version__} on {device}, {torch.get_num_threads()} threads{note}"}


def make_step(
    network: Callable,
    images: torch.Tensor,
    labels: torch.Tensor,
    optimizer: torch.optim.Optimizer | None = None,
    autocast: torch.dtype | None = None,
) -> Callable[[], float]:
    """Returns the function that trains on a batch, or without an optimizer predicts it, and waits for the result."""
    precision = torch.autocast(images.device.type, autocast, enabled=autocast is not None)

    def step() -> float:
        if optimizer is None:
            with torch.inference_mode(), precision:
                return float(network(images)[0, 0])
        with precision:
            loss = functional.cross_entropy(network(images).float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()  # On a GPU it waits for the update too.

    return step
