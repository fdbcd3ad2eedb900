"""What all tests of training share."""

import pytest

from alexnet_tf.network import architectures
from tests.helpers.networks import TINY


@pytest.fixture(scope="module", autouse=True)
def _tiny_row():
    """The tiny network is an architecture like the others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(architectures.ARCHITECTURES, "tiny", TINY)
        yield
