"""The picture of an architecture."""

import xml.etree.ElementTree

import pytest

from alexnet_tf.network import architectures, diagram, model_summary
from tests.helpers.networks import TINY


@pytest.mark.parametrize("architecture", [TINY, architectures.ARCHITECTURES["caffe"]], ids=lambda row: row.name)
def test_draw_diagram_writes_an_svg_with_every_layer(architecture, tmp_path):
    path = tmp_path / "network.SVG"
    diagram.draw_diagram(architecture, str(path))
    root = xml.etree.ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = [text.strip() for text in root.itertext() if text.strip()]
    for stage in architecture.stages:
        assert all(texts.count(name) == 1 for name in stage.layer_names)
    rows = model_summary.layer_rows(architecture)
    for kind, label in (
        ("relu", "ReLU"),
        ("lrn", "LRN"),
        ("pool", "max\xa0pool\xa03\xa0×\xa03"),
        ("dropout", "dropout"),
    ):
        assert texts.count(label) == sum(row.kind == kind for row in rows), kind
    stages = [[row.parameters for row in rows if row.name in stage.layer_names] for stage in architecture.stages]
    assert all(f"{sum(parameters):,}" in texts for parameters in stages)
    assert any(text.startswith(f"{architecture.name}: ") for text in texts)


def test_draw_diagram_writes_a_png(tmp_path):
    path = tmp_path / "new" / "network.png"
    diagram.draw_diagram(TINY, str(path))
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert data.rstrip().endswith(b"IEND\xaeB`\x82")
    width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
    assert width > 2 * height > 300
    assert [file.name for file in path.parent.iterdir()] == ["network.png"]


@pytest.mark.parametrize("name", ["network.pdf", "network", "network.svg.gz"])
def test_draw_diagram_refuses_another_ending(name, tmp_path):
    path = tmp_path / name
    with pytest.raises(ValueError, match=r"--diagram must be a file that ends in .png or .svg; got '.*" + name):
        diagram.draw_diagram(TINY, str(path))
    assert not path.exists()
