"""The commands as a user types them: train, kill, resume, evaluate, predict.

What is killed, and what must answer without TensorFlow, is a process of its own.
"""

import csv
import hashlib
import json
import os
import re
import signal
import socketserver
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf import commands as package_commands
from alexnet_tf.benchmarks import rounds
from alexnet_tf.commands import cli
from alexnet_tf.data import synthetic
from alexnet_tf.network import architectures
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import processors
from tests.helpers.commands import ROOT, call
from tests.helpers.networks import narrow_dense

CLASSES = ("dots", "rings")

# Dropout 0.5, the default recipe: 2 epochs of 4 steps.
FLAGS = ["--batch_size=8", "--epochs=2", "--seed=5", "--warmup_steps=2"]

# The paper's convolutions with fewer dense weights, still enough for the fused update of large weights.
UNITS = 128
NARROW_PAPER = f"""
import sys
from alexnet_tf.commands import cli
from tests.helpers import networks
networks.use_narrow_paper({UNITS})
sys.exit(cli.run_command("train", sys.argv[1:]))
"""


@pytest.fixture(scope="module", autouse=True)
def _narrow_paper():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(architectures.ARCHITECTURES, "paper", narrow_dense(architectures.PAPER, UNITS))
        yield


def start_training(*arguments):
    return subprocess.Popen(
        [sys.executable, "-u", "-c", NARROW_PAPER, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def call_process(*arguments):
    """Runs a command in a process of its own and returns (exit status, standard output, standard error)."""
    result = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=200)
    return result.returncode, result.stdout, result.stderr


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Drawn pictures of two classes as class folders, with the names that people give."""
    root = tmp_path_factory.mktemp("pictures")
    for split, count in (("train", 16), ("val", 5)):
        for name in CLASSES:
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                image = synthetic.draw(name, np.random.default_rng([split == "val", number]))
                (folder / f"a photo {number}.JPG").write_bytes(tf.io.encode_jpeg(image).numpy())
    return root


@pytest.fixture(scope="module")
def whole(pictures, tmp_path_factory):
    """A run that was never stopped, and what it printed."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    status, out, err = call("train.py", f"--data_dir={pictures}", f"--workdir={path}", *FLAGS)
    assert status == 0, out + err
    return path, out, err


def digest(path):
    """SHA-256 of each array in a run's last checkpoint: weights, momentum, iterations."""
    arrays, _ = RunDirectory(path).read_checkpoint()
    assert sum(array.nbytes for name, array in arrays.items() if name.startswith("sgd/")) > 1_000_000
    return {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in sorted(arrays.items())}


def history(path):
    with open(path / "history.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "images_per_second"} for row in csv.DictReader(file)]


def kill_while_writing(process, path):
    """Kills as soon as a half-written checkpoint of the process is there; others may be from before."""
    deadline = time.monotonic() + 100
    own = f".*.{process.pid}.tmp"
    while process.poll() is None and time.monotonic() < deadline:
        if list((path / "checkpoints").glob(own)):
            process.kill()
            process.wait()
            return list((path / "checkpoints").glob(own))  # Empty if it was renamed in that moment.
        time.sleep(0.001)
    return []


def kill_after_steps(process, path, steps=1):
    """Kills shortly after one more checkpoint, at a moment that nobody chose."""
    last, deadline = max(RunDirectory(path).steps(), default=0), time.monotonic() + 100
    while process.poll() is None and time.monotonic() < deadline:
        if max(RunDirectory(path).steps(), default=0) >= last + steps:
            time.sleep(float(np.random.default_rng().uniform(0, 0.3)))
            process.kill()
            return
        time.sleep(0.02)


def terminate_after_steps(process, path):
    deadline, last = time.monotonic() + 100, max(RunDirectory(path).steps(), default=0)
    while max(RunDirectory(path).steps(), default=0) == last and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)


def test_train_says_what_it_does_without_drowning_it(whole):
    _, out, err = whole
    for line in (
        "2 classes: dots, rings",
        "train: 32 images",
        "Epoch 2/2",
        "validation loss",
        "Next:",
        "python -m alexnet_tf evaluate --workdir=",
    ):
        assert line in out
    error, accuracy = map(float, re.search(r"validation loss [\d.]+, error ([\d.]+), accuracy ([\d.]+)", out).groups())
    assert error + accuracy == pytest.approx(1)
    assert len(err.splitlines()) <= 3, err


def test_train_killed_and_resumed_ends_with_the_same_bits(whole, pictures, tmp_path):
    path = tmp_path / "parts"
    command = [f"--data_dir={pictures}", f"--workdir={path}", "--checkpoint_minutes=0", *FLAGS]
    resumed, half_written = 0, 0
    stops = [terminate_after_steps, kill_while_writing, kill_after_steps]
    while stops:
        process, stop = start_training(*command), stops.pop()
        half_written += bool(stop(process, path))
        if stop is kill_while_writing and not half_written and process.returncode != 0:
            stops.append(stop)  # It was renamed in that moment.
        out, _ = process.communicate(timeout=100)
        resumed += "Resuming" in out
        assert process.returncode != 0 or "Done:" in out
        assert "Traceback" not in out, out
        if stop is terminate_after_steps and "Done:" not in out:
            assert "Stopped by SIGTERM; a checkpoint is written" in out and process.returncode == 130
    status, out, err = call("train.py", *command)
    assert status == 0, out + err
    assert resumed >= 2 and half_written >= 1
    assert digest(path) == digest(whole[0])
    assert history(path) == history(whole[0])


def test_train_in_anothers_place_is_refused(whole, pictures):
    status, _, err = call("train.py", f"--data_dir={pictures}", f"--workdir={whole[0]}", "--architecture=caffe", *FLAGS)
    assert status == 1 and "Traceback" not in err
    assert "architecture: 'paper' in the run, 'caffe' now" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train.py", "--data_dir=/nowhere/at/all"], "--data_dir=/nowhere/at/all does not exist"),
        (["train.py", "--dataset=imagenet2012"], "need --data_dir"),
        (["train.py", "--freeze=conv1"], "freeze needs init_from"),
        (["train.py", "paper"], "Unexpected arguments: paper"),
        (["-m", "alexnet_tf", "evaluate", "--workdir=/nowhere/at/all"], "There is no run in /nowhere/at/all. "),
        (["-m", "alexnet_tf", "inspect", "--diagram=x.pdf"], "got 'x.pdf'"),
        (["-m", "alexnet_tf", "predict", "--workdir=x"], "Give at least one image file"),
        (
            ["-m", "alexnet_tf", "predict", "x.jpg"],
            "Give one of --workdir=RUN, --pretrained=torchvision, or --server=HOST:PORT",
        ),
        (["-m", "alexnet_tf", "predict", "--server=localhost:1", "--ten_crop", "x.jpg"], "a server has one network"),
        (
            ["-m", "alexnet_tf", "features", "--workdir=/nowhere/at/all", "--output=x.h5"],
            "There is no run in /nowhere/at/all. ",
        ),
        (["-m", "alexnet_tf", "similar", "--features=README.md"], "Give at least one image file"),
        (
            ["-m", "alexnet_tf", "similar", "--features=README.md", "README.md"],
            "README.md cannot be read: it is damaged, or `features` did not write it",
        ),
        (["export.py", "--workdir=/nowhere/at/all"], "There is no run in /nowhere/at/all. "),
        (
            ["export.py", "--workdir=x", "--quantization=int4,int8"],
            "--quantization must be one of float32, float16, dynamic, int8; got 'int4'.",
        ),
    ],
)
def test_mistakes_end_in_a_line(arguments, message):
    status, _, err = call(*arguments)
    assert status == 1 and message in err


def test_train_goes_on_from_the_weights_of_another_run(whole, pictures, tmp_path):
    path = tmp_path / "tuned"
    status, out, err = call(
        "train.py",
        f"--data_dir={pictures}",
        f"--init_from={whole[0]}/",
        "--freeze_until=fc7",
        "--reinitialize=fc8",
        f"--workdir={path}",
        "--epochs=1",
        "--batch_size=8",
        "--new_layer_learning_rate_multiplier=5",
    )
    assert status == 0, out + err
    # fc8 has 128 x 2 + 2 parameters.
    assert (
        f"Weights: from {whole[0]} (last checkpoint, step 8); new: fc8, at 5 times the rate; frozen: conv1, "
        "conv2, conv3, conv4, conv5, fc6, fc7 (258 of 3,530,626 parameters learn)"
    ) in out
    before, after = (RunDirectory(each).read_checkpoint()[0] for each in (whole[0], path))
    weights = [name for name in before if name.endswith(("/kernel", "/bias"))]
    assert {name for name in weights if not np.array_equal(before[name], after[name])} == {"fc8/kernel", "fc8/bias"}
    status, _, err = call("train.py", f"--data_dir={pictures}", f"--init_from={whole[0]}", "--architecture=caffe")
    assert status == 1 and "architecture=caffe does not fit the weights of init_from=" in err and "Traceback" not in err


def test_evaluate_counts_every_image_once(whole):
    path, _, _ = whole
    status, out, err = call("-m", "alexnet_tf", "evaluate", f"--workdir={path}", "--json", "--batch_size=3")
    assert status == 0, err
    report = json.loads(out)
    assert report["examples"] == 10 and report["top5_error"] is None and report["crops"] == 1
    assert report["top1_error"] == pytest.approx(float(history(path)[-1]["val_top1_error"]))
    assert report["loss"] == pytest.approx(float(history(path)[-1]["val_loss"]), rel=1e-2)
    status, out, err = call(
        "-m", "alexnet_tf", "evaluate", f"--workdir={path}", "--split=train", "--ten_crop", "--checkpoint=best"
    )
    assert status == 0 and "train: 32 images, 10 crops each, best checkpoint" in out, out + err


def test_predict_names_classes_and_goes_on_after_a_bad_file(whole, pictures, tmp_path):
    path, _, _ = whole
    text = tmp_path / "notes.jpg"
    text.write_text("not an image")
    image = pictures / "val" / "dots" / "a photo 0.JPG"
    status, out, err = call(
        "-m",
        "alexnet_tf",
        "predict",
        f"--workdir={path}",
        "--json",
        str(text),
        str(tmp_path / "absent.png"),
        str(image),
    )
    assert status == 1, err
    first, second, third = map(json.loads, out.splitlines())
    assert first["error"].startswith("it is not an image of a known format") and first["file"] == str(text)
    assert "No such file" in second["error"]
    assert {each["name"] for each in third["classes"]} == set(CLASSES)
    assert sum(each["probability"] for each in third["classes"]) == pytest.approx(1, abs=1e-3)
    status, out, _ = call("-m", "alexnet_tf", "predict", f"--workdir={path}", str(text))
    assert status == 1 and out.startswith(f"{text}: not read: it is not an image")


def test_a_line_in_a_files_name_is_no_line_of_the_output(whole, pictures, tmp_path):
    bad = tmp_path / "a\nb.jpg:\n   1.0000  rings\x1b[31m"
    bad.write_text("no image")
    good, features = tmp_path / "b\n.jpg", tmp_path / "f.h5"
    good.write_bytes((pictures / "val" / "dots" / "a photo 0.JPG").read_bytes())
    assert call("-m", "alexnet_tf", "features", f"--workdir={whole[0]}", f"--output={features}", good)[0] == 0
    for name, options, count in (
        ("predict", [f"--workdir={whole[0]}"], 4),
        ("similar", [f"--features={features}"], 3),
        ("visualize", [f"--workdir={whole[0]}", f"--output={tmp_path}"], 2),
    ):
        status, out, _ = call("-m", "alexnet_tf", name, *options, bad, good)
        assert status == 1 and len(out.splitlines()) == count and "\x1b" not in out, out
        assert out.startswith(f"{tmp_path}/a\\nb.jpg:\\n   1.0000  rings\\x1b[31m: not read: it is not an image")


@pytest.mark.parametrize(
    "command",
    [
        ["train.py"],
        ["export.py"],
        ["-m", "alexnet_tf", "evaluate"],
        ["-m", "alexnet_tf", "predict"],
        ["-m", "alexnet_tf", "features"],
        ["-m", "alexnet_tf", "similar"],
    ],
)
def test_help_shows_the_flags(command):
    status, out, _ = call_process(*command, "--help")
    assert status == 0 and "--workdir:" in out and "absl" not in out.lower()


def test_the_door_lists_its_commands():
    status, out, _ = call_process("-m", "alexnet_tf")
    assert status == 0
    names = {*package_commands.NAMES}
    assert all(f"\n  {name} " in out for name in names)


@pytest.mark.parametrize(
    ("command", "hint"),
    [("evalute", " Did you mean evaluate?"), ("zzz", ""), ("--worrkdir=x", ""), ("\x1b[31m\ud800", "")],
)
def test_a_command_that_does_not_exist_is_a_usage_error(command, hint):
    status, out, err = call("-m", "alexnet_tf", command, "--workdir=x")
    assert (status, out) == (2, "")
    assert err == f"\nError: There is no command {command!r}.{hint}\nAll commands: python -m alexnet_tf --help\n"


def test_the_usage_errors_status_reaches_the_shell():
    assert call_process("-m", "alexnet_tf", "evalute")[0] == 2


def test_features_and_similar_work_on_a_run(whole, pictures, tmp_path):
    file, grid = tmp_path / "f.h5", tmp_path / "grid.png"
    status, out, err = call("-m", "alexnet_tf", "features", f"--workdir={whole[0]}", "--layer=fc7", f"--output={file}")
    assert status == 0 and "fc7_a_relu and fc7_b_relu, 128 numbers an image" in out and "Traceback" not in err, (
        out + err
    )
    with h5py.File(file) as arrays:
        assert arrays["features"].shape == (32, UNITS) and arrays["classes"].asstr()[:].tolist() == list(CLASSES)
    queries = [str(pictures / "val" / "rings" / "a photo 1.JPG"), str(tmp_path / "absent.png")]
    similar = ["-m", "alexnet_tf", "similar", f"--features={file}", *queries]
    status, out, err = call(*similar, "--json", "--top=3", f"--grid={grid}")
    assert status == 1, err
    first, second = map(json.loads, out.splitlines())
    assert (
        first["file"] == queries[0]
        and len(first["similar"]) == 3
        and set(first["similar"][0]) == {"file", "class_name", "distance"}
    )
    assert second == {"file": queries[1], "error": "No such file or directory"} and grid.read_bytes().startswith(
        b"\x89PNG"
    )
    status, out, _ = call(*similar)
    lines = out.splitlines()
    assert (
        status == 1
        and lines[0] == f"{queries[0]}:"
        and len(lines) == 8
        and lines[7].endswith("not read: No such file or directory")
    )
    assert lines[1].split()[0] == f"{first['similar'][0]['distance']:.2f}" and lines[1].endswith(
        first["similar"][0]["file"]
    )
    assert call("-m", "alexnet_tf", "similar", f"--features={file}", queries[1])[0] == 1


def test_export_writes_what_it_says(whole, monkeypatch):
    path, trained, _ = whole
    assert f"python export.py --workdir={path}" in trained
    status, out, err = call("export.py", f"--workdir={path}", "--quantization=dynamic")
    assert status == 0, out + err
    trained_in = json.loads((path / "config.json").read_text())["train"]["precision"]  # Depends on the processor.
    expected = "in float32" + ("" if trained_in == "float32" else f" (trained in {trained_in})")
    assert expected in out and "Compared on 10 images of" in out and len(err.splitlines()) <= 3, out + err
    report = json.loads((path / "export" / "report.json").read_text())
    assert [each["name"] for each in report["artifacts"]] == [
        "Keras model",
        "SavedModel",
        "TFLite dynamic, LRN convolution",
    ]
    for each in report["artifacts"]:
        assert f"| {each['name']} " in out and all(value > 0 for value in each["milliseconds"].values())
        every = f"{processors.available_cpus()} threads"
        assert set(each["milliseconds"]) == ({"1 thread", every} if "TFLite" in each["name"] else {every})
        assert each["path"] is None or (path / "export" / each["path"]).exists()
    assert report["artifacts"][1]["agreement"] == 1 and report["artifacts"][1]["difference"] < 1e-5
    assert report["artifacts"][1]["size_bytes"] <= 1.2 * report["artifacts"][0]["size_bytes"]


def test_pictures_and_logs_are_written(whole):
    path, _, _ = whole
    assert {"kernels.png", "confusion.png", "input.png", "kernels_start.npy"} == set(os.listdir(path / "pictures"))
    assert {"train", "validation"} == set(os.listdir(path / "tensorboard"))
    assert json.loads((path / "config.json").read_text())["train"]["deterministic"] is True


def test_predict_of_a_folder_is_csv_and_equals_evaluate(whole, pictures, tmp_path):
    path, _, _ = whole
    assert call("-m", "alexnet_tf", "evaluate", f"--workdir={path}", f"--predictions={tmp_path / 'e.csv'}")[0] == 0
    status, out, err = call(
        "-m", "alexnet_tf", "predict", f"--workdir={path}", f"--output={tmp_path / 'p.csv'}", pictures / "val"
    )
    assert status == 0 and "10 images" in out and "0 not read" in out, out + err
    evaluated, predicted = (
        list(csv.DictReader((tmp_path / name).read_text().splitlines())) for name in ("e.csv", "p.csv")
    )
    assert len(evaluated) == 10 and {line["label"] for line in evaluated} == set(CLASSES)
    best = {line["image"]: (line["predicted"], float(line["probability"])) for line in evaluated}
    assert {line["image"] for line in predicted} == set(best)
    for line in predicted:
        assert line["predicted"] == best[line["image"]][0] and not line["error"]
        assert float(line["probability"]) == pytest.approx(best[line["image"]][1], abs=0.01)


def test_visualize_draws_each_image_and_goes_on_after_a_bad_one(whole, pictures, tmp_path):
    path, _, _ = whole
    image, bad = pictures / "val" / "dots" / "a photo 0.JPG", tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    status, out, _ = call(
        "-m",
        "alexnet_tf",
        "visualize",
        f"--workdir={path}",
        f"--output={tmp_path}",
        "--class_name=rings",
        bad,
        image,
        image,
    )
    assert status == 1 and f"{bad}: not read: it is not an image" in out
    assert {each.name for each in tmp_path.glob("*.png")} == {"visualize-a photo 0.png", "visualize-a photo 0-2.png"}
    status, _, err = call("-m", "alexnet_tf", "visualize", f"--workdir={path}", "--class_name=ring", image)
    assert status == 1 and "--class_name=ring is not a class of" in err and "dots, rings" in err


def test_inspect_takes_a_run_or_an_architecture(whole, tmp_path):
    status, out, err = call("-m", "alexnet_tf", "inspect", f"--workdir={whole[0]}")
    assert status == 0 and "fc8" in out, err
    diagram = tmp_path / "caffe.svg"
    status, out, _ = call(
        "-m", "alexnet_tf", "inspect", "--architecture=caffe", "--num_classes=7", f"--diagram={diagram}"
    )
    assert status == 0 and f"Drawn: {diagram}" in out and diagram.read_text().startswith("<?xml")
    status, _, err = call("-m", "alexnet_tf", "inspect", f"--workdir={whole[0]}", "--architecture=caffe")
    assert status == 1 and "Give either --workdir or --architecture" in err


def test_benchmark_input_prints_its_cases(pictures, monkeypatch):
    monkeypatch.setattr(rounds, "SETTLE_SECONDS", 0.0)
    flags = [f"--data_dir={pictures}", "--batch_size=8", "--rounds=1", "--seconds=0.1", "--read_latency_ms=1"]
    status, out, err = call("-m", "alexnet_tf", "benchmark", "input", *flags)
    assert status == 0, err
    for line in ("The baseline pipeline reads", "| bare decode", "| the training input, from slow storage"):
        assert line in out


def test_serve_prints_the_address_and_ends_quietly(tmp_path, monkeypatch):
    (tmp_path / "export" / "web").mkdir(parents=True)
    (tmp_path / "export" / "web" / "index.html").write_text("a page")

    def interrupted(self, poll_interval=0.5):
        raise KeyboardInterrupt

    monkeypatch.setattr(socketserver.BaseServer, "serve_forever", interrupted)
    status, out, err = call("-m", "alexnet_tf", "serve", f"--workdir={tmp_path}", "--port=0", "--noopen")
    assert status == 0 and re.fullmatch(r"http://localhost:\d+/  \(Ctrl-C ends it\)\n", out), (out, err)


def test_ctrl_c_is_a_line(capsys):
    def interrupted():
        raise KeyboardInterrupt

    assert cli.report_mistakes(interrupted) == 130
    assert capsys.readouterr().err == "\nStopped.\n"
