"""Tests of `directory`: files appear whole or not at all, and a bad checkpoint never costs an older one."""

import contextlib
import csv
import dataclasses
import json
import os
import types

import keras
import numpy as np
import pytest

from alexnet_tf.runs import checkpoints
from alexnet_tf.runs.config import RunConfig, RunData, TrainConfig
from alexnet_tf.runs.directory import RunDirectory, shutil
from alexnet_tf.support import atomic_files, errors, processors


def arrays(value):
    return {"conv1/kernel": np.full((3, 4), value, "float32"), "sgd/iteration": np.int64(value)}


def write(run, *steps, best=None):
    for step in steps:
        run.write_checkpoint(step, arrays(step), {"epoch": step}, best if best is None or best <= step else None)


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "run")


def test_write_checkpoint_is_read_back_bit_for_bit(run):
    values = {"a/kernel": np.random.default_rng(0).normal(size=(5, 7)).astype("float32"), "a/step": np.int64(2**40)}
    run.write_checkpoint(3, values, {"epoch": 1, "loss": 0.1 + 0.2})
    read, state = run.read_checkpoint()
    assert state == {"epoch": 1, "loss": 0.1 + 0.2}
    assert read.keys() == values.keys()
    for name, value in values.items():
        assert read[name].dtype == value.dtype and np.array_equal(read[name], value)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
def test_write_whole_stopped_in_the_middle_leaves_what_was_there(tmp_path, error):
    def write(file):
        file.write(b"half")
        raise error

    (tmp_path / "a").write_bytes(b"before")
    with pytest.raises(errors.RunError if error is OSError else error):
        atomic_files.atomic_write(tmp_path / "a", write)
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"before"


def test_write_checkpoint_keeps_the_last_two_and_the_best(run):
    write(run, 1, 2, 3, 4, 5, best=2)
    assert run.steps() == [5, 4, 2] and run.best_step() == 2
    assert run.read_checkpoint()[1]["epoch"] == 5
    assert run.read_checkpoint("best")[1]["epoch"] == 2


def test_read_checkpoint_is_none_for_a_new_run(run):
    assert run.read_checkpoint() is None and run.read_config() is None and run.best_step() is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"PK\3\4" + bytes(200),
        lambda data: data.replace(b"\x00\x00\x40\x40", b"\x00\x00\x41\x40"),
    ],
)  # Truncated, empty, garbage, a flipped bit.
def test_read_checkpoint_falls_back_to_the_one_before_and_says_so(run, damage, capsys):
    write(run, 2, 3)
    path = run.path / "checkpoints" / "00000003.npz"
    damaged = damage(path.read_bytes())
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    read, state = run.read_checkpoint()
    assert state["epoch"] == 2 and read["sgd/iteration"] == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "00000003.npz cannot be read" in line and "the one before" in line


@pytest.mark.parametrize(
    ("which", "message"), [("last", "No checkpoint .* can be read"), ("best", "The best checkpoint .* cannot be read")]
)
def test_read_checkpoint_raises_when_none_can_be_read(run, which, message):
    write(run, 1, 2, best=1)
    for path in (run.path / "checkpoints").glob("*.npz"):
        path.write_bytes(b"no")
    with pytest.raises(errors.RunError, match=message):
        run.read_checkpoint(which)


def test_read_checkpoint_reads_only_what_is_wanted(run):
    write(run, 1)
    assert list(run.read_checkpoint(is_wanted="conv1/kernel".__eq__)[0]) == ["conv1/kernel"]


def test_locked_removes_what_a_killed_process_left(run):
    write(run, 1)
    for name in (".config.json.9.tmp", "checkpoints/.00000002.npz.99.tmp"):
        (run.path / name).write_bytes(b"half")
    with run.locked():
        assert sorted(os.listdir(run.path)) == [".lock", "checkpoints"]
    assert os.listdir(run.path / "checkpoints") == ["00000001.npz"]


def test_check_disk_space_counts_what_is_there(run, monkeypatch):
    write(run, 1)
    size = (run.path / "checkpoints" / "00000001.npz").stat().st_size
    for free, is_enough in ((3 * size, True), (3 * size - 1, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: types.SimpleNamespace(free=free))
        with contextlib.nullcontext() if is_enough else pytest.raises(errors.RunError, match="MB free; the run needs"):
            run.check_disk_space(size)


@pytest.mark.parametrize("content", ["[]", "{", '{"step": null}', '{"step": true}', "[" * 100_000, "7"])
def test_best_json_that_is_damaged_is_named(run, content):
    write(run, 1, 2, best=1)
    (run.path / "checkpoints" / "best.json").write_text(content)
    assert run.best_step() is None
    with pytest.raises(errors.RunError, match="or it or best.json is gone or damaged. Use --checkpoint=last"):
        run.read_checkpoint("best")


def test_write_config_round_trip_with_odd_class_names(run):
    names = ["tabby, cat", "naïve 犬", "a 'quoted' \"one\"", "🐱"]
    config = RunConfig(train=TrainConfig(seed=3), data=RunData(tuple(names)), image_size=227, mean=(1.0, 2.0, 3.0))
    run.write_config(config, names)
    assert run.class_names() == names
    assert run.read_config() == dataclasses.replace(config, cpus=processors.available_cpus())


def test_another_number_of_processors_is_said_when_a_run_goes_on(run, monkeypatch, caplog):
    run_config = RunConfig(train=TrainConfig(), data=RunData(classes=("a", "b")), image_size=67, mean=(1.0, 2.0, 3.0))
    run.write_config(run_config, run_config.data.classes)
    run.check_same_config(run_config)
    assert not caplog.messages
    monkeypatch.setattr(processors, "available_cpus", lambda: 999)
    run.check_same_config(run_config)
    [message] = caplog.messages
    assert message.endswith("goes on with 999: its numbers may round differently from here on.")


def test_read_mean_is_the_image_that_was_written_or_an_error(run):
    config = RunConfig(TrainConfig(), RunData(("a", "b")), 9, "mean_image.npz")
    mean = np.random.default_rng(0).uniform(0, 255, (9, 9, 3)).astype("float32")
    run.path.mkdir()
    run.write_mean_image(mean)
    np.testing.assert_array_equal(run.read_mean(config), mean)
    np.testing.assert_array_equal(np.load(run.path / "mean_image.npz")["mean_image"], mean)
    for wrong in (mean[1:], mean * np.inf):
        run.write_mean_image(wrong)
        with pytest.raises(errors.RunError, match="cannot be read: expected finite numbers of shape"):
            run.read_mean(config)
    (run.path / "mean_image.npz").write_bytes(b"no")
    with pytest.raises(errors.RunError, match="mean_image.npz cannot be read"):
        run.read_mean(config)


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text,
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text + "\n\r\n  \n",
        lambda text: text.removesuffix("\n"),
    ],
    ids=["as written", "BOM", "CRLF", "empty last lines", "no last line feed"],
)
def test_class_names_are_read_as_editors_leave_them(run, edit):
    names = ["tabby, cat", "two\u2028halves", "na\u00efve \u72ac"]
    run.write_config(RunConfig(TrainConfig(), RunData(tuple(names)), 227, (1.0, 2.0, 3.0)), names)
    path = run.path / "classes.txt"
    path.write_bytes(edit(path.read_text(encoding="utf-8")).encode())
    assert run.class_names() == names


@pytest.mark.parametrize("edit", [lambda names: names[:-1], lambda names: [*names, "d"], lambda names: []])
def test_class_names_of_another_number_name_the_file(run, edit):
    names = ["a", "b", "c"]
    run.write_config(RunConfig(TrainConfig(), RunData(tuple(names)), 227, (1.0, 2.0, 3.0)), edit(names))
    with pytest.raises(errors.RunError, match=r"classes.txt has \d lines, but the run has 3 classes"):
        run.class_names()


# Every field of config.json replaced by what it cannot be; and a file that is no config at all.
NAN = float("nan")
HOSTILE = [
    [],
    None,
    {},
    {"data": {}},
    {"data": {"classes": []}},
    {"data": {"classes": ["a", 1]}},
    {"train": {"architecture": "alexnet9"}},
    {"train": {"architecture": ["paper"]}},
    {"image_size": 0},
    {"image_size": 2**62},
    {"mean": [1, 2]},
    {"mean": "../mean_image.npz"},
    {"scale": [1]},
    {"train": {"initialization": "os.system"}},
    {"colour_pca": {"stdevs": [1]}},
    {"source": {"path": 3}},
    {"train": {"freeze": "conv1"}},
    {"train": {"precision": "float128"}},
    {"mean": [1, 2, NAN]},
    {"scale": [1, 2, NAN]},
    {"train": {"recipe": {"schedule": "x"}}},
    {"train": {"recipe": {"batch_size": 0}}},
    {"colour_pca": {"stdevs": [1.0] * 3, "vectors": []}},
]


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: json.dumps(change)[:40])
def test_read_config_that_is_hostile_names_the_file_and_what_is_wrong(run, change):
    content = RunConfig(TrainConfig(), RunData(("a", "b")), 227, (1.0, 2.0, 3.0)).to_json()
    run.path.mkdir()
    (run.path / "config.json").write_text(
        json.dumps(content | change if isinstance(change, dict) and change else change)
    )
    with pytest.raises(errors.RunError, match=r"config\.json cannot be read: .+"):
        run.read_config()


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"data":' * 100_000, '{"a": 1' + "0" * 5000 + "}", "NaN", "\udcff", '{"architecture": ']
)
def test_read_config_of_odd_text_names_the_file(run, text):
    run.path.mkdir()
    (run.path / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(errors.RunError, match=r"config\.json cannot be read: .+"):
        run.read_config()


def test_write_history_is_a_table(run):
    run.write_history([{"epoch": 1, "val_top5_error": None}, {"epoch": 2, "val_top5_error": 0.25}])
    with open(run.path / "history.csv", newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"epoch": "1", "val_top5_error": ""},
            {"epoch": "2", "val_top5_error": "0.25"},
        ]


def test_locked_refuses_a_second_training(run):
    with run.locked():
        with pytest.raises(errors.RunError, match="in use by another training"):
            with RunDirectory(run.path).locked():
                pass
    with run.locked():
        assert (run.path / ".lock").exists()


def test_restore_names_what_does_not_fit_and_assigns_nothing():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="fc8")], name="net")
    before = model.get_weights()
    good = {variable.path: np.ones(variable.shape, "float32") for variable in model.variables}
    with pytest.raises(errors.RunError, match=r"Missing: net/fc8/bias.*net/fc8/kernel: \(4, 2\).*\(3, 2\)"):
        checkpoints.restore(model.variables, {"net/fc8/kernel": np.ones((4, 2), "float32")})
    for now, then in zip(model.get_weights(), before, strict=True):
        assert np.array_equal(now, then)
    checkpoints.restore(model.variables, good)
    assert all((weight == 1).all() for weight in model.get_weights())


def test_mark_best_mends_what_a_kill_between_two_files_left(run):
    write(run, 1, 2, best=1)
    run.write_checkpoint(3, arrays(3), {"epoch": 3}, best_step=1)  # Killed before best.json named step 3.
    run.mark_best(3)
    assert run.best_step() == 3 and run.read_checkpoint("best")[1]["epoch"] == 3


def test_write_checkpoint_removes_later_ones_that_could_not_be_read(run):
    write(run, 100, 200, 300)
    (run.path / "checkpoints" / "00000300.npz").write_bytes(b"no")
    write(run, 250)
    assert run.steps() == [250, 200]


def test_a_mistyped_run_is_told_with_those_that_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.RunError, match="There is no run in runs/one. python.* train makes one."):
        RunDirectory("runs/one").existing_config()
    for name in ("two", "three"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.json").touch()
    for typed in ("runs/one", "runs", "one"):
        with pytest.raises(errors.RunError, match=f"There is no run in {typed}. Runs here: runs/three, runs/two."):
            RunDirectory(typed).existing_config()


def test_locked_says_when_the_directory_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.RunError, match="file cannot be written: File exists"):
        with RunDirectory(tmp_path / "file").locked():
            pass
