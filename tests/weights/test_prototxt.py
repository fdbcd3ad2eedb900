"""Tests of `prototxt`: architectures as Caffe's layers, against Caffe's own files and the paper's formula."""

import re

import pytest

from alexnet_tf.network import architectures
from alexnet_tf.weights import prototxt
from tests.helpers.caffe import CAFFE_ORDER, REST


@pytest.mark.parametrize("row", ["caffe", "caffenet"])
def test_net_of_caffes_rows_is_caffes_own_network(row):
    layers = prototxt.to_caffe_layers(architectures.ARCHITECTURES[row])
    assert " ".join(layer.name for layer in layers) == CAFFE_ORDER[row] + REST + " prob"
    by_name = {layer.name: layer.parameters for layer in layers}
    for name in ("norm1", "norm2"):
        assert by_name[name]["lrn_param"] == {"local_size": 5, "alpha": pytest.approx(1e-4), "beta": 0.75}
    assert [by_name[f"conv{n}"]["convolution_param"].get("group", 1) for n in range(1, 6)] == [1, 2, 1, 2, 2]


def test_net_of_paper_has_its_lrn_inside_the_towers():
    layers = prototxt.to_caffe_layers(architectures.PAPER)
    stage1 = [(layer.type, layer.bottom, layer.top) for layer in layers[2:7]]
    assert stage1 == [
        ("Slice", ("conv1",), ("conv1_a", "conv1_b")),
        ("LRN", ("conv1_a",), ("norm1_a",)),
        ("LRN", ("conv1_b",), ("norm1_b",)),
        ("Concat", ("norm1_a", "norm1_b"), ("norm1",)),
        ("Power", ("norm1",), ("norm1",)),
    ]
    # The paper's x / (2 + 1e-4 S)^.75 in Caffe's terms, which divides alpha by 5, with k = 1.
    assert layers[3].parameters["lrn_param"] == {"local_size": 5, "alpha": pytest.approx(2.5e-4), "beta": 0.75}
    assert layers[6].parameters["power_param"] == {"scale": pytest.approx(2**-0.75)}


def test_refusal_names_the_zeros_that_caffe_cannot_pad():
    refused = {name for name, row in architectures.ARCHITECTURES.items() if prototxt.unsupported_reason(row)}
    assert refused == {"original2012", "one_gpu", "owt", "no_lrn", "non_overlap", "fc2048"}
    assert "0 zeros before the image and 3 after" in prototxt.unsupported_reason(architectures.ORIGINAL2012)


def test_prototxt_says_the_input_and_has_balanced_braces():
    text = prototxt.prototxt(architectures.PAPER, ["Input: B, G, R"])
    assert text.startswith('# Input: B, G, R\nname: "paper"\n') and "dim: 1 dim: 3 dim: 227 dim: 227" in text
    assert text.count("{") == text.count("}")
    assert re.findall(r"slice_param \{[^}]*\}", text) == ["slice_param { axis: 1 }"] * 2
