"""Tests of `exporting`: from a run to the files and the report."""

import dataclasses
import os
import resource
import shutil

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.data import discovery
from alexnet_tf.exporting import formats, report, sample_images, tflite
from alexnet_tf.exporting.export import ExportError
from alexnet_tf.runs.config import MEAN_IMAGE
from alexnet_tf.runs.directory import RunDirectory, load_model
from alexnet_tf.support import errors, processors
from tests.helpers.run_configs import with_precision
from tests.helpers.saved_models import meta_graph


def test_export_writes_and_compares_everything(run, export_run):
    artifacts, said = export_run(run)
    assert "small, 5 classes, last checkpoint, after epoch 30; in float32." in said
    assert "Compared on 120 images of" in said and "(val)" in said
    assert [each.name for each in artifacts] == [
        "Keras model",
        "SavedModel",
        "TFLite float32, LRN convolution",
        "TFLite float16, LRN convolution",
        "TFLite dynamic, LRN convolution",
        "TFLite int8, LRN convolution",
    ]
    keras_model, served, float32, _, dynamic, int8 = artifacts
    assert keras_model.agreement == served.agreement == float32.agreement == 1
    assert served.difference < 1e-5 and float32.difference < 1e-5 < dynamic.difference < 0.1
    assert int8.agreement > 0.8 and 1e-5 < int8.difference < 0.3
    count = processors.available_cpus()
    assert keras_model.milliseconds.keys() == served.milliseconds.keys() == {f"{count} threads"}
    assert float32.milliseconds.keys() == {"1 thread", f"{count} threads"}
    assert served.next_step.endswith("saved_model/SERVING.md")
    directory = run.path / "export"
    assert float32.size_bytes == os.path.getsize(directory / float32.path) > int8.size_bytes
    assert report.read(directory) == artifacts[1:]
    assert report.table(artifacts) in (directory / "report.md").read_text()


def test_the_report_keeps_what_was_exported_before_and_is_there(run, export_run):
    [_, *before], _ = export_run(run, "saved_model", "tflite", quantization=("float32", "int8"))
    directory = run.path / "export"
    (directory / before[2].path).unlink()
    [_, again], _ = export_run(run, "tflite", quantization=("float32",), lrn="builtin", images=30)
    assert (directory / before[0].path).exists() and again.path == before[1].path and again.name != before[1].name
    assert report.read(directory) == [again, before[0]]
    text = (directory / "report.md").read_text()
    assert "* SavedModel is of another export: last checkpoint, after epoch 30; 120 images of" in text
    [_, newer], _ = export_run(run, "saved_model")
    assert newer.path == "saved_model/2" and report.read(directory) == [newer, again]


def test_compare_counts():
    expected = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.3, 0.5], [0.4, 0.3, 0.3]], "float32")
    got = np.array([[0.6, 0.3, 0.1], [0.1, 0.3, 0.6], [0.2, 0.3, 0.5], [0.3, 0.4, 0.3]], "float32")
    assert report.compare(got, expected) == (0.5, pytest.approx(0.3))


def test_export_sees_a_network_that_differs(run, export_run, monkeypatch):
    real = tflite.convert

    def spoilt(network, *arguments, **options):
        network.get_layer("fc8").bias.assign([99, 0, 0, 0, 0])
        return real(network, *arguments, **options)

    monkeypatch.setattr(tflite, "convert", spoilt)
    [keras_model, artifact], _ = export_run(run, "tflite", quantization=("float32",))
    assert artifact.agreement < 0.5 and artifact.difference > 0.5
    assert keras_model.top1_error < 0.5 < artifact.top1_error


def test_export_rebuilds_a_mixed_run_in_float32(run, export_run):
    run.write_config(with_precision(run.read_config(), "mixed_bfloat16"), run.class_names())
    [_, served], said = export_run(run, "saved_model")
    assert "in float32 (trained in mixed_bfloat16)" in said and served.difference < 1e-5
    nodes = [
        node
        for function in meta_graph(run.path / "export" / served.path).graph_def.library.function
        for node in function.node_def
    ]
    assert tf.bfloat16.as_datatype_enum not in {node.attr["T"].type for node in nodes}


def test_export_keeps_the_mean_image(run, export_run):
    mean_image = np.random.default_rng(0).uniform(0, 255, (67, 67, 3)).astype("float32")
    run.write_mean_image(mean_image)
    run.write_config(dataclasses.replace(run.read_config(), mean=MEAN_IMAGE), run.class_names())
    artifacts, _ = export_run(run, quantization=("float32",))
    assert [each.difference < 1e-5 for each in artifacts] == [True] * 3
    images = tf.random.stateless_uniform([2, 67, 67, 3], (1, 2), 0, 255)
    logits = tf.saved_model.load(str(run.path / "export" / artifacts[1].path)).signatures["images"](images)["logits"]
    other, _, _ = load_model(run)
    np.testing.assert_allclose(logits, other(images), rtol=0, atol=1e-4)


def test_export_without_images_compares_on_synthetic_ones_and_says_so(run, export_run):
    run_config = run.read_config()
    data = dataclasses.replace(run_config.data, directory="/nowhere/at/all")
    run.write_config(dataclasses.replace(run_config, data=data), run.class_names())
    artifacts, said = export_run(run, "tflite", quantization=("float32", "int8"))
    assert "Compared on 100 synthetic images" in said and "int8 is left out" in said and "--data_dir=DIR" in said
    assert [each.name for each in artifacts] == ["Keras model", "TFLite float32, LRN convolution"]
    assert artifacts[1].top1_error is None and artifacts[1].difference < 1e-5
    with pytest.raises(ExportError, match="int8: its ranges must be found on real images.*--data_dir=DIR"):
        export_run(run, "tflite", quantization=("int8",))
    text = (run.path / "export" / "report.md").read_text()
    assert "Synthetic images take their place." in text and "int8 is left out" in text


def test_export_takes_other_images(run, export_run, colours):
    artifacts, said = export_run(run, "saved_model", data_dir=str(colours / "val"))
    assert "Compared on 120 images of" in said and artifacts[1].top1_error is not None


def test_export_takes_images_of_some_of_the_runs_classes(run, colours, tmp_path):
    for name in ("red", "blue"):
        shutil.copytree(colours / "val" / name, tmp_path / name)
    images = sample_images.Images(run.read_config(), formats.NetworkOptions(data_dir=str(tmp_path)))
    assert images.notes == [] and set(images.to_compare(48).labels.tolist()) == {
        run.class_names().index(name) for name in ("red", "blue")
    }


@pytest.mark.parametrize("folders", [("cat", "dog"), ("",)], ids=["other classes", "a flat folder"])
def test_export_calibrates_on_any_images(run, export_run, colours, tmp_path, folders):
    for name in folders:
        (tmp_path / "any" / name).mkdir(parents=True)
        for number, source in enumerate(sorted((colours / "val").glob("*/1*.*"))):
            (tmp_path / "any" / name / f"{number}{source.suffix}").write_bytes(source.read_bytes())
    artifacts, said = export_run(run, "tflite", quantization=("int8",), data_dir=str(tmp_path / "any"))
    assert "not of the run's classes" in said and artifacts[1].name == "TFLite int8, LRN convolution"
    assert [each.top1_error for each in artifacts] == [None, None] and artifacts[1].difference < 0.3


def test_images_are_spread_over_the_split(run, colours):
    images = sample_images.Images(run.read_config(), formats.NetworkOptions())
    sample = images.to_compare(10)
    assert sample.pixels.shape == (10, 67, 67, 3) and sample.pixels.dtype == np.uint8
    assert sorted(set(sample.labels.tolist())) == [0, 1, 2, 3, 4]
    assert len(images.to_calibrate()) == len(discovery.find_dataset(str(colours)).splits["train"])


def test_mistakes_end_in_a_message(run, export_run, tmp_path):
    with pytest.raises(errors.UserError, match="quantization must be one of float32, .*; got 'int4'"):
        export_run(run, quantization=("int4", "int8"))
    with pytest.raises(errors.UserError, match="formats must be one of saved_model, tflite, .*; got 'tf-lite'"):
        export_run(run, "tf-lite")
    with pytest.raises(errors.RunError, match="There is no run in "):
        export_run(RunDirectory(tmp_path / "absent"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.DataError, match="empty"):
        export_run(run, data_dir=str(tmp_path / "empty"))
    names = run.class_names()
    run.write_config(run.read_config(), names[:3])
    with pytest.raises(errors.RunError, match="has 3 lines, but the run has 5 classes"):
        export_run(run)
    assert not (run.path / "export").exists()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own, when it saves.
def test_export_on_a_full_disk_keeps_the_old_file(run, export_run):
    [_, artifact], _ = export_run(run, "tflite", quantization=("float32",))
    before = {path: path.read_bytes() for path in (run.path / "export").rglob("*") if path.is_file()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (artifact.size_bytes // 2, limits[1]))
    try:
        for name in ("tflite", "keras"):
            with pytest.raises(ExportError, match="File too large"):
                export_run(run, name, quantization=("float32",))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path: path.read_bytes() for path in (run.path / "export").rglob("*") if path.is_file()} == before


def test_what_was_finished_before_an_error_has_its_report(run, export_run, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tflite, "convert", fail)
    with pytest.raises(ExportError, match=r"No space left on device. Finished before: SavedModel; see .*report\.md"):
        export_run(run)
    [served] = report.read(run.path / "export")
    assert served.name == "SavedModel" and served.difference < 1e-5


def test_table_has_a_dash_for_what_is_not_known():
    artifact = report.Artifact("a", None, "", 0.995, 2e-6, None, 1_500_000, {"1 thread": 12.34}, "2.4.0")
    other = dataclasses.replace(artifact, name="b", top1_error=0.25, milliseconds={"2 threads": 5.0}, runtime=None)
    _, _, *lines = report.table([artifact, other]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells == [
        ["a", "1.5", "99.50%", "2e-06", "-", "-", "12.3", "-", "2.4.0"],
        ["b", "1.5", "99.50%", "2e-06", "0.2500", "0.7500", "-", "5.0", "-"],
    ]
