"""Tests of `transfer_learning`: what is frozen does not move by a bit, what is new differs, the rest is equal."""

import collections
import dataclasses
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.network import alexnet, architectures
from alexnet_tf.runs.config import MEAN_IMAGE, ImportedFile
from alexnet_tf.runs.directory import RunDirectory, load_model
from alexnet_tf.support import errors, plotting
from alexnet_tf.training import configure, reporter, train_step, trainer, transfer_learning
from alexnet_tf.weights import conversion
from tests.helpers import tiny_runs
from tests.helpers.files import prepared_folders
from tests.helpers.networks import TINY
from tests.helpers.stopping import signal_after

CONV = ("conv1_a", "conv1_b", "conv2_a", "conv2_b")
LAYERS = (*CONV, "fc6_a", "fc6_b", "fc8")


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    return prepared_folders(tmp_path_factory.mktemp("five"), "abcde", train=16, val=2)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    return prepared_folders(tmp_path_factory.mktemp("three"), "xyz", train=16, val=2)


def tiny_config(source=None, **changes):
    changes = {"initialization": "he", "clip_norm": 1.0, "init_from": source and str(source)} | changes
    return tiny_runs.tiny_config(**changes)


@pytest.fixture(scope="module")
def source(five, tmp_path_factory):
    """A trained run of five classes."""
    path = tmp_path_factory.mktemp("runs") / "source"
    trainer.train(tiny_config(), five, path)
    return path


def arrays_of(path, step=None):
    run = RunDirectory(path)
    if step is None:
        return run.read_checkpoint()[0]
    with np.load(run.path / "checkpoints" / f"{step:08d}.npz") as file:
        return {name: file[name] for name in file.files if name != "state.json"}


def weights_of(arrays, layers=LAYERS):
    return {f"{layer}/{kind}": arrays[f"{layer}/{kind}"] for layer in layers for kind in ("kernel", "bias")}


def same(a, b):
    return {name for name in a if a[name].tobytes() == b[name].tobytes()}


def start(train_config, data, path, monkeypatch):
    """Begins a run and kills it before its first step; returns the arrays of its first checkpoint."""

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(reporter.Reporter, "begin_epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            trainer.train(train_config, data, path)
    return arrays_of(path, 0)


def test_a_run_starts_with_the_sources_weights_and_a_fresh_optimizer(source, three, tmp_path, monkeypatch):
    before, first = arrays_of(source), start(tiny_config(source), three, tmp_path / "run", monkeypatch)
    kept = [layer for layer in LAYERS if layer != "fc8"]
    assert same(weights_of(before, kept), first) == set(weights_of(before, kept))
    assert first["fc8/kernel"].shape == (8, 3) and np.std(first["fc8/kernel"]) > 0
    momentum = [name for name in first if name.endswith("_momentum")]
    assert len(momentum) == 14 and not any(first[name].any() for name in momentum)
    assert all(before[name].any() for name in momentum if "fc8" not in name)  # The source's was not zero.
    assert first["sgd/iteration"] == 0 and first["fc6_a_dropout/iteration"] == 0 < before["fc6_a_dropout/iteration"]


def test_a_run_with_the_same_classes_keeps_the_last_layer_too(source, five, tmp_path, monkeypatch):
    before, first = arrays_of(source), start(tiny_config(source), five, tmp_path / "run", monkeypatch)
    assert same(weights_of(before), first) == set(weights_of(before))


def test_what_starts_anew_has_numbers_that_nothing_had(source, five, tmp_path, monkeypatch):
    train_config = tiny_config(source, reinitialize=("fc6_a", "fc6_b", "fc8"))
    before, first = arrays_of(source), start(train_config, five, tmp_path / "run", monkeypatch)
    row = architectures.with_initialization(TINY, "he")
    # The source's own start, which has the same seed, is no new start: its other layers were trained beside it.
    origin = {v.path: v.numpy() for v in alexnet.build_model(row, seed=3).variables}
    new = ["fc6_a/kernel", "fc6_b/kernel", "fc8/kernel"]
    values = [*(first[name] for name in new), *(before[name] for name in new), *(origin[name] for name in new)]
    flat = np.concatenate([value.ravel() for value in values])
    assert len(np.unique(flat)) >= len(flat) - 3  # Chance makes one pair equal; the same draw would make 600.
    assert not any(first[name.replace("kernel", "bias")].any() for name in new)  # He's rule has biases of zero.
    assert np.std(first["fc6_a/kernel"]) == pytest.approx(72**-0.5, rel=0.2) and np.std(
        first["fc8/kernel"]
    ) == pytest.approx(0.01, rel=0.4)
    assert same(weights_of(before, CONV), first) == set(weights_of(before, CONV))
    again = start(train_config, five, tmp_path / "again", monkeypatch)
    assert same(first, again) == set(first)
    third = start(tiny_config(tmp_path / "run", reinitialize=("fc8",)), five, tmp_path / "third", monkeypatch)
    assert np.intersect1d(third["fc8/kernel"], first["fc8/kernel"]).size <= 1


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_frozen_weights_do_not_move_by_a_bit_and_the_others_do(source, three, tmp_path, monkeypatch, precision):
    train_config = tiny_config(source, freeze=CONV, precision=precision, weight_decay=0.5)
    assert trainer.train(train_config, three, tmp_path / "run", on_step_end=signal_after(3)) is False
    assert trainer.train(train_config, three, tmp_path / "run") is True
    before, after = arrays_of(source), arrays_of(tmp_path / "run")
    assert same(weights_of(before, CONV), after) == set(weights_of(before, CONV))
    assert not any(np.array_equal(before[name], after[name]) for name in ("fc6_a/kernel", "fc6_b/kernel", "fc6_a/bias"))
    momentum = {name.removesuffix("_momentum").rpartition("/")[2] for name in after if name.endswith("_momentum")}
    assert momentum == {"fc6_a_kernel", "fc6_a_bias", "fc6_b_kernel", "fc6_b_bias", "fc8_kernel", "fc8_bias"}
    assert {name for name in after if "/kernel" in name or "/bias" in name} == {
        name for name in before if "/kernel" in name or "/bias" in name
    }


def test_a_tower_can_be_frozen_alone_and_a_middle_layer_too(source, five, tmp_path):
    trainer.train(tiny_config(source, freeze=("conv1_a", "fc6_b")), five, tmp_path / "run")
    before, after = arrays_of(source), arrays_of(tmp_path / "run")
    assert same(weights_of(before), after) == {
        f"{layer}/{kind}" for layer in ("conv1_a", "fc6_b") for kind in ("kernel", "bias")
    }


@pytest.mark.parametrize("freeze", [CONV, ()])
def test_a_run_resumed_in_mid_epoch_ends_with_the_same_bits(source, three, tmp_path, monkeypatch, freeze):
    train_config = tiny_config(source, freeze=freeze, new_layer_learning_rate_multiplier=10.0)
    trainer.train(train_config, three, tmp_path / "whole")
    for steps in (2, 5):  # Six steps an epoch.
        trainer.train(train_config, three, tmp_path / "parts", on_step_end=signal_after(steps))
    assert trainer.train(train_config, three, tmp_path / "parts") is True
    tiny_runs.assert_same_run(tmp_path / "parts", tmp_path / "whole")


def copied(path, tmp_path):
    return pathlib.Path(shutil.copytree(path, tmp_path / "source"))


def test_after_its_first_start_a_run_needs_its_source_no_more(source, three, tmp_path, monkeypatch):
    trainer.train(tiny_config(source, freeze=CONV, epochs=1), three, tmp_path / "reference")
    expected = arrays_of(tmp_path / "reference")
    copy = copied(source, tmp_path)
    train_config = tiny_config(copy, freeze=CONV, epochs=1)
    for name in ("changed", "gone"):
        start(train_config, three, tmp_path / name, monkeypatch)
    arrays, state = RunDirectory(copy).read_checkpoint()
    RunDirectory(copy).write_checkpoint(99, {name: array * 0 for name, array in arrays.items()}, state)
    assert trainer.train(train_config, three, tmp_path / "changed") is True
    shutil.rmtree(copy)
    assert trainer.train(train_config, three, tmp_path / "gone") is True
    for name in ("changed", "gone"):
        assert same(expected, arrays_of(tmp_path / name)) == set(expected), name
    model, run_config, _ = load_model(RunDirectory(tmp_path / "gone"))
    assert model.output_shape == (None, 3) and run_config.source.path == str(copy)


def test_another_source_in_the_same_place_is_refused(source, three, tmp_path, monkeypatch):
    trainer.train(tiny_config(source, epochs=1), three, tmp_path / "run")
    copy = copied(source, tmp_path)
    for other in (copy, None):
        with pytest.raises(errors.RunError, match="init_from: '.*source' in the run, "):
            trainer.train(tiny_config(other, epochs=1), three, tmp_path / "run")
    with pytest.raises(errors.RunError, match=r"freeze: \(\) in the run, \('conv1_a',\) now"):
        trainer.train(tiny_config(source, freeze=("conv1_a",), epochs=1), three, tmp_path / "run")


def test_the_input_comes_with_the_weights(five, three, tmp_path, monkeypatch):
    """A source that was trained with a mean image and He's scale, in a run whose initialisation has another scale."""
    run = RunDirectory(tmp_path / "source")
    config = tiny_config(resize="caffe")
    run_config = dataclasses.replace(configure.make_run_config(config, five), mean=MEAN_IMAGE)
    mean = np.random.default_rng(0).uniform(0, 255, (67, 67, 3)).astype("float32")
    model = alexnet.build_model(run_config.architecture, mean=mean, seed=1)
    run.write_mean_image(mean)
    run.write_config(run_config, five.class_names)
    run.write_checkpoint(7, {variable.path: variable.numpy() for variable in model.variables}, {"epoch": 1})
    assert transfer_learning.find_source(str(run), tmp_path / "run").resize == "caffe"
    train_config = tiny_config(run, initialization="source", learning_rate=0.0, epochs=1)
    trainer.train(train_config, five, tmp_path / "run")
    shutil.rmtree(tmp_path / "source")
    trainer.train(
        dataclasses.replace(train_config, recipe=dataclasses.replace(train_config.recipe, epochs=2)),
        five,
        tmp_path / "run",
    )
    tuned, _, _ = load_model(RunDirectory(tmp_path / "run"))
    images = np.random.default_rng(1).integers(0, 256, (3, 67, 67, 3)).astype("uint8")
    assert np.ptp(tuned(images).numpy()) > 0
    np.testing.assert_allclose(tuned(images), model(images), rtol=0, atol=1e-6)  # LRN in another form.


def test_new_weights_of_the_first_layer_fit_a_source_whose_pixels_are_not_divided(five, tmp_path, monkeypatch):
    run = RunDirectory(tmp_path / "source")
    run_config = configure.make_run_config(tiny_config(initialization="source"), five)
    model = alexnet.build_model(run_config.architecture, seed=1)
    run.write_config(run_config, five.class_names)
    run.write_checkpoint(7, {variable.path: variable.numpy() for variable in model.variables}, {"epoch": 1})
    first = start(tiny_config(run, reinitialize=CONV), five, tmp_path / "run", monkeypatch)
    assert np.std(first["conv1_a/kernel"]) == pytest.approx((2 / 363) ** 0.5 / 58, rel=0.1)
    assert np.std(first["conv2_a/kernel"]) == pytest.approx((2 / 100) ** 0.5 * 2**0.75, rel=0.1)


def test_a_run_of_imported_weights_is_a_source(five, three, tmp_path, monkeypatch):
    """Another scale and mean than the row's, as .caffemodel and .safetensors may bring them."""
    row = dataclasses.replace(TINY, scale=(0.5, 0.25, 0.125))
    model = alexnet.build_model(row, seed=1)
    run = RunDirectory(tmp_path / "imported")
    run.write_checkpoint(0, {v.path: v.numpy() for v in model.variables}, {"epoch": 0})
    run.write_config(
        conversion.make_run_config(row, [1.0, 2.0, 3.0], row.scale, list("abcde"), ImportedFile("x", "0")),
        list("abcde"),
    )
    trainer.train(tiny_config(run, freeze=LAYERS[:-1]), three, tmp_path / "run")
    tuned, _, _ = load_model(RunDirectory(tmp_path / "run"))
    normalize = tuned.get_layer("normalize")
    assert normalize.scale.tolist() == [0.5, 0.25, 0.125] and normalize.mean.tolist() == [1, 2, 3]
    for name in LAYERS[:-1]:
        np.testing.assert_array_equal(tuned.get_layer(name).kernel, model.get_layer(name).kernel)


def executed(graph):
    """Returns the operations of a function's graph that its outputs and assignments need: no others are run."""
    found, waiting = set(), [tensor.op for tensor in graph.outputs] + list(graph.control_outputs)
    while waiting:
        operation = waiting.pop()
        if operation not in found:
            found.add(operation)
            waiting += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
    return found


# Two towers of convolutions, conv1 with LRN, both with pools; fc6 in two towers; fc8. Forward, 4 and 3 products.
@pytest.mark.parametrize(
    ("freeze", "filters", "inputs", "fused", "pools", "products"),
    [
        ((), 4, 2, 4, 4, 3 + 2 + 4),
        (("conv1_a", "conv1_b"), 2, 0, 0, 2, 3 + 2 + 4),
        (("conv1_a",), 3, 1, 2, 3, 3 + 2 + 4),
        (("fc6_a", "fc6_b"), 4, 2, 4, 4, 3 + 2 + 2),
        (CONV, 0, 0, 0, 0, 3 + 2 + 2),
        (LAYERS[:-1], 0, 0, 0, 0, 3 + 1),
    ],
)
def test_nothing_is_computed_backwards_below_the_lowest_layer_that_learns(
    source, five, tmp_path, freeze, filters, inputs, fused, pools, products
):
    train_config = tiny_config(source, freeze=freeze)
    run_config = configure.make_run_config(
        train_config, five, transfer_learning.find_source(str(source), tmp_path / "run")
    )
    step = train_step.TrainStep(run_config.architecture, train_config)
    graph = step._step.get_concrete_function(
        (tf.TensorSpec([8, 67, 67, 3], tf.uint8), tf.TensorSpec([8], tf.int32)), tf.constant(0.0)
    ).graph
    counts = collections.Counter(operation.type for operation in executed(graph))
    assert counts["Conv2DBackpropFilter"] == filters and counts["Conv2DBackpropInput"] == inputs
    assert counts["Conv2D"] == 4
    # Forward the normalisation and two LRN are fused functions. LRN's gradient is two in each tower; these weights are
    # too small for a fused update.
    assert counts["StatefulPartitionedCall"] + counts["PartitionedCall"] == 3 + fused
    assert counts["MaxPoolGrad"] == pools and counts["MatMul"] == products
    if set(CONV) <= {*freeze}:  # Not even traced, so that it rests on no sgd of graphs.
        kinds = {operation.type for operation in graph.get_operations()}
        assert not kinds & {"Conv2DBackpropFilter", "Conv2DBackpropInput", "MaxPoolGrad"}


def test_a_run_multiplies_the_rate_of_its_new_layers_alone(source, three, tmp_path, monkeypatch):
    moved = {}
    for multiplier in (1.0, 0.0):
        path = tmp_path / str(multiplier)
        train_config = tiny_config(source, epochs=1, new_layer_learning_rate_multiplier=multiplier)
        first = start(train_config, three, path, monkeypatch)
        trainer.train(train_config, three, path)
        moved[multiplier] = set(weights_of(first)) - same(weights_of(first), arrays_of(path))
    assert moved[1.0] == set(weights_of(first)) and moved[0.0] == moved[1.0] - {"fc8/kernel", "fc8/bias"}


PAPER_LAYERS = architectures.PAPER.layer_names


@pytest.mark.parametrize(
    ("flags", "frozen", "new"),
    [
        ({}, [], []),
        ({"freeze": ["conv2", "conv1_b"]}, ["conv1_b", "conv2_a", "conv2_b"], []),
        ({"freeze_until": "conv5"}, PAPER_LAYERS[:10], []),
        ({"freeze": ["fc8"], "freeze_until": "conv1"}, [*PAPER_LAYERS[:2], "fc8"], []),
        ({"reinitialize": ["fc8", "fc7_a"]}, [], ["fc7_a", "fc8"]),
        ({"freeze_until": "conv5", "reinitialize": ["fc6", "fc7"]}, PAPER_LAYERS[:10], PAPER_LAYERS[10:14]),
    ],
)
def test_choose_layers(flags, frozen, new):
    assert transfer_learning.choose_layers(architectures.PAPER, **flags) == (tuple(frozen), tuple(new))


def test_choose_layers_in_a_row_without_towers():
    assert transfer_learning.choose_layers(architectures.UNGROUPED, freeze_until="conv2", reinitialize=["fc8"]) == (
        ("conv1", "conv2"),
        ("fc8",),
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"freeze": ["conv9"]}, "conv9 is not a layer of paper. It has: conv1, conv1_a, .*fc8"),
        ({"reinitialize": ["fc8_a"]}, "fc8_a is not a layer of paper. It has: conv1"),
        ({"freeze_until": "pool5"}, "freeze_until=pool5 is not a stage of paper. It has: conv1, conv2"),
        ({"freeze_until": "conv2_a"}, "freeze_until=conv2_a is not a stage"),
        ({"freeze_until": "fc8"}, "All layers of paper would be frozen.* Leave at least fc8 free"),
        ({"freeze": PAPER_LAYERS}, "All layers of paper would be frozen"),
        (
            {"freeze": ["fc7"], "reinitialize": ["fc7_b"]},
            r"fc7_b cannot be frozen: it is to start anew \(reinitialize\)",
        ),
    ],
)
def test_choose_layers_refuses(flags, message):
    with pytest.raises(transfer_learning.TransferError, match=message):
        transfer_learning.choose_layers(architectures.PAPER, **flags)


def test_a_last_layer_that_must_be_replaced_cannot_be_frozen(source, three, five, tmp_path):
    with pytest.raises(
        transfer_learning.TransferError, match="fc8 cannot be frozen: its weights are for the 5 classes of .*here are 3"
    ):
        trainer.train(tiny_config(source, freeze=("fc8",)), three, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()
    trainer.train(tiny_config(source, freeze=("fc8",), epochs=1), five, tmp_path / "run")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"architecture": "caffe"}, "architecture=caffe does not fit the weights of init_from=.*source, .* need tiny"),
        ({"mean": "image"}, "mean=image does not fit the weights of init_from=.*, which need pixel"),
    ],
)
def test_another_input_than_the_sources_is_refused(source, five, tmp_path, given, message):
    with pytest.raises(transfer_learning.TransferError, match=message):
        configure.decide({"init_from": str(source), **given}, five, tmp_path / "run")


def test_a_decided_run_has_the_sources_architecture_and_a_tenth_of_the_rate(source, five, tmp_path):
    given = {"init_from": str(source), "freeze_until": "conv1", "reinitialize": ("fc8",), "epochs": 4}
    config = configure.decide(given, five, tmp_path / "run")
    assert (config.architecture, config.initialization) == ("tiny", "he")
    assert (config.freeze, config.reinitialize) == (("conv1_a", "conv1_b"), ("fc8",))
    recipe = config.recipe
    assert (recipe.learning_rate, recipe.new_layer_learning_rate_multiplier, recipe.epochs) == (0.001, 10.0, 4)
    adam = configure.decide({**given, "optimizer": "adam"}, five, tmp_path / "run").recipe
    assert (adam.learning_rate, adam.new_layer_learning_rate_multiplier) == (pytest.approx(1e-5), 10.0)
    assert configure.decide({**given, "learning_rate": 0.1}, five, tmp_path / "run").recipe.learning_rate == 0.1


@pytest.mark.parametrize("name", ["freeze", "freeze_until", "reinitialize", "new_layer_learning_rate_multiplier"])
def test_what_needs_a_source_is_refused_without(name):
    value = {"freeze_until": "conv1", "new_layer_learning_rate_multiplier": 2.0}.get(name, ("conv1",))
    with pytest.raises(errors.UserError, match=f"{name} needs init_from"):
        configure.check({"architecture": "paper", name: value})


def test_find_source_says_what_is_wrong(tmp_path, source):
    (tmp_path / "bvlc_alexnet.caffemodel").write_bytes(b"")
    with pytest.raises(
        transfer_learning.TransferError, match=r"is a file.*\n  python -m alexnet_tf import_weights --source="
    ):
        transfer_learning.find_source(str(tmp_path / "bvlc_alexnet.caffemodel"), tmp_path / "run")
    with pytest.raises(errors.RunError, match="There is no run in .*nowhere"):
        transfer_learning.find_source(str(tmp_path / "nowhere"), tmp_path / "run")
    shutil.copy(source / "config.json", tmp_path / "config.json")
    with pytest.raises(transfer_learning.TransferError, match="has no checkpoint"):
        transfer_learning.find_source(str(tmp_path), tmp_path / "run")
    assert transfer_learning.find_source(f"{source}/", tmp_path / "run") == transfer_learning.find_source(
        str(source), tmp_path / "run"
    )


def test_a_run_says_what_comes_from_where(source, five, three, tmp_path, monkeypatch, capsys):
    start(
        tiny_config(source, freeze=("conv1_a", "conv1_b", "conv2_b"), new_layer_learning_rate_multiplier=10.0),
        three,
        tmp_path / "run",
        monkeypatch,
    )
    out = capsys.readouterr().out
    # conv1: 2 x (363 x 4 + 4); conv2: 2 x (100 x 4 + 4); fc6: 2 x (72 x 4 + 4); fc8: 8 x 3 + 3.
    assert (
        f"Weights: from {source} (last checkpoint, step 20); new: fc8 (3 classes instead of 5), at 10 times the "
        "rate; frozen: conv1, conv2_b (1,015 of 4,331 parameters learn)"
    ) in out
    assert f"Input: the mean colour and scale of {source}, which its weights were trained with, not those of" in out
    assert "Network: tiny, 4,331 parameters" in out
    renamed = dataclasses.replace(five, class_names=("v", "w", "x", "y", "z"))
    start(tiny_config(source), renamed, tmp_path / "renamed", monkeypatch)
    out = capsys.readouterr().out
    assert "step 20)\n" in out and "fc8 is kept: 5 classes as before, though of other names. --reinitialize=fc8" in out


def test_frozen_kernels_are_in_the_picture(source, tmp_path):
    model, _, _ = load_model(RunDirectory(source))
    expected = plotting.kernels_image(plotting.first_kernels(model))
    transfer_learning.freeze(model, CONV)
    np.testing.assert_array_equal(plotting.kernels_image(plotting.first_kernels(model)), expected)
