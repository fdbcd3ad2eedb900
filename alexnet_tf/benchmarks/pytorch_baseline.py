"""The same network in PyTorch: every precision, memory format and `torch.compile`. Imports no TensorFlow."""

import collections
import pathlib
import shutil
from collections.abc import Callable

import numpy as np
import torch
import torch._inductor.config
from torch.nn import functional

from alexnet_tf.benchmarks import rounds
from alexnet_tf.network import architectures, recipes
from alexnet_tf.support import errors, processors
from alexnet_tf.weights import layouts


class Normalize(torch.nn.Module):
    """(images - mean) * scale, of uint8 images [batch, 3, height, width]."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, architecture: architectures.Architecture):
        super().__init__()
        for name in ("mean", "scale"):
            value = torch.tensor(getattr(architecture, name)).reshape(3, 1, 1)
            self.register_buffer(name, value, persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Computes the layer on [batch, channels, height, width]."""
        return (images.to(self.mean.dtype) - self.mean) * self.scale


class LocalResponseNorm(torch.nn.Module):
    """Both kinds of LRN, by PyTorch's own operations.

    Args:
        lrn: The constants.
        towers: Number of towers that do not see each other: they are stacked in the batch.
        is_spatial: Whether the window is spatial, with zeros outside the map, as in cuda-convnet's `rnorm`.
    """

    def __init__(self, lrn: architectures.LRN, towers: int = 1, is_spatial: bool = False):
        super().__init__()
        self.lrn, self.towers, self.is_spatial, self.size = lrn, towers, is_spatial, 2 * lrn.depth_radius + 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Computes the layer on [batch, channels, height, width]."""
        lrn, size = self.lrn, self.size
        if self.is_spatial:
            mean = functional.avg_pool2d(x * x, size, stride=1, padding=lrn.depth_radius)
            return x * (lrn.bias + lrn.alpha * size**2 * mean) ** -lrn.beta
        y = x.reshape(x.shape[0] * self.towers, -1, *x.shape[2:])
        # PyTorch divides alpha by the window's size, and has no half-precision kernel on a CPU.
        y = functional.local_response_norm(y.float(), size, lrn.alpha * size, lrn.beta, lrn.bias)
        return y.reshape(x.shape).to(x.dtype)


def build_network(architecture: architectures.Architecture) -> torch.nn.Sequential:
    """Returns the network from uint8 images [batch, 3, size, size] to logits. Towers are groups of one layer.

    Raises:
        UserError: If towers of a dense stage read their own half only: PyTorch has no such layer.
    """
    modules: dict[str, torch.nn.Module] = {"normalize": Normalize(architecture)}
    shapes, is_map = architecture.tower_shapes(), True
    for stage in architecture.stages:
        name, channels, has_bias = stage.name, shapes[stage.name].kernel[-2] * stage.groups, stage.bias is not None
        if stage.kernel_size:
            before, after = stage.padding
            if before != after:
                modules[f"{name}_pad"], before = torch.nn.ZeroPad2d(stage.padding * 2), 0
            size = stage.kernel_size, stage.strides, before
            modules[name] = torch.nn.Conv2d(channels, stage.filters, *size, groups=stage.groups, bias=has_bias)
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
        "same_map_lrn": lambda: LocalResponseNorm(architecture.same_map_lrn, is_spatial=True),
    }[op]()


def load_weights(network: torch.nn.Sequential, architecture: architectures.Architecture, arrays: dict) -> None:
    """Sets the weights from arrays by the paths of our model's variables, such as "conv2_a/kernel"."""
    entries = layouts.to_file(architecture, layouts.LAYOUTS["stages"], arrays)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in entries.items()})


def make_optimizer(network: torch.nn.Module, recipe: recipes.Recipe) -> torch.optim.Optimizer:
    """Returns the recipe's SGD: weight decay on kernels only, and the biases' own learning rate."""
    kernels, biases = ([p for p in network.parameters() if (p.ndim > 1) == is_kernel] for is_kernel in (True, False))
    groups = [
        {"params": kernels, "weight_decay": recipe.weight_decay},
        {"params": biases, "lr": recipe.learning_rate * recipe.bias_learning_rate_multiplier},
    ]
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, fused=True)


# dtype of the weights and activations, and what autocast computes in; half-precision weights are for inference only.
PRECISIONS: dict[str, tuple[torch.dtype, torch.dtype | None]] = {
    "float32": (torch.float32, None),
    "bfloat16 autocast": (torch.float32, torch.bfloat16),
    "bfloat16 weights": (torch.bfloat16, None),
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
    with np.load(pathlib.Path(directory, "weights.npz")) as arrays:
        weights = dict(arrays)
    images, labels = (torch.from_numpy(each).to(device) for each in rounds.random_batch(architecture, batch_size))
    networks: dict[tuple, tuple] = {}
    trials = {}
    ways = ("contiguous", ""), ("channels_last", ""), ("channels_last", ", compiled")
    for layout, suffix in ways[: 2 + can_compile]:
        memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        batch = images.permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
        for name, (dtype, autocast) in list(PRECISIONS.items())[: 2 if is_training else 3]:
            if (layout, dtype) not in networks:
                network = build_network(architecture).train(is_training)
                load_weights(network, architecture, weights)
                network = network.to(device, dtype).to(memory_format=memory_format)  # type: ignore[call-overload]
                optimizer = make_optimizer(network, architecture.recipe) if is_training else None
                networks[layout, dtype] = network, optimizer
            network, optimizer = networks[layout, dtype]
            step = make_step(torch.compile(network) if suffix else network, batch, labels, optimizer, autocast)
            trials[f"{name}, {layout}{suffix}"] = rounds.repeat(step, batch_size)
    compiler = "in use" if can_compile else "needs a C++ compiler" if is_compiled else "left out"
    one_dnn = "in use" if torch.backends.mkldnn.is_available() else "missing"
    facts = {
        "name": "PyTorch",
        "machine": f"PyTorch {torch.__version__} on {device}, {torch.get_num_threads()} threads; uint8 images, "
        f"normalised in the network; oneDNN {one_dnn}, torch.compile {compiler}",
    }
    return rounds.Workload(trials, facts)


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
