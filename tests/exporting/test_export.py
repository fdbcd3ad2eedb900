"""Tests of `exporting`: from a run to the files and the report."""

import dataclasses
import json
import os
import resource

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.data import discovery
from alexnet_tf.exporting import export, export_job, report, sample_images, tflite
from alexnet_tf.runs.config import MEAN_IMAGE
from alexnet_tf.runs.directory import RunDirectory, load_model
from alexnet_tf.support import errors, processors
from tests.helpers.run_configs import with_precision
from tests.helpers.saved_models import meta_graph


def export_run(run, **request):
    said = []
    return export.export(run, export.ExportOptions(**request), log=said.append), "\n".join(said)


def test_export_writes_and_compares_everything(run):
    artifacts, said = export_run(run)
    assert "small, 5 classes, last checkpoint, after epoch 30; exported in float32." in said
    assert "Compared on 120 images of" in said and "(val)" in said
    assert [each.name for each in artifacts] == [
        "Keras model",
        "SavedModel",
        "TFLite float32, LRN convolution",
        "TFLite float16, LRN convolution",
        "TFLite dynamic, LRN convolution",
        "TFLite int8, LRN builtin",
    ]
    keras_model, served, float32, _, dynamic, int8 = artifacts
    assert keras_model.agreement == served.agreement == float32.agreement == 1
    assert served.difference < 1e-5 and float32.difference < 1e-5 < dynamic.difference < 0.1
    assert int8.agreement > 0.8 and 1e-5 < int8.difference < 0.3
    assert all(each.milliseconds.keys() == {1, processors.available_cpus()} for each in artifacts)
    assert all(os.path.exists(each.path) for each in artifacts[1:])
    assert float32.size_bytes == os.path.getsize(float32.path) > int8.size_bytes
    content = json.loads((run.path / "export" / "report.json").read_text())
    assert [each["agreement"] for each in content["artifacts"]] == [each.agreement for each in artifacts]
    assert report.table(artifacts) in (run.path / "export" / "report.md").read_text()
    again, _ = export_run(run, formats=("saved_model",))
    assert again[1].path.endswith("/2") and os.path.exists(served.path)


def test_compare_counts():
    expected = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.3, 0.5], [0.4, 0.3, 0.3]], "float32")
    got = np.array([[0.6, 0.3, 0.1], [0.1, 0.3, 0.6], [0.2, 0.3, 0.5], [0.3, 0.4, 0.3]], "float32")
    artifact = export_job.compare("x", None, got, expected, np.array([0, 2, 2, 2]), size_bytes=7)
    assert artifact.agreement == 0.5 and artifact.top1_error == 0.25 and artifact.size_bytes == 7
    assert artifact.difference == pytest.approx(0.3)


def test_export_sees_a_network_that_differs(run, monkeypatch):
    real = tflite.convert

    def spoilt(network, *arguments, **options):
        network.get_layer("fc8").bias.assign([99, 0, 0, 0, 0])
        return real(network, *arguments, **options)

    monkeypatch.setattr(tflite, "convert", spoilt)
    [_, artifact], _ = export_run(run, formats=("tflite",), quantizations=("float32",))
    assert artifact.agreement < 0.5 and artifact.difference > 0.5


@pytest.mark.parametrize(("lrn", "name"), [("auto", "convolution"), ("builtin", "builtin")])
def test_export_computes_lrn_as_asked(run, lrn, name):
    [_, artifact], _ = export_run(run, formats=("tflite",), quantizations=("dynamic",), lrn=lrn)
    assert artifact.name.endswith(f"LRN {name}")


def test_export_rebuilds_a_mixed_run_in_float32(run):
    run.write_config(with_precision(run.read_config(), "mixed_bfloat16"), run.class_names())
    [_, served], said = export_run(run, formats=("saved_model",))
    assert "exported in float32 (trained in mixed_bfloat16)" in said and served.difference < 1e-5
    nodes = [node for function in meta_graph(served.path).graph_def.library.function for node in function.node_def]
    assert tf.bfloat16.as_datatype_enum not in {node.attr["T"].type for node in nodes}


def test_export_keeps_the_mean_image(run):
    mean_image = np.random.default_rng(0).uniform(0, 255, (67, 67, 3)).astype("float32")
    run.write_mean_image(mean_image)
    run.write_config(dataclasses.replace(run.read_config(), mean=MEAN_IMAGE), run.class_names())
    artifacts, _ = export_run(run, quantizations=("float32",))
    assert [each.difference < 1e-5 for each in artifacts] == [True] * 3
    images = tf.random.stateless_uniform([2, 67, 67, 3], (1, 2), 0, 255)
    logits = tf.saved_model.load(artifacts[1].path).signatures["images"](images)["logits"]
    other, _, _ = load_model(run)
    np.testing.assert_allclose(logits, other(images), rtol=0, atol=1e-4)


def test_export_without_images_compares_on_synthetic_ones_and_says_so(run):
    run_config = run.read_config()
    data = dataclasses.replace(run_config.data, directory="/nowhere/at/all")
    run.write_config(dataclasses.replace(run_config, data=data), run.class_names())
    artifacts, said = export_run(run, formats=("tflite",), quantizations=("float32", "int8"))
    assert "Compared on 100 synthetic images" in said and "int8 is left out" in said and "--data_dir=DIR" in said
    assert [each.name for each in artifacts] == ["Keras model", "TFLite float32, LRN convolution"]
    assert artifacts[1].top1_error is None and artifacts[1].difference < 1e-5
    assert "synthetic images" in (run.path / "export" / "report.md").read_text()


def test_export_takes_other_images(run, colours):
    artifacts, said = export_run(run, formats=("saved_model",), data_dir=str(colours / "val"))
    assert "Compared on 120 images of" in said and artifacts[1].top1_error is not None


@pytest.mark.parametrize("folders", [("cat", "dog"), ("",)], ids=["other classes", "a flat folder"])
def test_export_calibrates_on_any_images(run, colours, tmp_path, folders):
    for name in folders:
        (tmp_path / "any" / name).mkdir(parents=True)
        for number, source in enumerate(sorted((colours / "val").glob("*/1*.*"))):
            (tmp_path / "any" / name / f"{number}{source.suffix}").write_bytes(source.read_bytes())
    artifacts, said = export_run(run, formats=("tflite",), quantizations=("int8",), data_dir=str(tmp_path / "any"))
    assert "not of the run's classes" in said and artifacts[1].name == "TFLite int8, LRN builtin"
    assert [each.top1_error for each in artifacts] == [None, None] and artifacts[1].difference < 0.3


def test_crops_are_spread_over_the_split(colours):
    split = discovery.find_dataset(str(colours)).splits["train"]
    images, labels = sample_images.take_crops(split, 67, "paper", 10)
    assert images.shape == (10, 67, 67, 3) and images.dtype == np.uint8
    assert sorted(set(labels.tolist())) == [0, 1, 2, 3, 4]


def test_mistakes_end_in_a_message(run, tmp_path):
    with pytest.raises(errors.UserError, match="--quantization takes float32, .*; got int4"):
        export.ExportOptions(quantizations=("int4", "int8"))
    with pytest.raises(errors.UserError, match="--formats takes saved_model, tflite, .*; got nothing"):
        export_run(run, formats=())
    with pytest.raises(errors.RunError, match="is no run"):
        export_run(RunDirectory(tmp_path / "absent"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.DataError, match="empty"):
        export_run(run, data_dir=str(tmp_path / "empty"))
    names = run.class_names()
    run.write_config(run.read_config(), names[:3])
    with pytest.raises(errors.RunError, match="has 3 lines, but the run has 5 classes"):
        export_run(run)
    (run.path / "checkpoints" / "00000150.npz").unlink()
    run.write_config(run.read_config(), names)
    with pytest.raises(errors.RunError, match="has no checkpoint yet"):
        export_run(run)
    assert not (run.path / "export").exists()


def test_export_on_a_full_disk_keeps_the_old_file(run):
    [_, artifact], _ = export_run(run, formats=("tflite",), quantizations=("float32",))
    before = {path: path.read_bytes() for path in (run.path / "export").rglob("*") if path.is_file()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (artifact.size_bytes // 2, limits[1]))
    try:
        with pytest.raises(export_job.ExportError, match="alexnet_float32.tflite could not be written: File too large"):
            export_run(run, formats=("tflite",), quantizations=("float32",))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path: path.read_bytes() for path in (run.path / "export").rglob("*") if path.is_file()} == before


def test_what_was_finished_before_an_error_has_its_report(run, monkeypatch):
    def fail(*_, **__):
        raise export_job.ExportError("No space left on device.")

    monkeypatch.setattr(tflite, "convert", fail)
    with pytest.raises(export_job.ExportError, match="No space left on device. Finished before: SavedModel; see .*"):
        export_run(run)
    content = json.loads((run.path / "export" / "report.json").read_text())
    assert [each["name"] for each in content["artifacts"]] == ["Keras model", "SavedModel"]
    assert content["artifacts"][1]["difference"] < 1e-5


def test_table_lines_up():
    artifact = export_job.Artifact(
        "a", None, 1_500_000, 0.995, 2e-6, None, {1: 12.34, processors.available_cpus(): 5.0}, "2.4.0"
    )
    other = dataclasses.replace(artifact, name="a longer name", top1_error=0.25)
    lines = report.table([artifact, other]).splitlines()
    assert len({len(line) for line in lines}) == 1 and len({line.count("|") for line in lines}) == 1
    assert "| 1.5" in lines[2] and "99.50%" in lines[2] and "12.3" in lines[2]
    assert "| 0.2500      | 0.7500   |" in lines[3] and "| top-1 error | accuracy |" in lines[0]
    assert "| 2.4.0 " in lines[2] and lines[0].endswith("| reads from runtime |")
