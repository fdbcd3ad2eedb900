"""Every operation of a training step has a GPU kernel, by TensorFlow's own list, which needs no GPU."""

import collections
import functools

import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels

from alexnet_tf.network import architectures
from tests.helpers.training_steps import NARROW, make_batches, make_step

# What does not compute: arguments, control flow and calls of functions, which are walked themselves.
_STRUCTURE = {"Placeholder", "NoOp", "PartitionedCall", "StatefulPartitionedCall", "If", "StatelessIf", "ConcatOffset"}

# With arguments in host memory that are not known before the step: each costs a round trip.
_HOST_SEEDS = "StatelessRandomGetKeyCounter"


def nodes_of(graph: tf.compat.v1.GraphDef):
    """Returns the operations of a graph and of its functions, calls left out."""
    names = {function.signature.name for function in graph.library.function}
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return [node for node in nodes if node.op not in names | _STRUCTURE]


@functools.cache
def gpu_kernels(op):
    """Returns the kernels of an operation for a GPU, or for every device."""
    found = kernels.get_registered_kernels_for_op(op).kernel
    return [kernel for kernel in found if kernel.device_type in ("GPU", "DEFAULT")]


def has_gpu_kernel(node) -> bool:
    """Returns whether a kernel for a GPU, or for every device, takes the types of an operation."""
    return any(
        all(
            constraint.name in node.attr and node.attr[constraint.name].type in constraint.allowed_values.list.type
            for constraint in kernel.constraint
        )
        for kernel in gpu_kernels(node.op)
    )


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", ["paper", "original2012"])
def test_every_operation_of_a_training_step_has_a_kernel_on_a_gpu(name, precision):
    architecture = NARROW[name]
    step = make_step(architecture, precision=precision, clip_norm=5.0)
    [batch] = step.batches(make_batches(architecture, 1, has_noise=True))
    nodes = nodes_of(step._step.get_concrete_function(batch, tf.constant(0.0)).graph.as_graph_def())
    missing = [node for node in nodes if not has_gpu_kernel(node)]
    assert not collections.Counter((node.op, tf.as_dtype(node.attr["T"].type or tf.string).name) for node in missing)
    dropouts = sum("dropout" in stage.ops for stage in architectures.ARCHITECTURES[name].stages) * 2  # In both towers.
    assert sum(node.op == _HOST_SEEDS for node in nodes) <= 2 * dropouts


def test_an_operation_without_a_kernel_is_found():
    with tf.Graph().as_default() as graph:
        tf.nn.local_response_normalization(tf.zeros([1, 2, 2, 4], tf.bfloat16))
        tf.strings.upper("a")
    missing = [node.op for node in nodes_of(graph.as_graph_def()) if not has_gpu_kernel(node)]
    assert missing == ["LRN", "Const", "StringUpper"]  # The constant is the string itself.
