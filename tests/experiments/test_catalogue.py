import numpy as np
from PIL import Image

from alexnet_tf.experiments import catalogue


def test_report_is_markdown_with_png(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype("uint8")
    result = catalogue.Result(
        (
            catalogue.Finding("a | b", "6 times", "2 times", catalogue.SAME_DIRECTION),
            catalogue.Finding("c", "1", "2", None),
        ),
        {"numbers": [("name", "value"), ("x", 0.123456), ("y", None)]},
        {"Kernels of_a": image},
        "A note.",
    )
    catalogue.write(result, tmp_path / "new" / "name.md", "Title", "python -m command", 12.34)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["name-kernels-of-a.png", "name.md"]
    text = " ".join((tmp_path / "new" / "name.md").read_text().split())
    for part in (
        "# Title",
        "| a \\| b | 6 times | 2 times | **same direction** |",
        "| c | 1 | 2 | – |",
        "| x | 0.1235 |",
        "| y | – |",
        "(name-kernels-of-a.png)",
        "A note.",
        "python -m command",
        "12 s, on ",
    ):
        assert part in text, part
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "name-kernels-of-a.png")), image)


def test_spread():
    assert catalogue.mean_and_spread([0.5], catalogue.percent) == "50.0 % (1 seed)"
    assert catalogue.mean_and_spread([0.1, 0.2, 0.3], catalogue.percent) == "20.0 % (10.0 % to 30.0 %, 3 seeds)"
