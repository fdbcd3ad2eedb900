"""Measures the speed of the input, of training and of inference, as ratios within one run.

    python -m alexnet_tf benchmark input --data_dir=DIR --images=1281167
    python -m alexnet_tf benchmark train --architecture=paper --batch_size=64 --precision=float32 --baseline=torch
    python -m alexnet_tf benchmark infer --baseline=openvino
    python -m alexnet_tf benchmark train --sweep=batch_size

`input` compares the training input with a bare decode and with the usual pipeline, and reports what bounds it on more
cores. `train` and `infer` compare with the machine's matmul peak, measured in the same rounds, and with the same
network in another framework; they report the time of each stage and the peak memory. Only figures of one run can be
compared.
Next: python -m alexnet_tf train --data_dir=DIR
"""

import dataclasses
from typing import Any

from absl import flags

from alexnet_tf.benchmarks import baselines
from alexnet_tf.commands import cli
from alexnet_tf.network import architectures
from alexnet_tf.support import errors

_DATA_DIR = flags.DEFINE_string("data_dir", None, "input: images, as for train; a small synthetic data set by default.")
_ORIGINALS = flags.DEFINE_string(
    "originals",
    None,
    "input: what the baseline pipeline reads; by default what --data_dir was prepared from, or itself.",
)
_IMAGES = flags.DEFINE_integer(
    "images", 20_000, "input: length of the simulated epoch, which repeats the images.", lower_bound=1
)
cli.define_image_limit()
_READ_LATENCY = flags.DEFINE_float(
    "read_latency_ms",
    0.0,
    "input: also measure the training input with each read delayed by so many milliseconds, as slow storage would.",
    lower_bound=0.0,
)
_ARCHITECTURE = flags.DEFINE_enum(
    "architecture",
    "paper",
    list(architectures.ARCHITECTURES),
    "Which network; for input, whose recipe and image size.",
    case_sensitive=False,
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Images a step, over all devices and workers.", lower_bound=1)
_PRECISION = flags.DEFINE_enum(
    "precision",
    "auto",
    ["auto", "float32", "mixed_bfloat16", "mixed_float16"],
    "train, infer: 'auto' is what train uses here.",
)
_BASELINE = flags.DEFINE_enum(
    "baseline",
    None,
    list(baselines.BASELINES),
    "train, infer: the framework to compare with, which must be installed, in all its memory formats and precisions.",
)
_COMPILE = flags.DEFINE_bool(
    "compile", True, "With --baseline=torch: also measure torch.compile, which compiles for minutes."
)
_SWEEP = flags.DEFINE_enum(
    "sweep", None, list(baselines.SWEEPS), "train, infer: a table of speeds by batch size, devices or workers instead."
)
_DETERMINISTIC = flags.DEFINE_bool("deterministic", True, "train, infer: as for train.")
_JSON = flags.DEFINE_bool("json", False, "train, infer: print JSON instead of tables.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Number of rounds; medians are reported.", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 2.0, "Shortest time of a trial, in seconds.", lower_bound=0.1)


def main(arguments: list[str]) -> None:
    """Measures, and prints tables or JSON."""
    measure = {"input": _input, "train": _model, "infer": _model}.get(" ".join(arguments))
    if measure is None:
        raise errors.UserError(
            "Give what to measure: python -m alexnet_tf benchmark input, train or infer. See --help."
        )
    cli.check_directory("data_dir", _DATA_DIR.value)
    cli.check_directory("originals", _ORIGINALS.value)
    baselines.check_options(arguments[0] == "train", _BASELINE.value, _SWEEP.value)
    cli.import_tensorflow()
    cli.show(measure(arguments[0] == "train"))


def _model(is_training: bool) -> str:
    from alexnet_tf.benchmarks import model_throughput, report
    from alexnet_tf.support import devices

    result = model_throughput.measure(
        architectures.ARCHITECTURES[_ARCHITECTURE.value],
        is_training=is_training,
        batch_size=_BATCH_SIZE.value,
        precision=devices.chosen_precision(_PRECISION.value),
        deterministic=_DETERMINISTIC.value,
        baseline=_BASELINE.value,
        is_compiled=_COMPILE.value,
        sweep=_SWEEP.value,
        num_rounds=_ROUNDS.value,
        seconds=_SECONDS.value,
    )
    return report.as_json(result) if _JSON.value else report.report(result)


def _input(_: bool) -> str:
    from alexnet_tf.benchmarks import input_throughput, report
    from alexnet_tf.data import discovery
    from alexnet_tf.support import devices

    devices.share_memory()
    data = discovery.find_dataset(_DATA_DIR.value) if _DATA_DIR.value else discovery.synthetic_dataset()
    originals = discovery.find_dataset(path) if (path := _ORIGINALS.value or data.source) else data
    architecture = architectures.ARCHITECTURES[_ARCHITECTURE.value]
    changes: dict[str, Any] = {"batch_size": _BATCH_SIZE.value} | ({"resize": data.resize} if data.resize else {})
    cli.show(f"{data.summary()}\nThe baseline pipeline reads {originals.directory}.\n", flush=True)
    return report.input_report(
        input_throughput.benchmark_input(
            data,
            originals,
            recipe=dataclasses.replace(architecture.recipe, **changes),
            image_size=architecture.image_size,
            num_images=_IMAGES.value,
            num_rounds=_ROUNDS.value,
            seconds=_SECONDS.value,
            read_latency=_READ_LATENCY.value / 1000,
        )
    )
