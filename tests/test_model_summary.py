"""The table and the diagram of a row, against numbers worked out by hand."""

import xml.etree.ElementTree

import matplotlib
import pytest

from alexnet_tf import alexnet, architectures, model_summary
from tests.helpers.networks import TINY

# Positions times the kernel's size: 3025 x 34,848 (conv1), 729 x 307,200, 169 x 884,736, 169 x 663,552,
# 169 x 442,368, and the dense layers' 37,748,736 + 16,777,216 + 4,096,000.
GROUPED = 724_406_816
MULTIPLY_ADDS = {
    "paper": GROUPED, "original2012": GROUPED, "caffe": GROUPED, "caffenet": GROUPED, "no_lrn": GROUPED,
    # 729 x 614,400, 169 x 1,327,104 and 169 x 884,736 in conv2, conv4 and conv5.
    "ungrouped": 1_135_256_096,
    "owt": 714_188_480, "torchvision": 714_188_480,
    "one_gpu": 391_514_384,
}


def total(text, what):
    [line] = [line for line in text.splitlines() if line.startswith(f"Total {what}: ")]
    return int(line.split(": ")[1].replace(",", ""))


def test_layer_table_of_paper_ends_in_its_totals():
    text = model_summary.layer_table(architectures.PAPER)
    assert text.splitlines()[-1] == "Total parameters: 60,965,224"
    assert text.splitlines()[-2] == "Total multiply-adds: 724,406,816"
    assert text.splitlines()[0].startswith("paper: Krizhevsky")


@pytest.mark.parametrize(("name", "millions"), [
    ("caffe", 724.4), ("ungrouped", 1135.3), ("owt", 714.2), ("torchvision", 714.2), ("one_gpu", 391.5)])
def test_layer_table_counts_multiply_adds(name, millions):
    text = model_summary.layer_table(architectures.ARCHITECTURES[name])
    assert total(text, "multiply-adds") == MULTIPLY_ADDS[name]
    assert round(total(text, "multiply-adds") / 1e6, 1) == millions


def test_layer_rows_of_conv_fc_count_its_convolutions_as_the_dense_layers():
    rows = {row.name: row for row in model_summary.layer_rows(architectures.ARCHITECTURES["conv_fc"])}
    assert rows["fc6"].multiply_adds == 37_748_736
    assert rows["fc6"].shape == (1, 1, 4096)
    assert sum(row.parameters for row in rows.values()) == 62_071_144


def test_layer_rows_say_what_each_tower_sees():
    rows = {row.name: row for row in model_summary.layer_rows(architectures.PAPER)}
    assert rows["conv1_a"].sees == rows["conv1_b"].sees == ("normalize",)
    assert rows["conv2_a"].sees == ("conv1_a_pool",)
    assert rows["conv2_b"].sees == ("conv1_b_pool",)
    assert rows["conv3_a"].sees == rows["conv3_b"].sees == ("conv2_a_pool", "conv2_b_pool")
    assert rows["conv4_b"].sees == ("conv3_b_relu",)
    assert rows["conv5_a"].sees == ("conv4_a_relu",)
    assert rows["fc6_a"].sees == ("conv5_a_pool", "conv5_b_pool")
    assert rows["fc7_b"].sees == ("fc6_a_dropout", "fc6_b_dropout")
    assert rows["fc8"].sees == ("fc7_a_dropout", "fc7_b_dropout")


def test_layer_rows_of_caffe_name_the_half_that_a_group_sees():
    rows = {row.name: row for row in model_summary.layer_rows(architectures.ARCHITECTURES["caffe"])}
    assert rows["conv2_a"].sees == ("conv1_pool[a]",)
    assert rows["conv2_b"].sees == ("conv1_pool[b]",)
    assert rows["conv2_lrn"].sees == ("conv2_a_relu", "conv2_b_relu")
    assert rows["conv3"].sees == ("conv2_pool",)
    assert rows["conv4_b"].sees == ("conv3_relu[b]",)
    assert rows["conv5_a"].sees == ("conv4_a_relu",)
    assert rows["fc6"].sees == ("conv5_a_pool", "conv5_b_pool")


def test_layer_rows_give_shapes_kernels_and_counts():
    rows = {row.name: row for row in model_summary.layer_rows(TINY)}
    # 11 x 11 x 3 x 4 + 4 at 15 x 15 positions; 5 x 5 x 4 x 4 + 4 at 7 x 7; 72 x 4 + 4.
    assert rows["conv1_a"] == model_summary.LayerRow(
        "conv1_a", "Conv2D", "11 x 11, stride 4, valid", ("normalize",), (15, 15, 4), 1456, 326_700)
    assert rows["conv2_b"] == model_summary.LayerRow(
        "conv2_b", "Conv2D", "5 x 5, stride 1, same", ("conv1_b_pool",), (7, 7, 4), 404, 19_600)
    assert rows["conv1_b_pool"] == model_summary.LayerRow(
        "conv1_b_pool", "MaxPooling2D", "3 x 3, stride 2", ("conv1_b_lrn",), (7, 7, 4), 0, 0)
    assert (rows["fc6_a"].parameters, rows["fc6_a"].multiply_adds) == (292, 288)
    assert (rows["fc8"].parameters, rows["fc8"].multiply_adds) == (45, 40)


def test_layer_table_has_a_line_for_every_layer():
    lines = model_summary.layer_table(TINY).splitlines()
    cells = {line.split()[0]: line for line in lines[4:-3]}
    assert set(alexnet.layer_names(TINY)) < set(cells)
    assert cells["conv2_a"].split("  ")[-1].strip() == "19,600"
    assert "conv2_a_pool + conv2_b_pool" in cells["fc6_a"]
    assert "15 x 15 x 4" in cells["conv1_a"]


def names_of(architecture):
    return [row.name for row in model_summary.layer_rows(architecture)]


@pytest.mark.parametrize("architecture", [TINY, architectures.ARCHITECTURES["caffe"]], ids=lambda row: row.name)
def test_draw_diagram_writes_an_svg_with_every_layer(architecture, tmp_path):
    path = tmp_path / "network.svg"
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        model_summary.draw_diagram(architecture, str(path))
    root = xml.etree.ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    words = set(" ".join(root.itertext()).split())
    assert set(names_of(architecture)) <= words
    assert architecture.name + ":" in words


def test_draw_diagram_names_the_layers_in_the_svg_as_it_is_written(tmp_path):
    path = tmp_path / "network.SVG"
    model_summary.draw_diagram(TINY, str(path))
    text = path.read_text()
    for name in names_of(TINY):
        assert name in text


def test_draw_diagram_writes_a_png(tmp_path):
    path = tmp_path / "new" / "network.png"
    model_summary.draw_diagram(TINY, str(path))
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert data.rstrip().endswith(b"IEND\xaeB`\x82")
    width, height = (int.from_bytes(data[start:start + 4], "big") for start in (16, 20))
    assert width > 500 and height > 500
    assert [file.name for file in path.parent.iterdir()] == ["network.png"]


@pytest.mark.parametrize("name", ["network.pdf", "network", "network.svg.gz"])
def test_draw_diagram_refuses_another_ending(name, tmp_path):
    path = tmp_path / name
    with pytest.raises(ValueError, match=r"--diagram writes .png or .svg files; got '.*" + name):
        model_summary.draw_diagram(TINY, str(path))
    assert not path.exists()
