"""Tests of `train_step`: that the step is the same wherever it is computed, and where it is computed.

What ran is counted in the graphs that TensorFlow hands back after a step: partitioned, optimised, one a device.
"""

import collections
import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

from alexnet_tf.benchmarks import rounds
from alexnet_tf.network import architectures
from alexnet_tf.support import errors
from tests.helpers.networks import TINY, narrow_dense
from tests.helpers.training_steps import NARROW, assert_same, make_batches, make_step, train

TWO = ("CPU:0", "CPU:1")

# Two towers through all that the paper has, with stages that see their own tower and stages that see both.
TOWERS = dataclasses.replace(
    TINY,
    name="towers",
    stages=(
        architectures.Stage("conv1", 8, 11, strides=4, towers=2, ops=("relu", "lrn", "pool")),
        architectures.Stage("conv2", 8, 5, padding=(2, 2), towers=2, input_towers="own", ops=("relu", "lrn", "pool")),
        architectures.Stage("conv3", 8, 3, padding=(1, 1), towers=2, ops=("relu",)),
        architectures.Stage("conv4", 8, 3, padding=(1, 1), towers=2, input_towers="own", ops=("relu",)),
        architectures.Stage("fc6", 8, towers=2, ops=("relu", "dropout")),
        architectures.Stage("fc7", 8, towers=2, ops=("relu", "dropout")),
        architectures.Stage("fc8", 5, ops=()),
    ),
)
QUIET = dataclasses.replace(TINY, dropout_rate=0.0)


def device(name):
    return name[-5:]


def graphs_of(step, batch):
    """Returns the graphs that ran for a step, one for each device."""
    context.context().enable_run_metadata()
    step(batch)
    metadata = context.context().export_run_metadata()
    context.context().disable_run_metadata()
    # Keras may have drawn a weight meanwhile.
    graphs = [graph for graph in metadata.partition_graphs if any(n.name.startswith("gradients/") for n in graph.node)]
    assert [{device(node.device) for node in graph.node} for graph in graphs] in (
        [{"CPU:0"}, {"CPU:1"}],
        [{"CPU:1"}, {"CPU:0"}],
    )
    return graphs


def count_kinds(graphs):
    """Returns how many operations of a kind ran on each device; oneDNN's names are made TensorFlow's."""
    kinds = collections.Counter(
        (re.sub("^_Mkl(Native)?(Fused)?|WithBias$|^_Fused", "", node.op), device(node.device))
        for graph in graphs
        for node in graph.node
    )
    return {kind: (kinds[kind, "CPU:0"], kinds[kind, "CPU:1"]) for kind, _ in kinds}


def crossing(graphs, step, batch):
    """Returns (from device, operation, shape) of every tensor that went from one device to the other."""
    graph = step._step.get_concrete_function(batch, tf.constant(0.0)).graph
    found = set()
    for node in (node for graph_def in graphs for node in graph_def.node if node.op in ("_Send", "_HostSend")):
        source, target = (device(node.attr[key].s.decode()) for key in ("send_device", "recv_device"))
        name = re.sub(r"^edge_\d+_", "", node.attr["tensor_name"].s.decode())
        if source != target and not name.startswith("GroupCrossDeviceControlEdges"):  # That carries no value.
            tensor = graph.get_operation_by_name(name).outputs[0]
            found.add((source, re.sub(r"towers(_\d+)?/", "", name), tuple(tensor.shape)))
    return found


# In each tower of the paper: the kernels of conv2 to fc7.
LARGE_WEIGHTS = {"towers": 0, "paper": 6}


# The paper's convolutions, dense layers that are large enough for the fused update, and five classes.
PAPER = narrow_dense(architectures.with_num_classes(architectures.PAPER, 5), 1024)


@pytest.mark.parametrize("row", [TOWERS, PAPER], ids=lambda row: row.name)
def test_split_computes_each_tower_on_its_device(row):
    step = make_step(row, "split", TWO, clip_norm=5.0)
    [batch] = step.batches(make_batches(row, 1))
    graphs = graphs_of(step, batch)

    kinds = count_kinds(graphs)
    convolutions = [stage for stage in row.stages if stage.kernel_size]
    towers, pools = len(row.stages) - 1, sum("pool" in stage.ops for stage in row.stages)
    norms, dense = sum("lrn" in stage.ops for stage in row.stages), towers - len(convolutions)
    dropouts = sum("dropout" in stage.ops for stage in row.stages)
    expected = {
        "Conv2D": 2 * (len(convolutions),),
        "Conv2DBackpropFilter": 2 * (len(convolutions),),
        "Conv2DBackpropInput": 2 * (len(convolutions) - 1,),
        "MaxPool": 2 * (pools,),
        "MaxPoolGrad": 2 * (pools,),
        "ReluGrad": 2 * (towers,),
        "StatelessRandomUniformV2": 2 * (dropouts,),
        "MatMul": (3 * dense + 3, 3 * dense),
        "SparseSoftmaxCrossEntropyWithLogits": (1, 0),
        # A kernel and a bias for each layer, and their momenta; the dropouts' counters; the optimizer's.
        "AssignVariableOp": (4 * (towers + 1) + dropouts + 1, 4 * towers + dropouts),
        # What XLA compiles: the normalisation, each LRN, both halves of its gradient, the update of each large weight.
        "PartitionedCall": (1 + 3 * norms + LARGE_WEIGHTS[row.name], 3 * norms + LARGE_WEIGHTS[row.name]),
    }
    assert {kind: kinds[kind] for kind in expected} == expected

    for variable in step.variables:  # Weights and momentum, and the dropouts' counters.
        is_second = re.search(r"(^|[/_])(conv\d|fc\d)_b[/_]", variable.path)
        assert device(variable.value.device) == ("CPU:1" if is_second else "CPU:0"), variable.path
    paths = [variable.path for variable in step.variables if device(variable.value.device) == "CPU:1"]
    assert sum("momentum" in path for path in paths) == 2 * towers and len(paths) == 4 * towers + dropouts


def test_split_sends_activations_where_the_architecture_says_so_and_nothing_else():
    step = make_step(TOWERS, "split", TWO, clip_norm=5.0)
    [batch] = step.batches(make_batches(TOWERS, 1))
    crossed = crossing(graphs_of(step, batch), step, batch)
    base = r"(?P<layer>[a-z]+\d?(?:_[ab])?(?:_[a-z]+)?)(?:_\d+)?/"
    tensors = set()
    for source, name, shape in crossed:
        if shape != ():
            layer = re.search(base, name.removeprefix("gradients/"))["layer"]
            tensors.add((source, "gradient" if name.startswith("gradients/") else "activation", layer, shape))
    a, b, maps = "CPU:0", "CPU:1", (8, 3, 3, 4)
    assert tensors == {
        (a, "activation", "normalize", (8, 67, 67, 3)),  # The second tower sees the images.
        (a, "activation", "conv2_a_pool", maps),
        (b, "activation", "conv2_b_pool", maps),  # Into conv3.
        (a, "activation", "conv4_a_relu", maps),
        (b, "activation", "conv4_b_relu", maps),  # Into fc6.
        (a, "activation", "fc6_a_dropout", (8, 4)),
        (b, "activation", "fc6_b_dropout", (8, 4)),  # Into fc7.
        (b, "activation", "fc7_b_dropout", (8, 4)),  # Into fc8.
        # Back from each of these, the other tower's half.
        (a, "gradient", "conv3_a_input", maps),
        (b, "gradient", "conv3_b_input", maps),
        (a, "gradient", "fc6_a_input", maps),
        (b, "gradient", "fc6_b_input", maps),
        (a, "gradient", "fc7_a_input", (8, 4)),
        (b, "gradient", "fc7_b_input", (8, 4)),
        (a, "gradient", "fc8_input", (8, 4)),
    }
    # All else is one number: tower b's share of the gradient's norm, and back the factor from it and the rates.
    scalars = {(source, name) for source, name, shape in crossed if shape == ()}
    assert sum(source == b for source, _ in scalars) == 2 * 6
    assert all(re.match(r"mul(_\d+)?$" if source == b else r"truediv|sgd/", name) for source, name in scalars)


def test_split_is_the_same_network_as_without():
    plain, split = make_step(TOWERS), make_step(TOWERS, "split", TWO)
    assert [layer.name for layer in split.model.layers] == [layer.name for layer in plain.model.layers]
    assert [(v.path, v.shape, v.dtype) for v in split.variables] == [
        (v.path, v.shape, v.dtype) for v in plain.variables
    ]
    images = rounds.random_batch(TOWERS, 4)[0]
    np.testing.assert_allclose(split.model(images), plain.model(images), rtol=1e-6)
    batches = make_batches(TOWERS, 1)
    found = []
    for step in (plain, split):
        [(images, labels)] = step.batches(batches)
        found.append(tf.function(step.differentiate)(images, labels))
    for got, expected in zip(tf.nest.flatten(found[1]), tf.nest.flatten(found[0]), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("precision", "frozen"),
    [
        ("float32", ()),
        ("mixed_bfloat16", ()),
        ("mixed_float16", ()),
        ("float32", ("conv1_a", "conv1_b", "conv2_a", "conv2_b")),
    ],
)
def test_ten_steps_of_the_split_with_dropout_are_those_of_one_device(precision, frozen):
    arguments = {"precision": precision, "frozen": frozen, "clip_norm": 0.5}
    step = make_step(TOWERS, **arguments)
    untrained = {variable.path: variable.numpy() for variable in step.variables}
    expected = train(step, make_batches(TOWERS, 10))
    got = train(make_step(TOWERS, "split", TWO, **arguments), make_batches(TOWERS, 10))
    assert_same(got, expected)
    assert expected[0][0][0] != expected[0][9][0]
    for name, array in got[1].items():
        if name.endswith("kernel"):
            assert np.array_equal(array, untrained[name]) == (name.split("/")[0] in frozen), name


def test_split_refuses_what_it_cannot_do():
    with pytest.raises(errors.UserError, match="--jit does not go with --strategy=split"):
        make_step(TOWERS, "split", TWO, jit=True)
    one = dataclasses.replace(
        TOWERS, stages=(*TOWERS.stages[:4], dataclasses.replace(TOWERS.stages[4], towers=1), *TOWERS.stages[5:])
    )
    with pytest.raises(
        errors.UserError, match="towers does not have two towers in every stage from conv1 to fc7.*These can: paper"
    ):
        make_step(one, "split", TWO)
    with pytest.raises(errors.UserError, match="--strategy=split: caffe does not have two towers"):
        make_step(architectures.CAFFE, "split", TWO)


def test_an_error_of_the_network_is_not_called_one_of_the_split():
    wrong = dataclasses.replace(TOWERS, stages=TOWERS.stages[::-1])
    with pytest.raises(ValueError) as caught:
        make_step(wrong)
    assert "split" not in str(caught.value)


@pytest.mark.parametrize(("clip_norm", "has_noise"), [(0.0, False), (0.05, False), (0.0, True)])
def test_mirrored_is_one_device_with_the_same_batch(clip_norm, has_noise):
    batches = make_batches(QUIET, 5, has_noise=has_noise)
    got = train(make_step(QUIET, "mirrored", TWO, clip_norm=clip_norm), batches)
    expected = train(make_step(QUIET, clip_norm=clip_norm), batches)
    assert_same(got, expected, rtol=1e-4, atol=1e-6)


def test_mirrored_drops_other_activations_in_each_replica_and_in_each_step():
    step = make_step(TINY, "mirrored", TWO)
    layer = step.model.get_layer("fc6_a_dropout")
    drop = tf.function(lambda: step.placement.strategy.run(lambda: layer(tf.ones((8, 100)), training=True)))
    masks = [mask.numpy() for _ in range(2) for mask in step.placement.strategy.experimental_local_results(drop())]
    assert len({mask.tobytes() for mask in masks}) == 4
    for mask in masks:
        assert abs((mask > 0).mean() - 0.5) < 0.1
    assert layer.iteration.numpy() == 2  # And not the replicas' sum.


def test_batches_are_divided_between_the_replicas_in_order():
    step = make_step(QUIET, "mirrored", TWO)
    (whole, _), *_ = make_batches(QUIET, 1)(0, 1)
    [(images, _)] = step.batches(make_batches(QUIET, 1))
    parts = step.placement.strategy.experimental_local_results(images)
    assert [part.shape[0] for part in parts] == [4, 4]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(errors.UserError, match="got 7. Use 6 or 8"):
        make_step(QUIET, "mirrored", TWO, batch_size=7)


def test_a_stop_is_heard_in_the_result():
    step = make_step(QUIET, "mirrored", TWO)
    [batch] = step.batches(make_batches(QUIET, 1))
    assert [float(step(batch, is_stop=each)[2]) for each in (False, True, False)] == [0, 2, 0]  # Of both replicas.


def test_mixed_float16_scales_the_loss_and_skips_a_step_that_overflows():
    step = make_step(QUIET, precision="mixed_float16")
    [batch] = step.batches(make_batches(QUIET, 1))
    step._optimizer.dynamic_scale.assign(1e30)
    before = [variable.numpy() for variable in step.model.trainable_variables]
    step(batch)
    assert all(np.array_equal(old, new) for old, new in zip(before, step.model.trainable_variables))
    assert step._optimizer.dynamic_scale.numpy() == pytest.approx(5e29)


WAYS = [(precision, jit) for precision in ("float32", "mixed_bfloat16", "mixed_float16") for jit in (False, True)]


# Each row in one way, in turn, and a small one in all: all of the 78 take five minutes.
@pytest.mark.parametrize(
    ("name", "precision", "jit"),
    [
        *((name, *WAYS[number % len(WAYS)]) for number, name in enumerate(architectures.ARCHITECTURES)),
        *(("tiny", *way) for way in WAYS),
    ],
)
def test_every_row_trains_in_every_precision_compiled_or_not(name, precision, jit):
    row = dataclasses.replace(NARROW.get(name, TINY), dropout_rate=0.0)  # XLA draws other numbers from the same seed.
    [batch] = make_batches(row, 1, batch_size=2)(0, 1)
    step = make_step(row, precision=precision, jit=jit, batch_size=2)
    images, labels = batch
    logits = make_step(row, batch_size=2).model(tf.cast(images, tf.float32), training=False)
    expected = np.mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    assert float(step(batch)[0]) == pytest.approx(expected, rel=1e-5 if precision == "float32" else 0.03)
    assert all(np.isfinite(variable.numpy()).all() for variable in step.variables)
