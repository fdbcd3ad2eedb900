"""Tests of `image_limit`: each command that reads images refuses large files, and reads them with the flag it names."""

import json
import re
import shutil

import pytest

from alexnet_tf.commands import cli
from alexnet_tf.data import prepare
from alexnet_tf.network import architectures
from alexnet_tf.support import image_limit
from tests.helpers import commands
from tests.helpers.networks import SMALL

# What each needs beside its images.
COMMANDS = {
    "train": [],
    "prepare": ["--data_dir=x", "--output_dir=x"],
    "evaluate": ["--workdir=x"],
    "predict": [],
    "features": ["--workdir=x", "--output=x"],
    "similar": ["--features=x"],
    "visualize": ["--workdir=x"],
    "export": ["--workdir=x"],
    "verify": ["--workdir=x"],
    "benchmark": [],
    "reproduce": [],
}


@pytest.fixture(autouse=True)
def _default_limit():
    yield
    image_limit.set_max_mb(image_limit.DEFAULT_MB)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_reads_images_takes_the_flag(name):
    cli.parse_command(name, [*COMMANDS[name], f"--max_image_mb={image_limit.LARGEST_MB}"])


@pytest.mark.parametrize("size", [256_000_001, 257_000_000, 2_000_000_000, 2_147_000_000])
def test_the_value_that_is_named_is_the_least_that_reads_the_file(size):
    with pytest.raises(OSError, match=f"the file has {size:,} bytes; at most 256,000,000 are read") as refusal:
        image_limit.check(size, "x.jpg")
    [value] = re.findall(r"--max_image_mb=(\d+) reads it$", refusal.value.strerror)
    image_limit.set_max_mb(int(value))
    image_limit.check(size, "x.jpg")
    image_limit.set_max_mb(int(value) - 1)
    with pytest.raises(OSError, match="--max_image_mb"):
        image_limit.check(size, "x.jpg")


def test_no_value_is_named_that_the_flag_does_not_take():
    with pytest.raises(OSError, match="at most 256,000,000 are read, and with --max_image_mb up to 2,147 MB"):
        image_limit.check(2_147_000_001, "x.jpg")


@pytest.fixture
def large(colours, tmp_path):
    """A training and a validation image of two classes, of 1.5 MB each: other bytes behind the end are no mistake."""
    for split in ("train", "val"):
        for name in ("red", "blue"):
            path = tmp_path / "large" / split / name / "0.jpg"
            path.parent.mkdir(parents=True)
            shutil.copy(colours / "train" / name / "0.jpg", path)
            with open(path, "ab") as file:
                file.truncate(1_500_000)
    return tmp_path / "large"


def call(name, *arguments):
    return commands.call("-m", "alexnet_tf", name, *arguments)


def test_predict_reads_a_large_file_with_the_flag_that_it_names(small_run, colours, large, monkeypatch):
    monkeypatch.setitem(architectures.ARCHITECTURES, "small", SMALL)
    arguments = [f"--workdir={small_run}", "--json", large / "val" / "red" / "0.jpg"]
    status, out, _ = call("predict", *arguments, "--max_image_mb=1")
    error = json.loads(out)["error"]
    assert (status, error) == (1, "the file has 1,500,000 bytes; at most 1,000,000 are read; --max_image_mb=2 reads it")
    status, out, _ = call("predict", *arguments, "--max_image_mb=2")
    small = call("predict", f"--workdir={small_run}", "--json", colours / "train" / "red" / "0.jpg")[1]
    assert status == 0 and json.loads(out)["classes"] == json.loads(small)["classes"]
    assert call("predict", *arguments)[0] == 0  # The limit of the call before is gone.


def test_the_processes_of_prepare_have_the_limit_too(large, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "_CHUNK_IMAGES", 1)  # Else one process would have nothing to do.
    status, _, err = call(
        "prepare", f"--data_dir={large}", f"--output_dir={tmp_path / 'out'}", "--processes=2", "--max_image_mb=1"
    )
    assert status == 1 and "at most 1,000,000 are read; --max_image_mb=2 reads it" in err
