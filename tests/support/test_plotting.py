"""Tests of `plotting`: what lies where in the pictures."""

import matplotlib
import numpy as np
import pytest
from matplotlib import font_manager

from alexnet_tf.network import alexnet
from alexnet_tf.support import plotting
from tests.helpers.networks import TINY


def test_grid_lays_out_rows_on_white():
    images = np.stack([np.full((4, 6, 3), value, "uint8") for value in (10, 20, 30, 40, 50)])
    picture = plotting.grid(images, columns=3, border=2)
    expected = np.full((2 * 6 + 2, 3 * 8 + 2, 3), 255, "uint8")
    for value, (top, left) in zip((10, 20, 30, 40, 50), [(2, 2), (2, 10), (2, 18), (8, 2), (8, 10)]):
        expected[top : top + 4, left : left + 6] = value
    np.testing.assert_array_equal(picture, expected)


def test_kernels_image_has_tower_a_above_tower_b():
    kernels = np.zeros((3, 3, 3, 32), "float32")
    kernels[0, 0, 0, :16] = kernels[0, 0, 2, 16:] = np.arange(1, 17)
    picture = plotting.kernels_image(kernels, zoom=3)
    assert picture.shape == (2 * 11 + 2, 16 * 11 + 2, 3)
    for column in range(16):  # Each kernel is scaled by itself: all first pixels are full.
        left = 2 + 11 * column
        assert picture[2, left].tolist() == [255, 128, 128]
        assert picture[13, left].tolist() == [128, 128, 255]
        assert picture[2 + 3, left].tolist() == [128, 128, 128]


def test_first_kernels_are_those_of_tower_a_before_those_of_tower_b():
    model = alexnet.build_model(TINY)
    towers = [model.get_layer(f"conv1_{tower}").kernel for tower in "ab"]
    np.testing.assert_array_equal(plotting.first_kernels(model), np.concatenate(towers, axis=-1))


def test_kernels_of_zeros_are_grey():
    picture = plotting.kernels_image(np.zeros((2, 2, 3, 4)), zoom=1)
    assert picture.shape == (6, 66, 3) and set(np.unique(picture)) == {128, 255}


def test_typefaces_for_other_scripts_are_used_where_they_are_installed(monkeypatch):
    monkeypatch.setattr(font_manager, "get_font_names", lambda: ["Noto Sans CJK SC", "DejaVu Sans", "Serif"])
    with plotting.style():
        assert matplotlib.rcParams["font.family"] == ["DejaVu Sans", "Noto Sans CJK SC"]


@pytest.mark.parametrize(
    ("text", "length", "expected"),
    [("short", 8, "short"), ("12345678", 8, "12345678"), ("123456789", 8, "123\u20266789"), ("a\nb", 8, "a\\nb")],
)
def test_shortened_has_an_ellipsis_in_the_middle(text, length, expected):
    assert plotting.shortened(text, length) == expected
