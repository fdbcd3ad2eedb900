"""The picture of an architecture."""

import xml.etree.ElementTree

import pytest

from alexnet_tf import architectures, diagram, model_summary
from tests.helpers.networks import TINY


def names_of(architecture):
    return [row.name for row in model_summary.layer_rows(architecture)]


@pytest.mark.parametrize("architecture", [TINY, architectures.ARCHITECTURES["caffe"]], ids=lambda row: row.name)
def test_draw_diagram_writes_an_svg_with_every_layer(architecture, tmp_path):
    path = tmp_path / "network.svg"
    diagram.draw_diagram(architecture, str(path))
    root = xml.etree.ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    words = set(" ".join(root.itertext()).split())
    assert set(names_of(architecture)) <= words
    assert architecture.name + ":" in words


def test_draw_diagram_names_the_layers_in_the_svg_as_it_is_written(tmp_path):
    path = tmp_path / "network.SVG"
    diagram.draw_diagram(TINY, str(path))
    text = path.read_text()
    for name in names_of(TINY):
        assert name in text


def test_draw_diagram_writes_a_png(tmp_path):
    path = tmp_path / "new" / "network.png"
    diagram.draw_diagram(TINY, str(path))
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
        diagram.draw_diagram(TINY, str(path))
    assert not path.exists()
