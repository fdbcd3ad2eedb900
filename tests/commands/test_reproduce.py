import pytest

from alexnet_tf.commands import cli
from alexnet_tf.experiments import catalogue, figure1
from alexnet_tf.network import architectures
from tests.helpers import cifar
from tests.helpers.networks import SMALL

DATA = {"figure1": "images", "lrn": "images", "ablations": "images", "figure3": "run", "figure4": "run", "table": "run"}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return cifar.write_folders(tmp_path_factory.mktemp("cifar"), cifar.synthetic(train=160, test=20))


@pytest.mark.parametrize("name", catalogue.EXPERIMENTS)
def test_an_experiment_ends_in_a_report(name, images, small_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(architectures.ARCHITECTURES, "small", SMALL)
    monkeypatch.setattr(figure1, "PAIRS", (("layers-19pct", "scaled"),))
    monkeypatch.setattr(figure1, "SEARCH_EPOCHS", 1)
    given = {"images": [f"--data_dir={images}", "--seeds=1", "--epochs=1"], "run": [f"--workdir={small_run}"]}[
        DATA[name]
    ]
    output = tmp_path / "report"
    assert cli.run_command("reproduce", [name, f"--output={output}", "--precision=float32", *given]) == 0
    text = (output / f"{name}.md").read_text()
    assert text.startswith("# ") and f" {name}\n" in text and "here" in text
    assert list(output.glob("*.png"))
    assert "paper:" in capsys.readouterr().out or name == "table"  # One run has no average.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["figure2"], "must be one of figure1, lrn"),
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
