"""Do the documents' commands work? Runs each as it is written, on small synthetic data, in a process of its own.

    python tests/helpers/document_commands.py [part of a command]...

Prints a row for each command: its status, its wall time, the command; then those that were not run, with the reason. A
command that would take hours is shortened by the flags of `SHORTER`. It ends with status 1 if a command failed. All
take about 20 minutes on two cores. With parts of commands, those that contain one of them; some need what earlier ones
wrote, as "serve" needs "--formats=web".
"""

import glob
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

import numpy as np

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.helpers import caffe, cifar, command_lines  # noqa: E402

# What is added to commands that would take long otherwise. The last of two flags counts.
SHORTER = {
    "train": "--epochs=1",
    "reproduce figure1": "--epochs=1 --seeds=1",
    "reproduce lrn": "--epochs=1 --seeds=1",
    "reproduce ablations": "--epochs=1 --seeds=1",
    "benchmark input": "--rounds=1 --seconds=0.2",
    "benchmark train": "--rounds=1 --seconds=0.2 --batch_size=16 --nocompile",
    "benchmark infer": "--rounds=1 --seconds=0.2 --batch_size=16 --nocompile",
}

# Why a command is not run, by a part of it.
NOT_RUN = {
    "GPU:0": "needs two GPUs",
    "--strategy=split": "needs two GPUs (with --devices=CPU:0,CPU:1 it is run)",
    "--strategy=multi_worker": "needs several machines; tests/training/test_workers.py starts several processes",
    "--server=": "needs TensorFlow Serving; tests/exporting/test_serving_client.py answers in its place",
    "--budget=full": "520 epochs",
    "--pretrained=": "downloads weights; tests/weights/test_pretrained.py has a server of its own",
    "--network": "asks the servers of the weights",
    "--download": "downloads a data set",
}

# What the documents' placeholders stand for here.
WORDS = {"IMAGE...": "demo/val/rings/0001.jpg demo/val/dots/0002.jpg", "FOLDER": "demo/val/rings"}

# Runs of several names are one run here.
RUNS = (
    "runs/paper-demo",
    "runs/paper-flowers",
    "runs/flowers-tuned",
    "runs/frozen-0",
    "runs/frozen-1",
    "runs/frozen-2",
    "runs/f0",
    "runs/f1",
    "runs/t0",
    "runs/s0",
    "RUN2",
)


def prepare() -> None:
    """Writes what the documents take for granted into the working directory: images, weight files, a run."""
    import torch

    from alexnet_tf.data import synthetic

    synthetic.IMAGES_PER_CLASS = {"train": 20, "val": 13}
    for name in ("demo", "DIR", "flowers", "IMAGES"):
        synthetic.write_all(name)
    cifar.write_folders(pathlib.Path("CIFAR10"), cifar.synthetic())
    for line in (ROOT / "alexnet_tf/weights/imagenet_classes.txt").read_text().splitlines():
        if re.match(r"n\d{8} ", line):
            folder = pathlib.Path("ImageNet", line.split()[0])
            folder.mkdir(parents=True)
            os.link("demo/val/rings/0001.jpg", folder / "1.jpg")
            os.link("demo/val/dots/0001.jpg", folder / "2.jpg")
    rng = np.random.default_rng(0)

    def layers(shapes):
        return {
            name: (rng.normal(0, 0.01, shape).astype("float32"), np.zeros(shape[0], "float32"))
            for name, shape in shapes.items()
        }

    weights = layers(caffe.CAFFE_SHAPES)
    pathlib.Path("bvlc_alexnet.caffemodel").write_bytes(
        caffe.caffemodel_bytes(caffe.CAFFE_ORDER["caffe"] + caffe.REST, weights)
    )
    np.save("bvlc_alexnet_conv1.npy", weights["conv1"][0].transpose(2, 3, 1, 0))
    tensors = {
        f"{name}.{part}": torch.from_numpy(value)
        for name, both in layers(caffe.TORCHVISION_SHAPES).items()
        for part, value in zip(("weight", "bias"), both)
    }
    torch.save(tensors, "alexnet-owt-7be5be79.pth")
    command = "train --data_dir=DIR --epochs=1 --workdir=RUN"
    status, _, text = run(command.split())
    if status:
        sys.exit(f"{command}: {text}")
    pathlib.Path("runs").mkdir()
    for name in RUNS:
        os.symlink(os.path.abspath("RUN"), name)


def typed(name: str, arguments: list[str], number: int) -> list[str]:
    """Returns a command with small data in the place of its placeholders, and made shorter where it would take long."""
    words = [part for word in arguments for part in WORDS.get(word, word).split()]
    words = [part for word in words for part in (sorted(glob.glob(word)) if "*" in word else [word])]
    if name == "train":  # Each begins a run, whatever was run before.
        words = [word for word in words if not word.startswith("--workdir=")] + [f"--workdir=runs/new-{number}"]
    if "--workdir=runs/bvlc" in words:
        words = [word.replace("--data_dir=DIR", "--data_dir=ImageNet") for word in words]
    kind = " ".join([name, *words[:1]]) if name in ("benchmark", "reproduce") else name
    return [name, *words, *SHORTER.get(kind, "").split()]


def run(words: list[str]) -> tuple[int, float, str]:
    """Returns a command's exit status, wall time in seconds, and the last line that it printed."""
    script = ROOT / f"{words[0]}.py"
    command = [sys.executable, *([script] if script.exists() else ["-m", "alexnet_tf", words[0]]), *words[1:]]
    stdin = "".join(f"{path}\n" for path in glob.glob("demo/val/rings/*.jpg")) if words[-1] == "-" else ""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": os.getcwd(), "XDG_CACHE_HOME": "", "BROWSER": "true"},
        )
        if words[0] == "serve":
            status = visit(process, output)
        else:
            process.communicate(stdin)
            status = process.returncode
        output.seek(0)
        lines = output.read().split("\n")
    return status, time.perf_counter() - start, next((line for line in reversed(lines) if line.strip()), "")


def visit(process: subprocess.Popen, output) -> int:
    """Asks `serve` for its page as soon as it says where that is, ends it as Ctrl-C does, returns its exit status."""
    while process.poll() is None:
        output.seek(0)
        address = next((word for word in output.read().split() if word.startswith("http://")), None)
        if address:
            with urllib.request.urlopen(address.rstrip(".,;")) as page:
                assert b"<html" in page.read()
            process.send_signal(signal.SIGINT)
            return process.wait()
        time.sleep(0.2)
    return process.returncode


def main(*parts: str) -> None:
    """Runs the documents' commands, or those that contain one of the parts."""
    found = dict.fromkeys(
        (name, *arguments)
        for path in command_lines.DOCUMENTS
        for name, arguments in command_lines.commands(path.read_text(encoding="utf-8"))
    )
    chosen = [each for each in found if not parts or any(part in shlex.join(each) for part in parts)]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Commands of a background job would ignore it.
    left_out, failed = [], 0
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        prepare()
        for number, (name, *arguments) in enumerate(chosen):
            text = shlex.join([name, *arguments])
            reasons = [reason for each, reason in NOT_RUN.items() if each in text and "CPU:0" not in text]
            if reasons:
                left_out.append((text, reasons[0]))
                continue
            words = typed(name, arguments, number)
            status, seconds, last = run(words)
            failed += bool(status)
            print(
                f"{status or 'ok':>4}  {seconds:5.1f} s  {shlex.join(words)}" + (f"\n      {last}" if status else ""),
                flush=True,
            )
        os.chdir(ROOT)
    for text, reason in left_out:
        print(f"not run: {text}: {reason}")
    print(f"{len(chosen) - len(left_out)} run, {failed} failed, {len(left_out)} not run")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main(*sys.argv[1:])
