"""Tests of `torch_peer`: that PyTorch computes the same network, so that the comparison is one."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf import alexnet, architectures, errors, recipes
from alexnet_tf.benchmarks import model_throughput, worker_process
from tests.helpers.networks import TINY

torch = pytest.importorskip("torch")
torch_peer = pytest.importorskip("alexnet_tf.torch_peer")

# Narrow rows with all that rows have: towers that see both, LRN inside towers and across, spatial LRN, padding before and
# after, pooling that rounds up, convolutions without biases, the last stages as convolutions.
NARROW = {name: dataclasses.replace(row, stages=tuple(
    dataclasses.replace(stage, filters=10 if stage is row.stages[-1] else 16) for stage in row.stages))
    for name, row in architectures.ARCHITECTURES.items()}
QUIET = {name: dataclasses.replace(row, dropout_rate=0.0) for name, row in NARROW.items()}


def arrays_of(model):
    return {variable.path: variable.numpy() for variable in model.variables}


def both(row, seed=0):
    """Returns our model and PyTorch's network, with the same weights, whose logits are of unit size."""
    row = architectures.with_initialization(row, "he")
    model = alexnet.build_model(row, seed=seed)
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        if variable.path.endswith("bias"):
            variable.assign(rng.normal(0, 0.1, variable.shape))
    network = torch_peer.build_network(row)
    torch_peer.load_weights(network, row, arrays_of(model))
    return row, model, network


def channels_first(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2)


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_logits_are_ours(name):
    row, model, network = both(NARROW[name])
    images, _ = worker_process.random_batch(row, 2)
    with torch.inference_mode():
        got = network.eval()(channels_first(images)).numpy()
    expected = model(images, training=False).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert np.ptp(expected) > 1e-4


def test_logits_are_ours_at_full_width():
    row, model, network = both(architectures.PAPER)
    images, _ = worker_process.random_batch(row, 2)
    with torch.inference_mode():
        got = network.eval()(channels_first(images)).numpy()
    expected = model(images, training=False).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["paper", "original2012", "caffe", "torchvision"])
def test_two_training_steps_are_ours(name):
    row, _, network = both(QUIET[name])
    # Two steps, so that momentum matters; a rate at which they change much.
    row = dataclasses.replace(row, recipe=dataclasses.replace(
        row.recipe, learning_rate=0.05, weight_decay=0.01, bias_learning_rate_multiplier=1.0, clip_norm=0.0))
    step = model_throughput.make_step(row, 4, "float32")
    step.sgd.learning_rate = row.recipe.learning_rate
    start = arrays_of(step.model)
    torch_peer.load_weights(network.train(), row, start)
    images, labels = worker_process.random_batch(row, 4)
    ours = model_throughput.training_step(step, tf.constant(images), tf.constant(labels))
    theirs = torch_peer._training_step(
        torch_peer.Variant("float32", "contiguous"), network, channels_first(images), torch.from_numpy(labels),
        torch_peer.make_optimizer(network, row.recipe))
    for _ in range(2):
        theirs()
        ours()
    twin = torch_peer.build_network(row)
    torch_peer.load_weights(twin, row, arrays_of(step.model))
    before = torch_peer.build_network(row)
    torch_peer.load_weights(before, row, start)
    for (path, got), expected, old in zip(network.named_parameters(), twin.parameters(), before.parameters()):
        change = (expected - old).abs().max().item()
        assert change > 1e-6, path
        np.testing.assert_allclose(
            (got - old).detach().numpy(), (expected - old).detach().numpy(), atol=2e-3 * change, err_msg=path)


def test_biases_have_no_decay_and_their_own_rate():
    optimizer = torch_peer.make_optimizer(torch_peer.build_network(TINY), recipes.Recipe(bias_learning_rate_multiplier=2.0))
    kernels, biases = optimizer.param_groups
    assert (kernels["weight_decay"], kernels["lr"], kernels["momentum"]) == (5e-4, 0.01, 0.9)
    assert (biases["weight_decay"], biases["lr"], biases["momentum"]) == (0, 0.02, 0.9)
    assert len(kernels["params"]) == len(biases["params"]) == 4


def test_variants_are_every_precision_in_every_memory_format():
    training = {str(variant) for variant in torch_peer.variants(True, False)}
    assert training == {f"{precision}, {layout}" for precision in ("float32", "bfloat16 autocast", "bfloat16 math")
                        for layout in ("contiguous", "channels_last")}
    inference = {str(variant) for variant in torch_peer.variants(False, True)}
    assert training < inference
    assert {"float32, channels_last, compiled", "bfloat16, contiguous", "float16, channels_last"} < inference


@pytest.mark.parametrize("is_training", [True, False])
def test_every_variant_runs(is_training, tmp_path):
    model = alexnet.build_model(TINY)
    np.savez(tmp_path / "weights.npz", **arrays_of(model))
    threads = torch.get_num_threads()
    team = torch_peer.make_team(TINY, tmp_path, batch_size=2, is_training=is_training, is_compiled=False)
    assert set(team.calls) == {str(variant) for variant in torch_peer.variants(is_training, False)}
    assert all(call(0.0) > 0 for call in team.calls.values())
    assert team.facts["version"] == torch.__version__ and team.facts["threads"] == torch.get_num_threads()
    torch.set_num_threads(threads)


def test_dense_towers_that_see_their_own_are_refused():
    row = dataclasses.replace(TINY, stages=(
        *TINY.stages[:-1], architectures.Stage("fc7", 8, towers=2, input_towers="own"), TINY.stages[-1]))
    with pytest.raises(errors.UserError, match="fc7 of tiny: PyTorch has no dense layer in groups"):
        torch_peer.build_network(row)
