import json

import numpy as np
from PIL import Image

from alexnet_tf.experiments import report


def test_report_is_markdown_json_png_and_svg(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype("uint8")
    result = report.Result(
        (report.Finding("a | b", "6 times", "2 times", report.SAME_DIRECTION), report.Finding("c", "1", "2", None)),
        (report.Table("numbers", ("name", "value"), (("x", 0.123456), ("y", None))),),
        {"kernels": image},
        ("A note.",),
    )
    report.write(result, tmp_path / "new", "name", title="Title", command="python -m command", seconds=12.34)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "name-kernels.png",
        "name-kernels.svg",
        "name.json",
        "name.md",
    ]
    text = (tmp_path / "new" / "name.md").read_text()
    for part in (
        "# Title",
        "| a \\| b | 6 times | 2 times | **same direction** |",
        "| c | 1 | 2 | – |",
        "| x | 0.1235 |",
        "| y | – |",
        "(name-kernels.png)",
        "A note.",
        "python -m command",
        "12 s, on ",
    ):
        assert part in text
    content = json.loads((tmp_path / "new" / "name.json").read_text())
    assert content["findings"][0]["verdict"] == "same direction" and content["tables"][0]["rows"][0] == ["x", 0.123456]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "name-kernels.png").convert("RGB")), image)


def test_report_states_the_training_of_earlier_calls(tmp_path):
    result = report.Result((), training_seconds=4567.8)
    report.write(result, tmp_path, "name", title="Title", command="python -m command", seconds=12.34)
    assert "Trained for 4,568 s in all; the last call took 12 s, on " in (tmp_path / "name.md").read_text()
    content = json.loads((tmp_path / "name.json").read_text())
    assert (content["training_seconds"], content["seconds"]) == (4567.8, 12.3)


def test_spread():
    assert report.mean_and_spread([0.5], report.percent) == "50.0 % (1 seed)"
    assert report.mean_and_spread([0.1, 0.2, 0.3], report.percent) == "20.0 % (10.0 % to 30.0 %, 3 seeds)"
