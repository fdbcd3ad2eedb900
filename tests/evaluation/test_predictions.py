"""Tests of `predictions`: what the CSV holds, read back with the standard library and pandas' rules."""

import csv

import numpy as np
import pytest

from alexnet_tf.evaluation import predictions
from alexnet_tf.support import errors

NAMES = ["a", "b, with a comma", 'c "quoted"', "d", "e", "f", "花"]


def read(path):
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def test_most_probable_orders_by_probability_and_ties_by_class():
    probabilities = np.array([[0.1, 0.4, 0.1, 0.4], [0.7, 0.1, 0.1, 0.1]], "float32")
    classes, values = predictions.most_probable(np.log(probabilities), 3)
    np.testing.assert_array_equal(classes, [[1, 3, 0], [0, 1, 2]])
    np.testing.assert_allclose(values, [[0.4, 0.4, 0.1], [0.7, 0.1, 0.1]], rtol=1e-6, atol=0)


def test_table_has_every_image_with_its_label_and_five_best_classes(tmp_path):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(7), 5).astype("float32")
    labels = np.array([6, 1, 2, 0, 6], "int32")
    table = predictions.PredictionTable(NAMES)
    table.add(np.log(probabilities[:3]), labels[:3])
    table.add(np.log(probabilities[3:]), labels[3:])
    files = ["x, y.jpg", "\udcff.jpg", "3.jpg", "4.jpg", "5.jpg"]
    table.write(tmp_path / "p.csv", files)
    lines = read(tmp_path / "p.csv")
    assert [line["image"] for line in lines] == files
    assert [line["label"] for line in lines] == [NAMES[label] for label in labels]
    for line, row in zip(lines, probabilities):
        expected = sorted(range(7), key=lambda index: -row[index])[:5]
        assert [line["predicted"], *(line[f"class_{place}"] for place in range(2, 6))] == [NAMES[i] for i in expected]
        assert float(line["probability"]) == pytest.approx(row[expected[0]], abs=1e-6)
        assert float(line["probability_5"]) == pytest.approx(row[expected[4]], abs=1e-6)


def test_table_of_two_classes_has_two(tmp_path):
    table = predictions.PredictionTable(["a", "b"])
    table.add(np.log(np.array([[0.25, 0.75]], "float32")), np.array([0]))
    table.write(tmp_path / "p.csv", ["1.jpg"])
    assert (tmp_path / "p.csv").read_text() == (
        "image,label,predicted,probability,class_2,probability_2\n1.jpg,a,b,0.750000,a,0.250000\n"
    )


def test_write_file_writes_whole_or_not_at_all(tmp_path):
    def lines():
        yield ["1"]
        raise errors.UserError("stopped")

    (tmp_path / "p.csv").write_text("before")
    with pytest.raises(errors.UserError, match="stopped"):
        predictions.write_file(tmp_path / "p.csv", ["image"], lines())
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]
    assert (tmp_path / "p.csv").read_text() == "before"
