import numpy as np
import pytest

from alexnet_tf.experiments import catalogue, figure3
from alexnet_tf.support import errors


def specialised_kernels(filters=96):
    """Returns kernels of which the first half is coloured and the second nearly grey."""
    generator = np.random.default_rng(0)
    kernels = generator.normal(size=(11, 11, 3, filters))
    kernels[..., filters // 2 :] = 0.1 * kernels[..., filters // 2 :] + generator.normal(size=(11, 11, 1, filters // 2))
    return kernels.astype("float32")


def test_colourfulness_of_grey_is_zero_and_knows_no_scale_nor_order():
    kernels = np.random.default_rng(0).normal(size=(11, 11, 3, 4))
    kernels[..., 0] = kernels[:, :, :1, 0]
    values = figure3.colourfulness(kernels)
    assert values[0] < 1e-12 and (values[1:] > 0.5).all()
    np.testing.assert_allclose(figure3.colourfulness(-7 * kernels[:, :, ::-1]), values, atol=1e-12)
    assert figure3.colourfulness(np.reshape([1, 0, -1], (1, 1, 3, 1))) == pytest.approx(1)


def test_chance_tells_two_towers_from_one():
    generator = np.random.default_rng(0)
    assert figure3.chance_of_difference(generator.normal(size=96)) > 0.01
    assert figure3.chance_of_difference(np.concatenate([generator.normal(size=48), generator.normal(2, 1, 48)])) < 0.001


def test_specialised_kernels_are_recognised_and_others_are_not():
    result = figure3.describe(
        {"Specialised": specialised_kernels(), "alike": np.random.default_rng(0).normal(size=(11, 11, 3, 96))}
    )
    assert [finding.verdict for finding in result.findings] == [catalogue.REPRODUCED, catalogue.NOT_SEEN]
    assert {name: picture.shape for name, picture in result.pictures.items()} == dict.fromkeys(
        ("Specialised", "alike"), (6 * 68 + 2, 16 * 68 + 2, 3)
    )


def test_kernels_are_read_alone_or_with_their_bias_in_either_layout(tmp_path):
    kernels = specialised_kernels(8)
    pair = np.empty(2, object)
    pair[:] = [kernels, np.zeros(8, "float32")]
    caffe = np.moveaxis(kernels, (3, 2), (0, 1))
    for name, content in (("bare.npy", kernels), ("pair.npy", pair), ("caffe.npy", caffe)):
        np.save(tmp_path / name, content, allow_pickle=True)
        np.testing.assert_array_equal(figure3.read_kernels(str(tmp_path / name)), kernels)
    np.save(tmp_path / "other.npy", np.zeros((3, 3), "float32"))
    with pytest.raises(errors.UserError, match=r"holds \[3, 3\]: no kernels"):
        figure3.read_kernels(str(tmp_path / "other.npy"))
