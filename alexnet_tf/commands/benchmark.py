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

from alexnet_tf.benchmarks import baselines
from alexnet_tf.commands import cli
from alexnet_tf.commands.options import ImageOptions
from alexnet_tf.network import architectures
from alexnet_tf.support import errors
from alexnet_tf.support.settings import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(ImageOptions):
    """What to measure, and against what."""

    arguments: tuple[str, ...] = ()
    data_dir: str | None = setting(
        None, "input: images, as for train; a small synthetic data set by default.", path="directory"
    )
    originals: str | None = setting(
        None,
        "input: what the baseline pipeline reads; by default what --data_dir was prepared from, or itself.",
        path="directory",
    )
    images: int = setting(20_000, "input: length of the simulated epoch, which repeats the images.", lower=1)
    read_latency_ms: float = setting(
        0.0,
        "input: also measure the training input with each read delayed by so many milliseconds, as slow storage would.",
        lower=0,
    )
    architecture: str = setting(
        "paper",
        "Which network; for input, whose recipe and image size.",
        choices=tuple(architectures.ARCHITECTURES),
    )
    batch_size: int = setting(128, "Images a step, over all devices and workers.", lower=1)
    precision: str = setting(
        "auto",
        "train, infer: 'auto' is what train uses here.",
        choices=("auto", "float32", "mixed_bfloat16", "mixed_float16"),
    )
    baseline: str | None = setting(
        None,
        "train, infer: the framework to compare with, which must be installed, in all its memory formats and "
        "precisions.",
        choices=tuple(baselines.BASELINES),
    )
    compile: bool = setting(True, "With --baseline=torch: also measure torch.compile, which compiles for minutes.")
    sweep: str | None = setting(
        None,
        "train, infer: a table of speeds by batch size, devices or workers instead.",
        choices=tuple(baselines.SWEEPS),
    )
    deterministic: bool = setting(True, "train, infer: as for train.")
    json: bool = setting(False, "train, infer: print JSON instead of tables.")
    rounds: int = setting(5, "Number of rounds; medians are reported.", lower=1)
    seconds: float = setting(2.0, "Shortest time of a trial, in seconds.", lower=0.1)


def main(options: Options) -> None:
    """Measures, and prints tables or JSON."""
    [what] = options.arguments if len(options.arguments) == 1 else [""]
    if what not in ("input", "train", "infer"):
        raise errors.UserError(
            "Give what to measure: python -m alexnet_tf benchmark input, train or infer. See --help."
        )
    baselines.check_options(what == "train", options.baseline, options.sweep)
    cli.import_tensorflow()
    cli.show(_input(options) if what == "input" else _model(options, what == "train"))


def _model(options: Options, is_training: bool) -> str:
    from alexnet_tf.benchmarks import model_throughput, report
    from alexnet_tf.support import devices

    result = model_throughput.measure(
        architectures.ARCHITECTURES[options.architecture],
        is_training=is_training,
        batch_size=options.batch_size,
        precision=devices.chosen_precision(options.precision),
        deterministic=options.deterministic,
        baseline=options.baseline,
        is_compiled=options.compile,
        sweep=options.sweep,
        num_rounds=options.rounds,
        seconds=options.seconds,
    )
    return report.as_json(result) if options.json else report.report(result)


def _input(options: Options) -> str:
    from alexnet_tf.benchmarks import input_throughput, report
    from alexnet_tf.data import discovery
    from alexnet_tf.support import devices

    devices.share_memory()
    data = discovery.find_dataset(options.data_dir) if options.data_dir else discovery.synthetic_dataset()
    originals = discovery.find_dataset(path) if (path := options.originals or data.source) else data
    architecture = architectures.ARCHITECTURES[options.architecture]
    changes: dict[str, Any] = {"batch_size": options.batch_size} | ({"resize": data.resize} if data.resize else {})
    cli.show(f"{data.summary()}\nThe baseline pipeline reads {originals.directory}.\n", flush=True)
    return report.input_report(
        input_throughput.benchmark_input(
            data,
            originals,
            recipe=dataclasses.replace(architecture.recipe, **changes),
            image_size=architecture.image_size,
            num_images=options.images,
            num_rounds=options.rounds,
            seconds=options.seconds,
            read_latency=options.read_latency_ms / 1000,
        )
    )
