"""Measures the speed of the input, of training and of inference, as ratios within one run.

    python -m alexnet_tf benchmark input --data_dir=DIR --images=1281167
    python -m alexnet_tf benchmark train --architecture=paper --batch_size=64 --precision=float32 --peer=torch
    python -m alexnet_tf benchmark infer --peer=openvino
    python -m alexnet_tf benchmark train --sweep=batch_size

`input` compares with a bare decode and with a baseline pipeline. `train` and `infer` compare with the machine's matmul
peak, which is measured beside them, and with the same network in another framework; they report the time of each group
of layers, and the memory. Only figures of one run can be compared. Next: python -m alexnet_tf train --data_dir=DIR
"""

import dataclasses

from absl import flags

from alexnet_tf import architectures, cli, errors

_DATA_DIR = flags.DEFINE_string("data_dir", None, "input: images, as for train; a small synthetic data set by default.")
_ORIGINALS = flags.DEFINE_string(
    "originals", None, "input: what the baseline pipeline reads; by default what --data_dir was prepared from, or itself.")
_IMAGES = flags.DEFINE_integer(
    "images", 20_000, "input: length of a simulated epoch, which repeats the images.", lower_bound=1)
_ARCHITECTURE = flags.DEFINE_enum(
    "architecture", "paper", list(architectures.ARCHITECTURES), "Which network; for input, whose recipe and image size.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Images a step.", lower_bound=1)
_PRECISION = flags.DEFINE_enum(
    "precision", "auto", ["auto", "float32", "mixed_bfloat16", "mixed_float16"],
    "train, infer: 'auto' is what train uses here.")
_PEER = flags.DEFINE_enum(
    "peer", None, ["torch", "openvino"],
    "train, infer: the framework to compare with, which must be installed; with every memory format and precision that it has.")
_COMPILE = flags.DEFINE_bool("compile", True, "With --peer=torch: also measure torch.compile, which compiles for minutes.")
_SWEEP = flags.DEFINE_enum(
    "sweep", None, ["batch_size", "devices", "workers"], "train, infer: a table of speeds by this instead of one measurement.")
_DETERMINISTIC = flags.DEFINE_bool("deterministic", True, "train, infer: as for train.")
_JSON = flags.DEFINE_bool("json", False, "train, infer: print JSON instead of tables.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Number of rounds; medians are reported.", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 2.0, "Shortest time of a trial, in seconds.", lower_bound=0.1)


def main(arguments: list[str]) -> None:
    """Measures, and prints tables or JSON."""
    measure = {"input": _input, "train": _network, "infer": _network}.get(" ".join(arguments))
    if measure is None:
        raise errors.UserError("Give what to measure: python -m alexnet_tf benchmark input, train or infer. See --help.")
    if _SWEEP.value and _PEER.value:
        raise errors.UserError("--sweep compares the network with itself; leave out --peer.")
    cli.check_directory("data_dir", _DATA_DIR.value)
    cli.check_directory("originals", _ORIGINALS.value)
    cli.import_tensorflow()
    print(measure(arguments[0] == "train"))


def _network(is_training: bool) -> str:
    from alexnet_tf.benchmarks import model_throughput, report
    from alexnet_tf.training import distribution

    precision = distribution.default_precision() if _PRECISION.value == "auto" else _PRECISION.value
    row, arguments = architectures.ARCHITECTURES[_ARCHITECTURE.value], {
        "is_training": is_training, "precision": precision, "deterministic": _DETERMINISTIC.value,
        "rounds": _ROUNDS.value, "seconds": _SECONDS.value}
    if _SWEEP.value:
        result, to_text = model_throughput.sweep(
            row, _SWEEP.value, batch_size=_BATCH_SIZE.value, **arguments), report.growth_report
    else:
        result, to_text = model_throughput.measure(
            row, batch_size=_BATCH_SIZE.value, peer=_PEER.value, is_compiled=_COMPILE.value, **arguments), report.report
    return report.as_json(result) if _JSON.value else to_text(result)


def _input(_: bool) -> str:
    from alexnet_tf.benchmarks import input_throughput
    from alexnet_tf.data import discovery

    data = discovery.find_dataset(_DATA_DIR.value) if _DATA_DIR.value else discovery.synthetic_dataset()
    originals = discovery.find_dataset(_ORIGINALS.value or data.source) if _ORIGINALS.value or data.source else data
    row = architectures.ARCHITECTURES[_ARCHITECTURE.value]
    changes = {"batch_size": _BATCH_SIZE.value} | ({"resize": data.resize} if data.resize else {})
    print(data.summary())
    print(f"The baseline pipeline reads {originals.directory}.\n", flush=True)
    return input_report(input_throughput.benchmark_input(
        data, originals, recipe=dataclasses.replace(row.recipe, **changes), image_size=row.image_size,
        num_images=_IMAGES.value, rounds=_ROUNDS.value, seconds=_SECONDS.value))


def input_report(result) -> str:
    """Returns what `benchmark input` measured as a table."""
    lines = [f"{'':42} images/s            range   of the decode  of the baseline"]
    for speed, what in (
            (result.decode, "bare decode of the same crops, from memory"), (result.pipeline, "the training input"),
            (result.obvious, "baseline: decode, resize, crop, flip")):
        lines.append(
            f"{what:42} {speed.median:8,.0f} {min(speed.rounds):7,.0f} - {max(speed.rounds):6,.0f} "
            f"{speed.median / result.decode.median:13.2f}    {speed.median / result.obvious.median:13.2f}")
    peak = "not known here" if result.peak_bytes is None else f"{result.peak_bytes / 2**20:,.0f} MiB"
    first, last = result.first_batch_seconds
    lines.append(
        f"\nAn epoch of {result.images:,} images: first batch after {first:.2f} s at its first step, {last:.2f} s at its "
        f"last. Peak memory of the training input: {peak}.")
    return "\n".join(lines)
