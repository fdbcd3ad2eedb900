"""Networks whose dense layers are narrow: all of the convolutions, in a twentieth of the time."""

import pytest

from alexnet_tf.network import architectures
from tests.helpers.caffe import CLASSES, WIDTH
from tests.helpers.networks import narrow_dense


@pytest.fixture
def narrow_rows(monkeypatch):
    """Every architecture with dense layers of WIDTH units."""
    for name, row in architectures.ARCHITECTURES.items():
        monkeypatch.setitem(architectures.ARCHITECTURES, name, narrow_dense(row, WIDTH))


@pytest.fixture
def class_file(narrow_rows, tmp_path):
    """A file of CLASSES names, for narrow networks."""
    (tmp_path / "classes.txt").write_text("".join(f"kind {number}\n" for number in range(CLASSES)))
    return str(tmp_path / "classes.txt")
