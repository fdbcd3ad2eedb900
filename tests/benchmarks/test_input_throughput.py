"""Tests of `input_throughput`: that each case does what it is named after; not how fast it is."""

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.benchmarks import input_throughput, model_throughput, rounds
from alexnet_tf.data import datasets, discovery, prepare
from alexnet_tf.support import errors


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Photograph-like JPEG files, wide and tall; pixels say where they are: red the row, green the column."""
    root = tmp_path_factory.mktemp("originals")
    for split in ("train", "val"):
        for number in range(6):
            height, width = (300, 420) if number % 2 else (420, 300)
            rows, columns = np.mgrid[0:height, 0:width]
            image = np.stack([rows * 255 // height, columns * 255 // width, np.full_like(rows, 90)], -1).astype("uint8")
            tf.io.write_file(
                str(root / split / "ab"[number % 2] / f"{number}.jpg"), tf.io.encode_jpeg(image, quality=95)
            )
    return discovery.find_dataset(str(root))


@pytest.fixture(scope="module")
def prepared(originals, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared") / "out"
    prepare.prepare(originals, output)
    return discovery.find_dataset(str(output))


@pytest.mark.parametrize("source", ["originals", "prepared"])
def test_measure_runs_its_cases_in_each_round(source, request, monkeypatch, caplog):
    monkeypatch.setattr(rounds, "SETTLE_SECONDS", 0.0)
    data = request.getfixturevalue(source)
    options = model_throughput.Options(
        batch_size=8, rounds=2, seconds=0.02, data_dir=str(data.directory), read_latency_ms=1.0
    )
    with caplog.at_level("INFO"):
        rates = input_throughput.measure(options)
    assert len(rates) == 4 and all(len(each) == 2 and 0 < min(each) < 1e6 for each in rates.values())
    assert "The baseline pipeline reads" in caplog.text and "originals" in caplog.text.rpartition("reads")[2]


def test_table_compares_with_the_decode_and_the_baseline():
    rates = {"decode": (2000.0,), "input": (1800.0,), "baseline": (600.0,), "slow": (900.0,)}
    ratios = [[cell.strip() for cell in line.split("|")[4:6]] for line in input_throughput.table(rates).splitlines()]
    assert ratios[2:] == [["1.00", "3.33"], ["0.90", "3.00"], ["0.30", "1.00"], ["0.45", "1.50"]]


@pytest.mark.parametrize("source", ["originals", "prepared"])
def test_reads_of_slow_storage_take_longer_and_give_the_same(source, request, monkeypatch):
    split, delays = request.getfixturevalue(source).splits["train"], []
    monkeypatch.setattr(input_throughput.time, "sleep", delays.append)
    blocks = tf.data.Dataset.range(len(split)).batch(2).map(lambda block: (block,))
    found = [
        list(each.examples(blocks, lambda image_bytes, label: image_bytes).as_numpy_iterator())
        for each in (input_throughput._slow(split, 5.0), split)
    ]
    assert found[0] == found[1] and delays == [0.005] * len(split)


def test_bare_decode_of_records_gives_whole_crops(prepared):
    batch = next(iter(input_throughput._bare_decode(prepared.splits["train"], 227, 8))).numpy()
    assert batch.shape == (8, 227, 227, 3) and batch.dtype == np.uint8
    assert len({(image[0, 0, 0], image[0, 0, 1]) for image in batch}) > 4  # Windows at many places.


def test_bare_decode_of_originals_decodes_windows_inside_the_central_square(originals):
    split = originals.splits["train"]
    for batch in input_throughput._bare_decode(split, 227, 8).take(20).as_numpy_iterator():
        assert batch.shape == (8, 3)
        red, green, blue = batch.T.astype(int)
        # The crop's first pixel: at most 29/256 into a square that is centred in 300 x 420.
        wide = green > red + 15
        assert (abs(blue - 90) < 12).all() and wide.any()
        assert (red[wide] < 45).all() and (green[wide] > 25).all() and (green[wide] < 80).all()


def test_bare_decode_of_png_says_that_there_is_no_limit(tmp_path):
    tf.io.write_file(str(tmp_path / "a.png"), tf.io.encode_png(np.zeros((9, 9, 3), "uint8")))
    split = datasets.ImageFiles((str(tmp_path / "a.png"),), np.zeros(1, "int32"))
    with pytest.raises(errors.DataError, match="no JPEG files"):
        input_throughput._bare_decode(split, 227, 8)


@pytest.mark.parametrize("source", ["originals", "prepared"])
def test_baseline_crops_and_mirrors_at_random(source, request):
    split = request.getfixturevalue(source).splits["train"]
    images = np.concatenate([batch for batch in input_throughput._baseline(split, 227, 8).take(8).as_numpy_iterator()])
    assert images.shape == (64, 227, 227, 3) and images.dtype == np.float32
    mirrored = images[:, 100, 0, 1] > images[:, 100, -1, 1]
    assert 8 < mirrored.sum() < 56
    assert len({round(float(image[0, 0, 0])) for image in images}) > 10
