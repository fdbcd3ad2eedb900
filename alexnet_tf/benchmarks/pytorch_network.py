"""Which PyTorch network computes an architecture, and reads this project's weights? Imports no TensorFlow."""

import collections

import torch
from torch.nn import functional

from alexnet_tf.network import architectures
from alexnet_tf.support import errors
from alexnet_tf.weights import layouts


class Normalize(torch.nn.Module):
    """(images - mean) * scale, of uint8 images."""

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
                modules[f"{name}_pad"] = torch.nn.ZeroPad2d(stage.padding * 2)
            modules[name] = torch.nn.Conv2d(
                channels,
                stage.filters,
                stage.kernel_size,
                stage.strides,
                before if before == after else 0,
                groups=stage.groups,
                bias=has_bias,
            )
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
