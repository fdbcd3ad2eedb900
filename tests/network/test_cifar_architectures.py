import numpy as np
import pytest

from alexnet_tf.network import alexnet, architectures, cifar_architectures
from alexnet_tf.network.cifar_architectures import CIFAR_ARCHITECTURES

# Derived by hand from the layer files: parameters at the author's input size, and at the other one.
PARAMETERS = {
    "layers-19pct": (89_578, 24, 85_098),
    "layers-18pct": (89_578, 24, 85_098),
    "conv-local-13pct": (1_116_490, 32, 1_901_386),
    "conv-local-11pct": (2_112_970, 32, 3_672_906),
}


@pytest.mark.parametrize("name", CIFAR_ARCHITECTURES)
def test_parameters_and_shapes_are_the_authors(name):
    own, other_size, other = PARAMETERS[name]
    architecture = CIFAR_ARCHITECTURES[name]
    resized = cifar_architectures.with_image_size(architecture, other_size)
    for each, expected in ((architecture, own), (resized, other)):
        assert sum(shapes.parameters for shapes in each.tower_shapes().values()) == expected
    model = alexnet.build_model(architecture)
    assert model.count_params() == own
    assert model.output_shape == (None, 10)
    assert [shapes.size for shapes in architecture.tower_shapes().values()] == (
        [32, 16, 8, 1] if "local" not in name else [24, 12, 6, 6, 1]
    )
    for stage, shapes in architecture.tower_shapes().items():
        assert tuple(model.get_layer(stage).kernel.shape) == shapes.kernel


def test_activations_and_lrn_change_nothing_else():
    relu = cifar_architectures.CONV_LOCAL_13PCT
    tanh = cifar_architectures.with_activation(relu, "tanh")
    assert {op for stage in tanh.stages for op in stage.ops} == {"pool", "tanh"}
    assert cifar_architectures.with_activation(tanh, "relu").stages == relu.stages
    with_lrn = cifar_architectures.with_lrn(relu)
    assert [stage.ops for stage in with_lrn.stages[:3]] == [("pool", "relu", "lrn")] * 2 + [("relu",)]
    assert alexnet.build_model(with_lrn).count_params() == 1_116_490


def test_average_pooling_counts_the_pixels_inside_the_map():
    architecture = cifar_architectures.LAYERS_19PCT
    pool = alexnet.build_model(architecture).get_layer("conv2_pool")
    maps = np.arange(16, dtype="float32").reshape(1, 4, 4, 1)
    expected = [[maps[0, :3, :3].mean(), maps[0, :3, 2:].mean()], [maps[0, 2:, :3].mean(), maps[0, 2:, 2:].mean()]]
    np.testing.assert_allclose(pool(maps)[0, ..., 0], expected)


@pytest.mark.parametrize("changes", [{"strides": 2}, {"kernel_size": 0}])
def test_local_stage_refuses_strides_and_dense(changes):
    with pytest.raises(ValueError, match="local stage needs"):
        architectures.Stage("local3", 8, **{"kernel_size": 3, "is_local": True} | changes)


def test_pool_refuses_other_kinds():
    with pytest.raises(ValueError, match="'max' or 'average'; got 'mean'"):
        architectures.Pool(kind="mean")
