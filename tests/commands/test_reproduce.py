import json

import pytest

from alexnet_tf.commands import cli
from alexnet_tf.experiments import catalogue, cifar_data


@pytest.fixture
def few_images(monkeypatch):
    """Makes the quick experiments quicker still."""
    few = cifar_data.synthetic(train=64, test=16)
    monkeypatch.setattr(cifar_data, "synthetic", lambda: few)


def test_the_command_knows_every_experiment():
    assert set(catalogue.EXPERIMENTS) == set(cli.load_command("reproduce")._NAMES)


@pytest.mark.parametrize("name", catalogue.EXPERIMENTS)
def test_quick(name, few_images, tmp_path, capsys):
    output = tmp_path / "report"
    assert (
        cli.run_command("reproduce", [name, "--quick", f"--output={output}", "--epochs=1", "--precision=float32"]) == 0
    )
    content = json.loads((output / f"{name}.json").read_text())
    assert content["findings"] and all(finding["verdict"] is None for finding in content["findings"])
    assert content["command"].endswith(f" {name}") and "--quick" in content["command"]
    assert list(output.glob("*.png")) and list(output.glob("*.svg"))
    assert (output / f"{name}.md").read_text().startswith("# ")
    assert "paper:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["figure2"], "Give one experiment: figure1, lrn"),
        ([], "Got none"),
        (["figure1"], "needs CIFAR-10: --data_dir"),
        (["figure3"], "--workdir=RUN or --conv1"),
        (["table"], "needs a run"),
        (["lrn", "--data_dir=/no/where"], "does not exist"),
    ],
)
def test_mistakes(arguments, message, capsys, tmp_path):
    assert cli.run_command("reproduce", [*arguments, f"--output={tmp_path}"]) == 1
    assert message in capsys.readouterr().err
