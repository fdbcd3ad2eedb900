"""Tests of `training` on a small network: exact resume, refusals, and what a run says."""

import dataclasses
import functools
import math
import os
import signal
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.data import datasets, discovery, input_pipeline
from alexnet_tf.evaluation import metrics
from alexnet_tf.exporting import saved_model
from alexnet_tf.network import architectures, recipes
from alexnet_tf.runs.directory import RunDirectory, load_model, shutil
from alexnet_tf.support import devices, errors, processors
from alexnet_tf.training import configure, distribution, reporter, train_step, trainer
from tests.helpers.files import prepared_folders, write_folders
from tests.helpers.networks import SMALL, TINY
from tests.helpers.stopping import signal_after
from tests.helpers.tiny_runs import assert_same_run, final_arrays, history, tiny_config

SKIP = configure.RunOptions(on_bad_image="skip")


def test_chance_loss_is_the_entropy_of_the_classes():
    split = datasets.ImageFiles(("a", "b", "c", "d"), np.array([0, 0, 0, 1], "int32"))
    assert reporter.chance_loss(split, 2) == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    even = datasets.ImageFiles(("a",) * 1000, np.arange(1000, dtype="int32"))
    assert reporter.chance_loss(even, 1000) == pytest.approx(6.9078, abs=1e-4)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Forty training and ten validation images of five classes, prepared."""
    return prepared_folders(tmp_path_factory.mktemp("greys"), "abcde", train=8, val=2)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same in class folders."""
    return discovery.find_dataset(str(write_folders(tmp_path_factory.mktemp("folders"), "abcde", train=8, val=2)))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run of `tiny_config()` that nothing has interrupted."""
    trainer.train(tiny_config(), data, path := tmp_path_factory.mktemp("runs") / "whole")
    return path


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A complete run of one epoch, for tests that change nothing in it."""
    trainer.train(tiny_config(epochs=1), data, path := tmp_path_factory.mktemp("runs") / "finished")
    return path


def test_train_resumed_in_mid_epoch_ends_with_the_same_bits(data, whole, tmp_path):
    assert trainer.train(tiny_config(), data, tmp_path / "parts", on_step_end=signal_after(3)) is False
    state = RunDirectory(tmp_path / "parts").read_checkpoint()[1]
    assert (state["epoch"], state["step"]) == (0, 3)
    # Two steps of the first epoch are left: stops in the second.
    trainer.train(tiny_config(), data, tmp_path / "parts", on_step_end=signal_after(4))
    assert trainer.train(tiny_config(), data, tmp_path / "parts") is True
    assert_same_run(tmp_path / "parts", whole)


def test_train_history_has_the_stated_columns(finished):
    [row] = history(finished, dropped=())
    assert list(row) == [
        "epoch",
        "step",
        "learning_rate",
        "train_loss",
        "train_top1_error",
        "val_loss",
        "val_top1_error",
        "val_top5_error",
        "images_per_second",
    ]
    assert row["val_top5_error"] == "" and row["step"] == "5"  # Five classes: top-5 says nothing.


def test_train_on_a_complete_run_does_nothing_and_more_epochs_go_on(data, tmp_path, capsys):
    trainer.train(tiny_config(epochs=1), data, tmp_path / "run")
    before = final_arrays(tmp_path / "run")
    trainer.train(tiny_config(epochs=1), data, tmp_path / "run")
    assert "is complete" in capsys.readouterr().out
    after = final_arrays(tmp_path / "run")
    assert all(np.array_equal(before[name], after[name]) for name in before)
    trainer.train(tiny_config(epochs=2), data, tmp_path / "run")
    assert [row["epoch"] for row in history(tmp_path / "run")] == ["1", "2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "seed: 3 in the run, 4 now"),
        ({"architecture": "paper"}, "architecture: 'tiny' in the run, 'paper' now"),
        (
            {"recipe": recipes.Recipe(batch_size=4)},
            "recipe.batch_size: 8 in the run, 4 now(.|\n)*--init_from=.*a fresh",
        ),
    ],
)
def test_train_refuses_another_run(data, finished, change, message):
    with pytest.raises(errors.RunError, match=message):
        trainer.train(dataclasses.replace(tiny_config(epochs=1), **change), data, finished)


def test_train_refuses_other_classes_and_other_images(data, finished):
    run = tiny_config(epochs=1)
    renamed = dataclasses.replace(data, class_names=tuple("vwxyz"))
    with pytest.raises(errors.RunError, match=r"data.classes: \('a', 'b'.* in the run, \('v', 'w'"):
        trainer.train(run, renamed, finished)
    train = data.splits["train"]
    fewer = train.subset(np.arange(1, len(train)))
    with pytest.raises(errors.RunError, match="data.images.train: 40 in the run, 39 now") as error:
        trainer.train(run, dataclasses.replace(data, splits=data.splits | {"train": fewer}), finished)
    assert f"data: files of {data.directory} were added, removed or changed\n" in str(error.value)
    assert f"With --init_from={finished} and another --workdir" in str(error.value)
    assert "fingerprint" not in str(error.value)


def test_train_that_diverges_names_the_step_and_keeps_the_checkpoint(data, tmp_path):
    run = tiny_config(epochs=3, learning_rate=1e12)
    with pytest.raises(configure.TrainingError, match=r"at step \d+.*: the run has diverged.*--learning_rate=3.3e\+11"):
        trainer.train(run, data, tmp_path / "run")
    assert all(
        np.isfinite(array).all() for array in (RunDirectory(tmp_path / "run").read_checkpoint() or [{}])[0].values()
    )


def spoiled(data, split, places, tmp_path):
    """Returns the data with files in some places of a split that cannot be read, and the files."""
    paths = list(data.splits[split].paths)
    for place in places:
        paths[place] = str(tmp_path / f"bad {place}.jpg")
        tf.io.write_file(paths[place], b"\xff\xd8\xff\xe0 and nothing more")
    changed = dataclasses.replace(data.splits[split], paths=tuple(paths))
    return dataclasses.replace(data, splits=data.splits | {split: changed}), [paths[place] for place in places]


@pytest.mark.parametrize("is_first", [False, True])
def test_train_names_an_image_that_cannot_be_read(folders, tmp_path, is_first):
    batch = input_pipeline.batch_indices(
        folders.splits["train"], tiny_config().recipe, seed=3, epoch=0, step=0 if is_first else 3
    )
    bad_data, [bad] = spoiled(folders, "train", batch[:1], tmp_path)
    with pytest.raises(
        errors.DataError, match=rf"cannot be read: {bad}: .*\nRemove or replace it.*--on_bad_image=skip"
    ):
        trainer.train(tiny_config(), bad_data, tmp_path / "run")


def test_train_skips_what_cannot_be_read_as_if_the_next_image_stood_there(folders, tmp_path, capsys):
    train = folders.splits["train"]
    order = [input_pipeline.batch_indices(train, tiny_config().recipe, seed=3, epoch=0, step=step) for step in range(5)]
    places = [order[0][2], order[3][0], order[3][7], (order[3][7] + 1) % 40]
    bad_data, bad = spoiled(folders, "train", places, tmp_path)
    assert trainer.train(tiny_config(), bad_data, tmp_path / "skipped", options=SKIP)
    out = capsys.readouterr().out
    assert [out.count(f"Skipped: {path}: ") for path in bad] == [1] * 4

    # The oracle: data in which the next readable image and its label really stand in those places.
    paths, labels = list(train.paths), train.labels.copy()
    for place in places:
        stand_in = next(i % 40 for i in range(place, place + 40) if i % 40 not in places)
        paths[place], labels[place] = train.paths[stand_in], train.labels[stand_in]
    stand_ins = datasets.ImageFiles(tuple(paths), labels)
    repaired = dataclasses.replace(folders, splits=folders.splits | {"train": stand_ins})
    trainer.train(tiny_config(), repaired, tmp_path / "repaired")
    assert_same_run(tmp_path / "skipped", tmp_path / "repaired")


def test_train_that_skips_resumes_with_the_same_bits(folders, tmp_path):
    train = folders.splits["train"]
    places = [
        input_pipeline.batch_indices(train, tiny_config().recipe, seed=3, epoch=0, step=step)[1] for step in (1, 3)
    ]
    bad_data, _ = spoiled(folders, "train", places, tmp_path)
    trainer.train(tiny_config(), bad_data, tmp_path / "whole", options=SKIP)
    for steps in 2, 2:  # Between the two images, and after both.
        assert not trainer.train(
            tiny_config(), bad_data, tmp_path / "parts", options=SKIP, on_step_end=signal_after(steps)
        )
    trainer.train(tiny_config(), bad_data, tmp_path / "parts", options=SKIP)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


def test_train_skips_in_the_validation_too_and_says_so_once(folders, tmp_path, capsys):
    bad_data, [bad] = spoiled(folders, "val", [4], tmp_path)
    with pytest.raises(errors.DataError, match="--on_bad_image=skip"):
        trainer.train(tiny_config(), bad_data, tmp_path / "run")
    trainer.train(tiny_config(), bad_data, tmp_path / "run", options=SKIP)
    assert capsys.readouterr().out.count(f"Skipped: {bad}: ") == 1
    measured = {float(row["val_top1_error"]) for row in history(tmp_path / "run")}
    assert all((error * 9) == pytest.approx(round(error * 9)) for error in measured)


def test_train_uses_the_statistics_of_prepared_data(folders, tmp_path):
    statistics = datasets.Statistics(
        (1.0, 2.0, 3.0),
        np.arange(256 * 256 * 3, dtype="float32").reshape(256, 256, 3),
        (4.0, 5.0, 6.0),
        ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    )
    prepared = dataclasses.replace(folders, statistics=statistics)
    run_config = configure.make_run_config(tiny_config(), prepared)
    assert run_config.mean == (1.0, 2.0, 3.0)
    assert run_config.colour_pca.stdevs == (4.0, 5.0, 6.0)
    assert np.array_equal(run_config.colour_pca.vectors, np.eye(3))
    plain = configure.make_run_config(tiny_config(), folders)
    assert plain.mean == architectures.IMAGENET_MEAN and plain.colour_pca.stdevs == architectures.IMAGENET_PCA_STDEVS

    with_image = dataclasses.replace(tiny_config(epochs=1), mean="image")
    trainer.train(with_image, prepared, tmp_path / "run")
    model, _, _ = load_model(RunDirectory(tmp_path / "run"))
    np.testing.assert_array_equal(model.get_layer("normalize").mean, statistics.mean_image[94:161, 94:161])
    with pytest.raises(configure.TrainingError, match="alexnet_tf prepare --data_dir="):
        trainer.train(with_image, folders, tmp_path / "other")


def test_train_compiled_by_xla_trains_as_without_and_is_not_promised_to_be_deterministic(data, tmp_path):
    run = dataclasses.replace(tiny_config(), jit=True)
    with pytest.raises(configure.TrainingError, match="--jit does not go with --deterministic"):
        trainer.train(run, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.MonkeyPatch.context() as patch:  # XLA draws other numbers from the same seed.
        patch.setitem(architectures.ARCHITECTURES, "tiny", dataclasses.replace(TINY, dropout_rate=0.0))
        trainer.train(dataclasses.replace(run, deterministic=False), data, tmp_path / "run")
        trainer.train(dataclasses.replace(run, deterministic=False, jit=False), data, tmp_path / "plain")
    assert_same_arrays(final_arrays(tmp_path / "run"), final_arrays(tmp_path / "plain"), rtol=1e-3, atol=1e-5)


def test_train_says_when_the_loss_is_stuck(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(reporter, "is_stuck", lambda loss, chance, steps: True)
    trainer.train(tiny_config(epochs=1), data, tmp_path / "run")
    out = capsys.readouterr().out
    assert "The loss is stuck at" in out and "ln(5) = 1.609" in out and "--initialization=he" in out


@pytest.mark.parametrize(
    ("loss", "steps", "stuck"),
    [(1.609, 100, True), (1.60, 500, True), (1.609, 99, False), (1.5, 500, False), (2.5, 500, False)],
)
def test_is_stuck_at_ln_classes(loss, steps, stuck):
    assert reporter.is_stuck(loss, math.log(5), steps) is stuck


def test_train_learns_colours(folders, tmp_path):
    run = dataclasses.replace(tiny_config(epochs=8, learning_rate=0.02, clip_norm=1.0), initialization="he")
    trainer.train(run, folders, tmp_path / "run")
    rows = history(tmp_path / "run")
    assert float(rows[-1]["train_loss"]) < 0.8 * float(rows[0]["train_loss"])


@pytest.mark.parametrize("minutes", [10, 0])
def test_a_loss_that_is_not_finite_is_named_with_its_step_before_a_checkpoint(data, tmp_path, monkeypatch, minutes):
    results = iter([[1.0, 0, 0], [math.nan, 0, 0], [math.nan, 0, 0], [1.0, 0, 0], [1.0, 0, 0]])
    monkeypatch.setattr(train_step.TrainStep, "__call__", lambda *_, **__: tf.constant(next(results)))
    with pytest.raises(configure.TrainingError, match=r"The loss is nan at step 2 \(epoch 1\): the run has diverged"):
        options = configure.RunOptions(checkpoint_minutes=minutes)
        trainer.train(tiny_config(), data, tmp_path / "run", options=options)
    assert RunDirectory(tmp_path / "run").steps() == ([] if minutes else [1])


def test_a_result_is_read_when_the_next_step_has_begun(data, finished, tmp_path, monkeypatch):
    events, step = [], train_step.TrainStep.__call__

    class Result:
        def __init__(self, result):
            self.result, self.number = result, sum("begin" in event for event in events) + 1
            events.append(f"begin {self.number}")

        def numpy(self):
            events.append(f"read {self.number}")
            return self.result.numpy()

    monkeypatch.setattr(train_step.TrainStep, "__call__", lambda *args, **kwargs: Result(step(*args, **kwargs)))
    trainer.train(tiny_config(epochs=1), data, tmp_path / "run")
    pairs = [[f"begin {number}", f"read {number - 1}"] for number in range(2, 6)]
    assert events == ["begin 1", *(event for pair in pairs for event in pair), "read 5"]
    assert_same_run(tmp_path / "run", finished)


def test_checkpoints_after_each_step_change_no_bit(data, finished, tmp_path):
    trainer.train(tiny_config(epochs=1), data, tmp_path / "run", options=configure.RunOptions(checkpoint_minutes=0))
    assert_same_run(tmp_path / "run", finished)


def test_train_stopped_by_a_signal_without_a_callback_stops_and_resumes_with_the_same_bits(
    data, whole, tmp_path, monkeypatch
):
    step, left = train_step.TrainStep.__call__, iter(range(2, -1, -1))

    def signalled(self, *args, **kwargs):
        if next(left, None) == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(train_step.TrainStep, "__call__", signalled)
    assert trainer.train(tiny_config(), data, tmp_path / "parts") is False
    assert RunDirectory(tmp_path / "parts").read_checkpoint()[1]["step"] == 3
    assert trainer.train(tiny_config(), data, tmp_path / "parts") is True
    assert_same_run(tmp_path / "parts", whole)


def test_train_that_gets_a_signal_before_the_first_step_does_none(data, tmp_path, monkeypatch, caplog):
    make_step = trainer._make_step

    def signalled(*args):
        os.kill(os.getpid(), signal.SIGINT)
        return make_step(*args)

    monkeypatch.setattr(trainer, "_make_step", signalled)
    assert trainer.train(tiny_config(), data, tmp_path / "run") is False
    assert RunDirectory(tmp_path / "run").steps() == []


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU])
def test_train_stops_when_a_batch_system_gives_notice(data, tmp_path, number):
    stop = signal_after(2, number)

    def stop_twice(state, step):  # A terminal that closes is heard from the system and from the shell.
        stop(state, step)
        if state.step == 2:
            os.kill(os.getpid(), number)

    assert trainer.train(tiny_config(), data, tmp_path / "run", on_step_end=stop_twice) is False
    assert RunDirectory(tmp_path / "run").read_checkpoint()[1]["step"] == 2
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_signal_that_is_ignored_or_handled_stays_so():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # As nohup starts a program.
    try:
        with trainer.StopSignal() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.number is None
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_train_goes_on_where_nothing_can_be_shown_any_more(data, tmp_path, monkeypatch):
    monkeypatch.setattr(reporter._LOGGER, "info", functools.partial(print, flush=True))  # As commands show the log.
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert trainer.train(tiny_config(epochs=1), data, tmp_path / "run") is True
        assert sys.stdout is full  # It can be closed now, as Python does at its end.
    [line] = (tmp_path / "run" / "messages.txt").read_text().splitlines()
    assert line.endswith("what is printed can no longer be shown (No space left on device). Training goes on.")


@pytest.mark.parametrize("limit, is_said", [(10_000, True), (10**10, False), (None, False)])
def test_train_says_that_a_container_is_too_small(data, tmp_path, monkeypatch, caplog, limit, is_said):
    monkeypatch.setattr(processors, "cgroup_memory", lambda: limit)
    trainer.train(tiny_config(epochs=1), data, tmp_path / "run")
    assert ("This container may use 0.0 GB of memory; weights," in caplog.text) == is_said


def test_train_on_a_disk_that_is_too_small_says_so_before_the_first_step(data, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=50_000))
    with pytest.raises(errors.RunError, match="0 MB free; the run needs .* MB: up to 3 checkpoints"):
        trainer.train(tiny_config(), data, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_train_whose_checkpoint_cannot_be_written_fails(data, tmp_path, monkeypatch):
    def full(*args):
        raise errors.RunError("No space left on device")

    monkeypatch.setattr(RunDirectory, "write_checkpoint", full)
    with pytest.raises(errors.RunError, match="No space left"):
        trainer.train(tiny_config(), data, tmp_path / "run")


def test_train_stopped_in_the_validation_goes_on_there(data, whole, tmp_path, monkeypatch):
    evaluate = metrics.evaluate

    def stopping(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(metrics, "evaluate", stopping)
        assert trainer.train(tiny_config(), data, tmp_path / "parts") is False
    state = RunDirectory(tmp_path / "parts").read_checkpoint()[1]
    assert (state["epoch"], state["step"]) == (0, 5)
    assert trainer.train(tiny_config(), data, tmp_path / "parts") is True
    assert_same_run(tmp_path / "parts", whole)


def test_train_with_auto_precision_resumes_with_the_runs(data, tmp_path, monkeypatch):
    run = dataclasses.replace(tiny_config(epochs=1), precision="auto")
    monkeypatch.setattr(devices, "default_precision", lambda devices: "mixed_bfloat16")
    trainer.train(run, data, tmp_path / "run")
    monkeypatch.setattr(devices, "default_precision", lambda devices: "float32")
    assert trainer.train(run, data, tmp_path / "run") is True
    assert RunDirectory(tmp_path / "run").read_config().train.precision == "mixed_bfloat16"


@pytest.mark.parametrize("schedule", ["steps", "cosine"])
def test_train_sets_the_rates_of_the_schedule(data, tmp_path, monkeypatch, schedule):
    recipe = dataclasses.replace(
        architectures.ORIGINAL2012.recipe,
        batch_size=8,
        epochs=4,
        schedule=schedule,
        learning_rate=1e-3,
        weight_decay=0,
        steps=((0.5, 0.1),),
        bias_steps=(),
        conv1_steps=((0.75, 0.0),),
    )
    seen = []

    def watch(state, step):
        made = step._optimizer
        seen.append([float(made.learning_rate), float(made._bias_multiplier), float(made._conv1_multiplier)])

    trainer.train(dataclasses.replace(tiny_config(), recipe=recipe), data, tmp_path / "run", on_step_end=watch)
    expected = {  # (kernels, biases over kernels, conv1 over the others) in the first step of each of the four epochs.
        "steps": [(1e-3, 2, 1), (1e-3, 2, 1), (1e-4, 20, 1), (1e-4, 20, 0)],
        "cosine": [(1e-3, 2, 1), (8.5355e-4, 2, 1), (5e-4, 2, 1), (1.46447e-4, 2, 1)],
    }[schedule]
    np.testing.assert_allclose(seen[::5], expected, rtol=1e-4)


TWO = ("CPU:0", "CPU:1")


def assert_same_arrays(got, expected, **tolerance):
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(got[name], array, err_msg=name, **tolerance)


# Each precision, and each number of devices: the two do not meet in what a checkpoint holds.
@pytest.mark.parametrize(
    ("strategy", "names", "precision", "optimizer"),
    [
        ("split", TWO, "float32", "sgd"),
        ("split", TWO, "float32", "adamw"),
        ("mirrored", TWO, "mixed_bfloat16", "sgd"),
        ("mirrored", TWO, "float32", "adam"),
        ("auto", (), "mixed_float16", "adamw"),
        ("auto", (), "float32", "adam"),
    ],
)
def test_train_resumes_with_the_same_bits_on_any_devices_in_any_precision(
    data, tmp_path, strategy, names, precision, optimizer
):
    run = tiny_config(precision, clip_norm=0.5, optimizer=optimizer, learning_rate=1e-3)
    placement = distribution.make_placement(configure.PlacementOptions(strategy, names))
    assert trainer.train(run, data, tmp_path / "whole", placement=placement)
    assert not trainer.train(run, data, tmp_path / "parts", placement=placement, on_step_end=signal_after(3))
    assert trainer.train(run, data, tmp_path / "parts", placement=placement)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")
    assert final_arrays(tmp_path / "parts")["fc6_a_dropout/iteration"] == 10


def test_train_goes_on_from_a_checkpoint_of_any_other_placement(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(architectures.ARCHITECTURES, "tiny", dataclasses.replace(TINY, dropout_rate=0.0))
    run = tiny_config(clip_norm=0.5)
    assert trainer.train(run, data, tmp_path / "plain")
    for strategy, names in (("split", TWO), ("mirrored", TWO), ("auto", ()), ("split", TWO[::-1])):
        trainer.train(
            run,
            data,
            tmp_path / "mixed",
            placement=distribution.make_placement(configure.PlacementOptions(strategy, names)),
            on_step_end=signal_after(3),
        )
    assert "is complete" not in capsys.readouterr().out  # The fourth did the last step.
    assert_same_arrays(final_arrays(tmp_path / "mixed"), final_arrays(tmp_path / "plain"), rtol=1e-4, atol=1e-6)


def test_a_run_on_two_devices_is_evaluated_and_exported_like_any_other(data, tmp_path, monkeypatch):
    monkeypatch.setitem(architectures.ARCHITECTURES, "tiny", SMALL)  # An export has the outputs of fc7.
    trainer.train(
        tiny_config(epochs=1),
        data,
        tmp_path / "run",
        placement=distribution.make_placement(configure.PlacementOptions("split", TWO)),
    )
    run = RunDirectory(tmp_path / "run")
    model, _, _ = load_model(run)
    assert {variable.value.device[-5:] for variable in model.variables} == {"CPU:0"}
    batches = input_pipeline.evaluation_batches(data.splits["val"], batch_size=4, image_size=67, resize="paper")
    found = metrics.evaluate(metrics.make_predictor(model), batches, 5)
    [row] = history(tmp_path / "run")
    assert found.loss == pytest.approx(float(row["val_loss"]), rel=1e-5)
    saved_model.publish(
        model,
        run.read_config().architecture,
        class_names=data.class_names,
        resize="paper",
        directory=tmp_path / "served",
    )
    [graph] = (tmp_path / "served").glob("**/saved_model.pb")
    assert b"CPU:1" not in graph.read_bytes()


def test_train_with_balanced_classes_weighs_each_class_alike_and_resumes_with_the_same_bits(folders, tmp_path):
    train = folders.splits["train"]
    # Class 0 has half as many images as the others.
    keep = np.flatnonzero((train.labels != 0) | (np.arange(len(train)) % 2 == 0))
    fewer = dataclasses.replace(train, paths=tuple(train.paths[i] for i in keep), labels=train.labels[keep])
    uneven = dataclasses.replace(folders, splits=folders.splits | {"train": fewer})
    assert trainer.balanced_class_weights(fewer, folders.class_names) == pytest.approx([36 / 20, *[36 / 40] * 4])
    config = dataclasses.replace(tiny_config(batch_size=4, epochs=1), class_weight="balanced")
    trainer.train(config, uneven, tmp_path / "whole")
    trainer.train(config, uneven, tmp_path / "parts", on_step_end=signal_after(3))
    trainer.train(config, uneven, tmp_path / "parts")
    assert_same_run(tmp_path / "parts", tmp_path / "whole")
    trainer.train(tiny_config(batch_size=4, epochs=1), uneven, tmp_path / "plain")
    assert history(tmp_path / "plain")[0]["train_loss"] != history(tmp_path / "whole")[0]["train_loss"]
    records = dataclasses.replace(train, labels=None)
    with pytest.raises(configure.TrainingError, match="prepare --data_dir=DIR --output_dir=OUT"):
        trainer.balanced_class_weights(records, folders.class_names)


@pytest.mark.parametrize(
    ("labels", "caveat"),
    [
        ([0, 1] * 10, "of 20 images only: one image more or less is 0.050"),
        ([0, 1] * 30, "without any image of 1 of the 3 classes"),
        ([0, 1, 2] * 20, ""),
    ],
)
def test_a_validation_split_that_says_little_is_named(labels, caveat):
    split = datasets.ImageFiles(("a",) * len(labels), np.array(labels, "int32"))
    assert reporter.validation_caveat(split, 3) == caveat


@pytest.mark.parametrize(
    ("num_images", "epochs", "expected"), [(72 * 64, 1, 10), (2934, 30, 100), (18 * 64, 1, 2), (8, 1, 1)]
)
def test_a_short_run_has_a_short_warm_up(num_images, epochs, expected):
    recipe = recipes.choose(recipes.Recipe(), {"epochs": epochs}, num_images=num_images, initialization="he")
    assert recipe.warmup_steps == expected


def test_a_run_that_goes_on_for_more_epochs_keeps_its_warm_up(data, tmp_path):
    def config(epochs):
        changes = {"batch_size": 8, "epochs": epochs}
        given = {"architecture": "tiny", "precision": "float32", **changes}
        return configure.decide(given, data, tmp_path / "run")

    trainer.train(config(1), data, tmp_path / "run")
    assert config(8).recipe.warmup_steps == config(1).recipe.warmup_steps == 1
    assert trainer.train(config(2), data, tmp_path / "run")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("sgd", 0.008, 5e-4)),
        ({"optimizer": "adam"}, ("adam", 1e-4, 0.0)),
        ({"optimizer": "adamw", "learning_rate": 0.5}, ("adamw", 0.5, 0.01)),
    ],
)
def test_an_optimizer_brings_its_own_rate_and_decay(data, tmp_path, given, expected):
    recipe = configure.decide(given, data, tmp_path / "run").recipe
    assert (recipe.optimizer, recipe.learning_rate, recipe.weight_decay) == expected
    assert recipe.clip_norm == 5.0


def test_a_value_that_cannot_be_is_refused_before_anything_is_read():
    with pytest.raises(errors.UserError, match="momentum must be at least 0 and at most 1; got 2"):
        configure.check({"momentum": 2.0})
    with pytest.raises(errors.UserError, match="optimizer must be one of sgd, adam, adamw.*; got 'rmsprop'"):
        configure.check({"optimizer": "rmsprop"})
