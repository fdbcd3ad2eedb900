"""Paths in remote storage are refused by every flag of every command, and never become a local folder called `gs:`."""

import os

import pytest
from absl import flags

from alexnet_tf import commands
from alexnet_tf.commands import cli, options
from alexnet_tf.data import discovery, prepare
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import atomic_files, errors
from tests.helpers.commands import ROOT, call

COMMANDS = commands.NAMES

# Flags with a text that is no path; every other flag of texts is taken for one.
NO_PATHS = {
    "dataset",
    "split",
    "server",
    "model_name",
    "host",
    "layer",
    "image_column",
    "label_column",
    "image_key",
    "label_key",
    "augmentations",
    "freeze",
    "freeze_until",
    "reinitialize",
    "devices",
    "formats",
    "quantization",
    "mean",
}


def path_flags(command):
    """Returns (names of the flags that take paths, {required flag: a value}) of a command."""
    defined = options.define(cli.load_command(command).Options)
    texts = [
        defined[name] for name in defined if type(defined[name].parser) in (flags.ArgumentParser, flags.ListParser)
    ]
    required = {
        flag.name: "x"
        for flag in texts
        if flag.name in ("workdir", "data_dir", "output_dir", "output", "source", "features")
    }
    return [flag.name for flag in texts if flag.name not in NO_PATHS], required


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_that_takes_a_path_refuses_remote_storage(command):
    names, required = path_flags(command)
    for name in names:
        for path in ("gs://bucket/x", "s3://bucket/x", "hdfs://host/x"):
            given = required | {name: path}
            script = ("-m", "alexnet_tf", command)
            status, _, err = call(*script, *(f"--{flag}={value}" for flag, value in given.items()))
            scheme = path.partition(":")[0]
            assert status == 1 and f"Error: --{name}={path}: {scheme}:// is not read or written" in err, (name, err)
            assert "Mount or copy it" in err
    assert not [each for each in os.listdir(ROOT) if ":" in each]


def test_the_flags_of_this_test_are_those_that_take_paths():
    found = {name for command in COMMANDS for name in path_flags(command)[0]}
    assert found >= {
        "workdir",
        "data_dir",
        "output_dir",
        "output",
        "source",
        "classes",
        "features",
        "labels",
        "init_from",
    }


def test_images_are_refused_too(tmp_path):
    status, _, err = call("-m", "alexnet_tf", "predict", f"--workdir={tmp_path}", "gs://bucket/1.jpg")
    assert status == 1 and "gs://bucket/1.jpg: gs:// is not read" in err


@pytest.mark.parametrize("path", ["gs://b/run", "S3://b/run", "oss://b/run", "https://host/run", "file:///x"])
def test_python_functions_refuse_them_too(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for function in (
        RunDirectory,
        discovery.find_dataset,
        lambda path: prepare.prepare(None, path),
        lambda path: atomic_files.atomic_write(path, print),
    ):
        with pytest.raises(errors.UserError, match="is not read or written directly"):
            function(path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("path", ["runs/a", "/data/x", "a:b", "odd:/name", "C:\\x", "", None, "~/x"])
def test_local_paths_are_not(path):
    errors.check_local_path(path, "")
