"""Measures speed as ratios within one run: of the input against the decoder and the obvious pipeline.

    python -m alexnet_tf benchmark input --data_dir=DIR [--originals=DIR] [--images=1281167]
"""

import dataclasses

from absl import flags

from alexnet_tf import config, startup

startup.import_tensorflow()

from alexnet_tf import benchmarking, datasets  # noqa: E402

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Images, as for train.py. Drawn ones by default.")
_ORIGINALS = flags.DEFINE_string(
    "originals", None, "What the obvious pipeline reads; by default what --data_dir was prepared from, or itself.")
_ARCHITECTURE = flags.DEFINE_enum("architecture", "paper", list(config.ARCHITECTURES), "Whose recipe and input size.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Images a step.", lower_bound=1)
_IMAGES = flags.DEFINE_integer(
    "images", 20_000, "How long an epoch is pretended to be, by taking the images again and again.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "How often each one's turn comes; the medians are told.", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 2.0, "How long a turn is.", lower_bound=0.1)


def main(argv):
    if argv[1:] != ["input"]:
        raise config.UserError("Say what to measure: python -m alexnet_tf benchmark input --data_dir=DIR")
    data = datasets.find(_DATA_DIR.value) if _DATA_DIR.value else datasets.drawn()
    originals = datasets.find(_ORIGINALS.value or data.source) if _ORIGINALS.value or data.source else data
    row = config.ARCHITECTURES[_ARCHITECTURE.value]
    changes = {"batch_size": _BATCH_SIZE.value} | ({"resize": data.resize} if data.resize else {})
    print(data.summary())
    print(f"The obvious pipeline reads {originals.directory}.\n", flush=True)
    result = benchmarking.benchmark_input(
        data, originals, recipe=dataclasses.replace(row.recipe, **changes), image_size=row.image_size,
        num_images=_IMAGES.value, rounds=_ROUNDS.value, seconds=_SECONDS.value)
    print(report(result))


def report(result) -> str:
    """Returns the result as a table."""
    lines = [f"{'':42} images/s            range   of the decode   of the obvious"]
    for speed, what in (
            (result.decode, "bare decode of the same crops, from memory"), (result.pipeline, "the training input"),
            (result.obvious, "obvious: decode, resize, crop, flip")):
        lines.append(
            f"{what:42} {speed.median:8,.0f} {min(speed.rounds):7,.0f} - {max(speed.rounds):6,.0f} "
            f"{speed.median / result.decode.median:13.2f}    {speed.median / result.obvious.median:13.2f}")
    peak = "not known here" if result.peak_bytes is None else f"{result.peak_bytes / 2**20:,.0f} MiB"
    first, last = result.first_batch_seconds
    lines.append(
        f"\nAn epoch of {result.images:,} images: first batch after {first:.2f} s at its first step, {last:.2f} s at its "
        f"last. Peak memory of the training input: {peak}.")
    return "\n".join(lines)


def run():
    startup.run(main)
