"""Tests of `error_report`: figures by hand."""

import json

import numpy as np
import pytest

from alexnet_tf.evaluation import error_report, metrics

# Of 10 cats 6 are right and 4 taken for dogs; of 5 dogs all are right; both foxes are taken for dogs; no wolves.
CONFUSION = np.array([[6, 4, 0, 0], [0, 5, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0]])
NAMES = ["cat", "dog", "fox", "wolf"]
RESULT = metrics.Evaluation(
    examples=17, loss=0.5, top1_error=6 / 17, top5_error=None, confusion=CONFUSION, class_sizes=np.array([10, 5, 2, 0])
)


def test_class_errors_by_hand():
    np.testing.assert_allclose(RESULT.class_errors, [0.4, 0, 1, np.nan], rtol=1e-12, atol=1e-15)
    assert RESULT.mean_class_error == pytest.approx((0.4 + 0 + 1) / 3)
    assert RESULT.never_predicted == [2]  # There are no wolves that could have been.
    assert RESULT.most_confused(5) == [(0, 1, 4), (2, 1, 2)]
    assert RESULT.most_confused(1) == [(0, 1, 4)]


def test_as_dict_survives_json():
    report = json.loads(json.dumps(error_report.as_dict(RESULT, NAMES), allow_nan=False))
    assert report["top1_accuracy"] == pytest.approx(11 / 17) and report["top5_accuracy"] is None
    assert report["classes"][0] == {"name": "cat", "images": 10, "error": pytest.approx(0.4), "predicted": 6}
    assert report["classes"][3] == {"name": "wolf", "images": 0, "error": None, "predicted": 0}
    assert report["never_predicted"] == ["fox"]
    assert report["most_confused"] == [
        {"label": "cat", "predicted": "dog", "images": 4, "share_of_label": pytest.approx(0.4)},
        {"label": "fox", "predicted": "dog", "images": 2, "share_of_label": pytest.approx(1)},
    ]


def test_as_text_has_accuracy_beside_error_and_names_what_goes_wrong():
    text = error_report.as_text(RESULT, NAMES)
    assert "top-1 error       0.3529   accuracy 0.6471" in text and "top-5" not in text
    assert "mean class error  0.4667   accuracy 0.5333" in text
    assert "Most confused: cat as dog (4), fox as dog (2)" in text and "Never predicted: fox" in text
    assert "wolf" not in text  # It has no images.


def test_as_text_of_many_classes_shows_the_worst():
    confusion = np.diag(np.arange(1, 31))
    confusion[7, 8] = 80
    result = metrics.Evaluation(545, 1.0, 0.1, 0.0, confusion, confusion.sum(axis=1))
    text = error_report.as_text(result, [f"class{index:02}" for index in range(30)])
    assert "The 20 classes with the highest errors, of 30:" in text
    lines = [line for line in text.splitlines() if line.startswith("class") and line[5:7].isdecimal()]
    assert len(lines) == 20 and lines[0].startswith("class07")


def test_columns_stay_aligned_below_names_of_wide_characters():
    text = error_report.as_text(RESULT, ["猫", "dog", "キツネ", "wolf"])
    lines = [line for line in text.splitlines() if line.startswith(("class", "猫", "dog", "キツネ "))]
    assert len({error_report.display_width(line) for line in lines}) == 1 and len(lines) == 4
