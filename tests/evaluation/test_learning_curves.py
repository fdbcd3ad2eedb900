"""Tests of `learning_curves` and of `plot`: what is read, and what stands in the picture."""

import re
import xml.etree.ElementTree

import numpy as np
import PIL.Image
import pytest

from alexnet_tf.evaluation import learning_curves
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import errors
from tests.helpers.commands import call

HEADER = (
    "epoch,step,learning_rate,train_loss,train_top1_error,val_loss,val_top1_error,val_top5_error,images_per_second\n"
)


def make_run(path, val_errors, rates=None):
    path.mkdir(parents=True)
    rows = [
        f"{epoch},{10 * epoch},{rate},{2 / epoch},{error + 0.1},{1 / epoch},{error},,40.5\n"
        for epoch, (error, rate) in enumerate(zip(val_errors, rates or [0.01] * 99), 1)
    ]
    (path / "history.csv").write_text(HEADER + "".join(rows))
    return path


def svg_texts(path):
    texts = xml.etree.ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")
    return [re.sub(r"\s+", " ", "".join(each.itertext())).strip() for each in texts]


def test_read_takes_the_columns_and_the_name(tmp_path):
    run = make_run(tmp_path / "x=y" / "first", [0.5, 0.25])
    curve = learning_curves.read(str(run))
    assert curve.name == "first" and curve.columns["epoch"] == [1, 2]
    assert curve.columns["val_top1_error"] == [0.5, 0.25] and curve.columns["train_loss"] == [2, 1]
    assert learning_curves.read(f"from scratch={run}").name == "from scratch"


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", HEADER, HEADER + "1,2\n", HEADER + "1,1,x,1,1,1,1,,1\n", "\0"])
def test_read_refuses_a_damaged_history_by_name(tmp_path, content):
    run = make_run(tmp_path / "run", [0.5])
    (run / "history.csv").write_text(content)
    with pytest.raises(errors.RunError, match=r"history\.csv"):
        learning_curves.read(str(run))


def test_read_says_what_is_not_there(tmp_path, monkeypatch):
    with pytest.raises(errors.RunError, match="There is no run in "):
        learning_curves.read(str(tmp_path / "absent"))
    monkeypatch.setattr(RunDirectory, "existing_config", lambda run: None)
    with pytest.raises(errors.RunError, match=r"has no history\.csv yet"):
        learning_curves.read(str(tmp_path))


def test_plot_of_several_runs_names_each_once(tmp_path):
    first, second = make_run(tmp_path / "1", [0.5, 0.4]), make_run(tmp_path / "2", [0.6, 0.3, 0.35])
    output = tmp_path / "curves.svg"
    status, out, err = call(
        "-m",
        "alexnet_tf",
        "plot",
        f"frozen={first}",
        f"frozen={second}",
        f"$x_^{{={first}",
        f"--output={output}",
        "--title=Two & <three>",
    )
    assert status == 0 and not err
    assert "frozen: 3 epochs, lowest validation error 0.3000 (accuracy 0.7000) after epoch 2" in out
    texts = svg_texts(output)
    assert texts.count("frozen") == 1 and "$x_^{" in texts and "Two & <three>" in texts
    assert {"Top-1 error (dashed: training)", "Learning rate"} <= set(texts)


def test_plot_of_one_run_is_beside_its_pictures(tmp_path):
    run = make_run(tmp_path / "run", [0.5], rates=[0.1])
    status, out, _ = call("-m", "alexnet_tf", "plot", run)
    assert status == 0 and "run: 1 epoch, lowest" in out
    picture = np.asarray(PIL.Image.open(run / "pictures" / "learning_curves.png"))
    assert picture.shape[1] == 1500


def test_plot_draws_the_values(tmp_path):
    """The validation error of 0.5 lies at half the height of an axis that goes from 0 to 1."""
    run = make_run(tmp_path / "run", [0.9, 0.5, 0.1])
    output = tmp_path / "x.svg"
    learning_curves.draw([learning_curves.read(str(run))], str(output))
    root = xml.etree.ElementTree.parse(output).getroot()
    paths = root.iter("{http://www.w3.org/2000/svg}path")
    lines = [
        re.findall(r"[ML] ([\d.]+) ([\d.]+)", each.get("d"))
        for each in paths
        if "stroke-width: 2" in each.get("style", "")
    ]
    x, y = np.array(next(line for line in lines if len(line) == 3), float).T
    assert y[1] - y[0] == pytest.approx(y[2] - y[1], abs=0.01) and x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.01)
    assert y[0] < y[1] < y[2]  # Errors fall; SVG counts from the top.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give at least one run"),
        (["RUN", "--output=x.bmp"], "--output must be a file that ends in .png"),
        (["/nowhere/at/all"], "There is no run in "),
    ],
)
def test_plot_refuses(arguments, message):
    status, _, err = call("-m", "alexnet_tf", "plot", *arguments)
    assert status == 1 and message in err
