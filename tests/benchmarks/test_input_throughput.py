"""Tests of `input_throughput`: that each case does what it is named after; not how fast it is."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.benchmarks import input_throughput, rounds
from alexnet_tf.data import datasets, discovery, prepare
from alexnet_tf.network import recipes
from alexnet_tf.support import errors

RECIPE = recipes.Recipe(batch_size=8)


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
def test_benchmark_input_measures_three_cases_in_each_round(source, originals, request, monkeypatch):
    monkeypatch.setattr(rounds, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(input_throughput, "_STAGE_IMAGES", 16)
    result = input_throughput.benchmark_input(
        request.getfixturevalue(source),
        originals,
        recipe=RECIPE,
        image_size=227,
        num_images=100,
        num_rounds=2,
        seconds=0.02,
        read_latency=0.001,
    )
    for speed in (result.pipeline, result.decode, result.baseline, result.delayed):
        assert len(speed.rounds) == 2 and all(0 < each < 1e6 for each in speed.rounds)
        assert min(speed.rounds) <= speed.median <= max(speed.rounds)
    assert result.images == 100 and all(0 < seconds < 60 for seconds in result.first_batch_seconds)
    assert 0 <= result.peak_bytes < 2**30
    assert [stage.name for stage in result.stages] == [
        "order and random numbers",
        "reading",
        "decoding and augmentation",
        "batching",
    ]
    decoding = result.stages[2].microseconds  # Most of the time, and no more than a core has.
    assert 50 < decoding < 20_000 and decoding > result.stages[0].microseconds


def test_reads_are_delayed_in_the_trial_of_slow_storage_only(originals, monkeypatch):
    delays = []
    monkeypatch.setattr(
        input_throughput.reading,
        "simulated_latency",
        lambda seconds: delays.append(seconds) or contextlib.nullcontext(),
    )
    batches = tf.data.Dataset.from_tensors(0).repeat()
    assert all(input_throughput._trial(batches, 8, latency)(0.0) > 0 for latency in (0.0, 0.005))
    assert delays == [0.0, 0.005]


def test_ceilings_are_amdahls_and_the_longest_serial_stages():
    speed = rounds.Speed("any", (1.0,))
    stages = tuple(input_throughput.InputStage("", *each) for each in ((10.0, True), (640.0, False), (30.0, True)))
    result = input_throughput.InputThroughput(speed, speed, speed, 0, (0.0, 0.0), 1, stages=stages)
    assert result.ceilings(1) == pytest.approx((1e6 / 680, 1e6 / 680))
    assert result.ceilings(16) == pytest.approx((1e6 / 80, 1e6 / 42.5))
    assert result.ceilings(64) == pytest.approx((1e6 / 50, 1e6 / 30))


def test_bare_decode_of_records_gives_whole_crops(prepared):
    batch = next(iter(input_throughput._bare_decode(prepared.splits["train"], 227, RECIPE))).numpy()
    assert batch.shape == (8, 227, 227, 3) and batch.dtype == np.uint8
    assert len({(image[0, 0, 0], image[0, 0, 1]) for image in batch}) > 4  # Windows at many places.


def test_bare_decode_of_originals_decodes_windows_inside_the_central_square(originals):
    split = originals.splits["train"]
    for batch in input_throughput._bare_decode(split, 227, RECIPE).take(20).as_numpy_iterator():
        assert batch.shape == (8, 3)
        red, green, blue = batch.T.astype(int)
        # The crop's first pixel: at most 29/256 into a square that is centred in 300 x 420.
        wide = green > red + 15
        assert (abs(blue - 90) < 12).all() and wide.any()
        assert (red[wide] < 45).all() and (green[wide] > 25).all() and (green[wide] < 80).all()


def test_bare_decode_of_png_says_that_there_is_no_limit(tmp_path):
    for number in range(3):
        tf.io.write_file(str(tmp_path / f"{number}.png"), tf.io.encode_png(np.zeros((9, 9, 3), "uint8")))
    split = datasets.ImageFiles(tuple(map(str, tmp_path.glob("*.png"))), np.zeros(3, "int32"))
    with pytest.raises(errors.DataError, match="no JPEG files"):
        input_throughput._bare_decode(split, 227, RECIPE)


@pytest.mark.parametrize("source", ["originals", "prepared"])
def test_baseline_crops_and_mirrors_at_random(source, request):
    split = request.getfixturevalue(source).splits["train"]
    images = np.concatenate([batch for batch in input_throughput._baseline(split, 227, 8).take(8).as_numpy_iterator()])
    assert images.shape == (64, 227, 227, 3) and images.dtype == np.float32
    mirrored = images[:, 100, 0, 1] > images[:, 100, -1, 1]
    assert 8 < mirrored.sum() < 56
    assert len({round(float(image[0, 0, 0])) for image in images}) > 10
