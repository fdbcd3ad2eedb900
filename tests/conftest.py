"""What all tests share: a quiet TensorFlow with two CPU devices, few threads and exact float32, and a small network."""

import gc
import os

import pytest

# Before TensorFlow is imported, here and in every process that a test starts. Two threads between operations, so that
# operations of two devices can wait for each other.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "2", "OMP_NUM_THREADS": "1"}


def pytest_addoption(parser):
    """Adds --gpu."""
    parser.addoption("--gpu", action="store_true", help="Run the tests that need a GPU, and no others.")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Returns the number of worker processes: none for single files, whose tests a second start would only delay."""
    paths = [argument.partition("::")[0] for argument in config.args]
    if config.getoption("--gpu") or all(path.endswith(".py") for path in paths):
        config.option.dist = "no"
        return 0
    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())


def pytest_configure(config):
    """Sets TensorFlow up, in the processes that run tests."""
    if not config.getoption("--gpu"):
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    if config.getoption("numprocesses", 0) and not hasattr(config, "workerinput"):
        return
    import tensorflow as tf

    from alexnet_tf.commands import cli

    cli.show_log()
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    tf.config.experimental.enable_tensor_float_32_execution(False)


def pytest_collection_modifyitems(config, items):
    """Skips the tests that need a GPU, or all others with --gpu."""
    wants_gpu = config.getoption("--gpu")
    for item in items:
        if bool(item.get_closest_marker("gpu")) != wants_gpu:
            item.add_marker(pytest.mark.skip(reason="needs no GPU" if wants_gpu else "needs --gpu"))


def pytest_collection_finish():
    """Leaves what was imported and collected out of every later garbage collection, which would walk through it."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Escapes names that are no Unicode in what a test printed: xdist cannot send them from process to process."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode("utf-8")) for name, text in report.sections
    ]
    if report.failed:
        text = str(report.longrepr)
        escaped = text.encode("utf-8", "backslashreplace").decode("utf-8")
        report.longrepr = report.longrepr if text == escaped else escaped
    return report


@pytest.fixture(scope="session")
def colours(tmp_path_factory):
    """Class folders: 20 training and 24 validation images of each of five colours, JPEG and PNG, of several shapes."""
    from tests.helpers import colours as helper

    return helper.write_images(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="session")
def small_run(colours, tmp_path_factory):
    """A run of SMALL that tells the colours apart."""
    from tests.helpers import colours as helper

    return helper.fit_small(colours, tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture(autouse=True)
def _fresh_settings():
    yield
    import keras
    from tensorflow.python.framework import config as tf_config

    keras.config.set_dtype_policy("float32")
    tf_config.disable_op_determinism()


@pytest.fixture(autouse=True, scope="module")
def _fresh_keras():
    yield
    import keras

    # After each test it would take longer than most of them do: it drops the kernels of every traced function.
    keras.backend.clear_session()
