"""Tests of `pytorch_baseline`: that PyTorch trains as we do, in every precision and memory format."""

import dataclasses

import numpy as np
import pytest

from alexnet_tf.benchmarks import model_throughput, worker_process
from alexnet_tf.network import alexnet, architectures, recipes
from tests.helpers.networks import TINY, narrow

torch = pytest.importorskip("torch")
pytorch_baseline = pytest.importorskip("alexnet_tf.benchmarks.pytorch_baseline")
pytorch_network = pytest.importorskip("alexnet_tf.benchmarks.pytorch_network")

QUIET = {
    name: dataclasses.replace(narrow(architecture), dropout_rate=0.0)
    for name, architecture in architectures.ARCHITECTURES.items()
}


def arrays_of(model):
    return {variable.path: variable.numpy() for variable in model.variables}


@pytest.mark.parametrize("name", ["paper", "original2012", "caffe", "torchvision"])
def test_two_training_steps_are_ours(name):
    row = architectures.with_initialization(QUIET[name], "he")
    network = pytorch_network.build_network(row)
    # Two steps, so that momentum matters; a rate at which they change much.
    row = dataclasses.replace(
        row,
        recipe=dataclasses.replace(
            row.recipe, learning_rate=0.05, weight_decay=0.01, bias_learning_rate_multiplier=1.0, clip_norm=0.0
        ),
    )
    step = model_throughput.make_step(row, 4, "float32")
    step.sgd.learning_rate = row.recipe.learning_rate
    start = arrays_of(step.model)
    pytorch_network.load_weights(network.train(), row, start)
    images, labels = worker_process.random_batch(row, 4)
    ours = model_throughput.train_call(step, row, 4)
    theirs = pytorch_baseline.make_step(
        pytorch_baseline.Precision(),
        network,
        torch.from_numpy(labels),
        torch.from_numpy(images).permute(0, 3, 1, 2),
        pytorch_baseline.make_optimizer(network, row.recipe),
    )
    for _ in range(2):
        theirs()
        ours()
    twin = pytorch_network.build_network(row)
    pytorch_network.load_weights(twin, row, arrays_of(step.model))
    before = pytorch_network.build_network(row)
    pytorch_network.load_weights(before, row, start)
    for (path, got), expected, old in zip(network.named_parameters(), twin.parameters(), before.parameters()):
        change = (expected - old).abs().max().item()
        assert change > 1e-6, path
        np.testing.assert_allclose(
            (got - old).detach().numpy(), (expected - old).detach().numpy(), atol=2e-3 * change, err_msg=path
        )


def test_biases_have_no_decay_and_their_own_rate():
    optimizer = pytorch_baseline.make_optimizer(
        pytorch_network.build_network(TINY), recipes.Recipe(bias_learning_rate_multiplier=2.0)
    )
    kernels, biases = optimizer.param_groups
    assert (kernels["weight_decay"], kernels["lr"], kernels["momentum"]) == (5e-4, 0.01, 0.9)
    assert (biases["weight_decay"], biases["lr"], biases["momentum"]) == (0, 0.02, 0.9)
    assert len(kernels["params"]) == len(biases["params"]) == 4


@pytest.mark.parametrize("is_training", [True, False])
def test_every_precision_runs_in_every_memory_format(is_training, tmp_path):
    np.savez(tmp_path / "weights.npz", **arrays_of(alexnet.build_model(TINY)))
    threads, precision = torch.get_num_threads(), torch.backends.fp32_precision
    workload = pytorch_baseline.make_workload(TINY, tmp_path, batch_size=2, is_training=is_training, is_compiled=False)
    names = ["float32", "bfloat16 autocast", "bfloat16 math"] + ([] if is_training else ["bfloat16", "float16"])
    assert list(workload.calls) == [f"{name}, {layout}" for layout in ("contiguous", "channels_last") for name in names]
    assert all(call(0.0) > 0 for call in workload.calls.values())
    assert workload.facts["version"] == torch.__version__ and workload.facts["threads"] == torch.get_num_threads()
    assert workload.facts["device"] == "cpu" and "left out" in workload.facts["data"]
    torch.set_num_threads(threads)
    torch.backends.fp32_precision = precision


def test_compiled_cases_are_one_of_each_precision(tmp_path, monkeypatch):
    np.savez(tmp_path / "weights.npz", **arrays_of(alexnet.build_model(TINY)))
    threads, compiled = torch.get_num_threads(), []
    monkeypatch.setattr(torch, "compile", lambda network: compiled.append(network) or network)
    monkeypatch.setattr(pytorch_baseline.shutil, "which", lambda name: name)
    monkeypatch.setattr(torch._inductor.config, "freezing", False)
    workload = pytorch_baseline.make_workload(TINY, tmp_path, batch_size=2, is_training=False, is_compiled=True)
    assert [name for name in workload.calls if name.endswith("compiled")] == [
        f"{name}, channels_last, compiled" for name in pytorch_baseline.precisions(False, "cpu")
    ]
    assert len(compiled) == 5 and torch._inductor.config.freezing and "in use" in workload.facts["data"]
    torch.set_num_threads(threads)


def test_precisions_on_a_gpu_have_tf32_in_place_of_bfloat16_math():
    assert set(pytorch_baseline.precisions(True, "cuda")) == {"float32", "bfloat16 autocast", "TF32 math"}
    assert pytorch_baseline.precisions(True, "cuda")["TF32 math"].math == "tf32"


def test_step_sets_the_precision_of_products_and_autocast():
    seen = []

    def network(images):
        seen.append((torch.backends.mkldnn.matmul.fp32_precision, (images @ images).dtype))
        return images

    before, images = torch.backends.fp32_precision, torch.ones(2, 2, requires_grad=True)
    for precision in pytorch_baseline.precisions(True, "cpu").values():
        pytorch_baseline.make_step(
            precision, network, torch.zeros(2, dtype=torch.int64), images, torch.optim.SGD([images])
        )()
    torch.backends.fp32_precision = before
    assert seen == [("ieee", torch.float32), ("ieee", torch.bfloat16), ("bf16", torch.float32)]
