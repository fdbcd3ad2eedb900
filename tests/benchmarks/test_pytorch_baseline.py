"""Tests of `pytorch_baseline`: that PyTorch computes and trains the same network."""

import dataclasses

import numpy as np
import pytest

from alexnet_tf.benchmarks import rounds, tensorflow_workload
from alexnet_tf.network import alexnet, architectures, recipes, schedules
from tests.helpers.networks import TINY, narrow

torch = pytest.importorskip("torch")
pytorch_baseline = pytest.importorskip("alexnet_tf.benchmarks.pytorch_baseline")


def arrays_of(model):
    return {variable.path: variable.numpy() for variable in model.variables}


# Narrow networks with all that architectures have: towers that see both, LRN inside towers and across, spatial LRN,
# padding before and after, pooling that rounds up, convolutions without biases, the last stages as convolutions.
@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_logits_are_ours(name):
    architecture = architectures.with_initialization(narrow(architectures.ARCHITECTURES[name]), "he")
    model = alexnet.build_model(architecture)
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        if variable.path.endswith("bias"):
            variable.assign(rng.normal(0, 0.1, variable.shape))
    network = pytorch_baseline.build_network(architecture, arrays_of(model))
    images, _ = rounds.random_batch(architecture, 2)
    with torch.inference_mode():
        got = network.eval()(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    expected = model(images, training=False).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert np.ptp(expected) > 1e-4


@pytest.mark.parametrize("name", ["paper", "original2012", "caffe", "torchvision"])
def test_two_training_steps_are_ours(name):
    architecture = dataclasses.replace(narrow(architectures.ARCHITECTURES[name]), dropout_rate=0.0)
    # Two steps, so that momentum matters; rates and a decay at which they change much.
    recipe = recipes.Recipe(learning_rate=0.05, weight_decay=0.01, bias_learning_rate_multiplier=2.0, clip_norm=0.0)
    architecture = dataclasses.replace(architectures.with_initialization(architecture, "he"), recipe=recipe)
    step, ours = tensorflow_workload.make_step(architecture, 4, "float32")
    step.set_rates(schedules.Rates(0.05, 2.0, 1.0))

    def twin():
        return pytorch_baseline.build_network(architecture, arrays_of(step.model))

    before, network = twin(), twin().train()
    images, labels = map(torch.from_numpy, rounds.random_batch(architecture, 4))
    optimizer = pytorch_baseline.make_optimizer(network, recipe)
    theirs = pytorch_baseline.make_step(network, images.permute(0, 3, 1, 2), labels, optimizer)
    for _ in range(2):
        theirs()
        ours()
    for (path, got), expected, old in zip(network.named_parameters(), twin().parameters(), before.parameters()):
        change = (expected - old).abs().max().item()
        assert change > 1e-6, path
        found, wanted = ((each - old).detach().numpy() for each in (got, expected))
        np.testing.assert_allclose(found, wanted, atol=2e-3 * change, err_msg=path)


@pytest.fixture
def settings():
    """Puts back PyTorch's settings, which a workload makes for its process."""
    threads, config = torch.get_num_threads(), torch._inductor.config
    freezing = config.freezing
    yield
    torch.set_num_threads(threads)
    config.freezing = freezing


@pytest.mark.parametrize("is_training", [True, False])
def test_every_precision_runs_in_every_memory_format_and_compiled(is_training, tmp_path, monkeypatch, settings):
    np.savez(tmp_path / "weights.npz", **arrays_of(alexnet.build_model(TINY)))
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda network: compiled.append(network) or network)
    monkeypatch.setattr(pytorch_baseline.shutil, "which", lambda name: name)
    trials, facts = pytorch_baseline.make_workload(TINY, tmp_path, batch_size=2, is_training=is_training)
    names = ["float32", "bfloat16 autocast"] + ([] if is_training else ["bfloat16 weights"])
    ways = ("contiguous", "channels_last", "channels_last, compiled")
    assert set(trials) == {f"PyTorch {name}: {way}" for way in ways for name in names}
    assert all(trial(0.0) > 0 for trial in trials.values())
    assert len(compiled) == len(names) and torch._inductor.config.freezing != is_training
    assert f"PyTorch {torch.__version__} on cpu" in facts["machine"]


def test_step_computes_in_the_dtype_of_autocast():
    seen = []

    def network(images):
        seen.append((images @ images).dtype)
        return images

    images, labels = torch.ones(2, 2, requires_grad=True), torch.zeros(2, dtype=torch.int64)
    for autocast in (None, torch.bfloat16):
        pytorch_baseline.make_step(network, images, labels, torch.optim.SGD([images]), autocast)()
    assert seen == [torch.float32, torch.bfloat16]
