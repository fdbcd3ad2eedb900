"""The same network in PyTorch: every precision, memory format and `torch.compile`. Imports no TensorFlow."""

import pathlib
import shutil
import typing
from collections.abc import Callable

import numpy as np
import torch
import torch._inductor.config
from torch.nn import functional

from alexnet_tf.benchmarks import pytorch_network, rounds, worker_process
from alexnet_tf.network import architectures, recipes
from alexnet_tf.support import processors


def make_optimizer(network: torch.nn.Module, recipe: recipes.Recipe) -> torch.optim.Optimizer:
    """Returns the recipe's SGD: weight decay on kernels only, and the biases' own learning rate."""
    kernels, biases = ([p for p in network.parameters() if (p.ndim > 1) == is_kernel] for is_kernel in (True, False))
    return torch.optim.SGD(
        [
            {"params": kernels, "weight_decay": recipe.weight_decay},
            {"params": biases, "lr": recipe.learning_rate * recipe.bias_learning_rate_multiplier},
        ],
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        fused=True,
    )


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
    architecture: architectures.Architecture,
    directory: str,
    *,
    batch_size: int,
    is_training: bool,
    is_compiled: bool = True,
) -> worker_process.Workload:
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
    can_compile = is_compiled and any(map(shutil.which, ("c++", "g++", "clang++")))
    torch._inductor.config.freezing = is_compiled and not is_training  # Weights become constants, laid out once.
    with np.load(pathlib.Path(directory, "weights.npz")) as arrays:
        weights = dict(arrays)
    images, labels = (
        torch.from_numpy(each).to(device) for each in worker_process.random_batch(architecture, batch_size)
    )
    networks: dict[tuple, tuple] = {}
    calls = {}
    ways = ("contiguous", ""), ("channels_last", ""), ("channels_last", ", compiled")
    for layout, suffix in ways[: 2 + can_compile]:
        memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        for name, precision in precisions(is_training, device).items():
            if (layout, precision.dtype) not in networks:
                network = pytorch_network.build_network(architecture).train(is_training)
                pytorch_network.load_weights(network, architecture, weights)
                network = network.to(device, precision.dtype).to(memory_format=memory_format)  # type: ignore[call-overload]
                networks[layout, precision.dtype] = (
                    network,
                    images.permute(0, 3, 1, 2).contiguous(memory_format=memory_format),
                    make_optimizer(network, architecture.recipe) if is_training else None,
                )
            network, *rest = networks[layout, precision.dtype]
            call = torch.compile(network) if suffix else network
            calls[f"{name}, {layout}{suffix}"] = rounds.repeat(make_step(precision, call, labels, *rest), batch_size)
    compiler = "left out" if not is_compiled else "in use" if can_compile else "needs a C++ compiler"
    return worker_process.Workload(
        calls,
        {
            "name": "PyTorch",
            "version": torch.__version__,
            "threads": torch.get_num_threads(),
            "device": device,
            "data": "uint8 images, normalised in the network; oneDNN "
            f"{'in use' if torch.backends.mkldnn.is_available() else 'missing'}, torch.compile {compiler}",
        },
    )


def make_step(
    precision: Precision,
    network: Callable,
    labels: torch.Tensor,
    images: torch.Tensor,
    optimizer: torch.optim.Optimizer | None = None,
) -> Callable[[], float]:
    """Returns the function that trains on a batch, or without an optimizer predicts it, and waits for the result."""
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
        return loss.item()  # On a GPU it waits for the update too.

    return step
