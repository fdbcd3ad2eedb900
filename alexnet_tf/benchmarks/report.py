"""The results as tables for people and JSON for programs."""

import dataclasses
import json

from alexnet_tf.benchmarks import input_throughput, model_throughput

# Numbers of cores whose ceilings are reported for the input.
_CORES = (8, 16, 64)


def report(result: model_throughput.Throughput) -> str:
    """Returns a throughput as tables."""
    facts, other, peak = result.facts, result.baseline_facts, result.matmul_peak
    size = f"by {facts['sweep'].replace('_', ' ')}" if facts["sweep"] else f"batches of {facts['batch_size']}"
    lines = [
        f"{'Training steps' if facts['is_training'] else 'Inference'} of {facts['architecture']}, {size}, "
        f"{facts['precision']}, {'' if facts['deterministic'] else 'not '}deterministic",
        f"{', '.join([facts['cpu'], '%d cores' % facts['cores'], *facts['accelerators']])}; "
        f"{', '.join(f'{name} {version}' for name, version in facts['versions'].items())}",
        f"Medians of {facts['rounds']} interleaved rounds of at least {facts['seconds']:g} s, one process a framework",
        *(
            [f"{other['name']} {other['version']} on {other['device']}, {other['threads']} threads; {other['data']}"]
            if other
            else []
        ),
        "",
        f"{'':52} images/s             range   ms an image   % of peak   MiB",
        *(_line(speed.name, speed, result.share_of_peak(speed)) for speed in result.ours),
        *(_line(f"{other['name']} {speed.name}", speed, result.share_of_peak(speed)) for speed in result.baselines),
        _line("matmul peak: a product of square matrices", peak, 1.0, facts["flop"]),
        "",
        f"Matmul peak: {peak.median / 1e9:,.0f} GFLOP/s. The network: {facts['flop'] / 1e9:.2f} GFLOP an image.",
        f"MiB: peak memory of a step beyond {facts['state_bytes'] / 2**20:,.0f} MiB of weights"
        f"{' and momentum' if facts['is_training'] else ''}.",
    ]
    ratios = [
        f"{ratio:.2f} times {other['name']}'s best in {precision} ({speed.name})"
        for precision, (speed, ratio) in result.ratios().items()
    ]
    if ratios:
        lines.append(f"{result.best.name} is {', and '.join(ratios)}.")
    if any(len(speed.rounds) < len(peak.rounds) for speed in result.baselines):
        lines.append("A case with one figure was too slow in the warm-up to be the best of its precision, and pruned.")
    return "\n".join(lines + (["", *_stages(result)] if result.stages else []))


def _line(label, speed, share, unit=1.0):
    rate, low, high = (each / unit for each in (speed.median, min(speed.rounds), max(speed.rounds)))
    spread = f"{low:7.1f} - {high:7.1f}" if len(speed.rounds) > 1 else f"{'one round':>17}"
    memory = "" if speed.peak_bytes is None else f"{speed.peak_bytes / 2**20:6,.0f}"
    return f"{label:52} {rate:8.1f} {spread} {1000 / rate:13.2f} {share:11.0%}{memory}"


def _stages(result):
    """Returns the table of the stages, in milliseconds an image."""
    is_training, whole, total = result.facts["is_training"], 1000 / result.best.median, 0.0
    lines = [
        "Each stage by itself, on given activations, in ms an image; so the sum is only near the whole",
        f"{'':12} forward {'backward     both' if is_training else '':18}    share   % of peak",
    ]
    for stage in result.stages:
        scale = 1000 / result.facts["batch_size"]
        forward, backward = scale * stage.forward_seconds, scale * (stage.backward_seconds or 0.0)
        total += (both := forward + backward)
        columns = f"{backward:8.2f} {both:8.2f} " if is_training else f"{'':18}"
        share = f"{2000 * stage.multiply_adds / result.matmul_peak.median / both:11.0%}" if stage.multiply_adds else ""
        lines.append(f"{stage.name:12} {forward:7.2f} {columns}{both / whole:8.0%} {share}".rstrip())
    for name, value in ("sum", total), ("whole", whole):
        columns = f"{'':16} {value:8.2f} " if is_training else f"{value:7.2f} {'':18}"
        lines.append(f"{name:12} {columns}{value / whole:8.0%}")
    return lines


def as_json(result: model_throughput.Throughput) -> str:
    """Returns a throughput as JSON, with the medians and the ratios."""
    ratios = {kind: {"variant": speed.name, "ratio": ratio} for kind, (speed, ratio) in result.ratios().items()}
    return json.dumps(
        dataclasses.asdict(result)
        | {"best": result.best.name, "share_of_peak": result.share_of_peak(result.best), "ratios": ratios},
        indent=2,
    )


def input_report(result: input_throughput.InputThroughput) -> str:
    """Returns an input's throughput as tables."""
    speeds = {
        "bare decode of the same crops, from memory": result.decode,
        "the training input": result.pipeline,
        "baseline: decode, resize, crop, flip": result.baseline,
        "the training input, from slow storage": result.delayed,
    }
    lines = [f"{'':42} images/s            range   of the decode   of the baseline"]
    lines += [
        f"{name:42} {speed.median:8,.0f} {min(speed.rounds):7,.0f} - {max(speed.rounds):6,.0f} "
        f"{speed.median / result.decode.median:13.2f}    {speed.median / result.baseline.median:14.2f}"
        for name, speed in speeds.items()
        if speed
    ]
    first, last = result.first_batch_seconds
    lines += [
        "",
        (
            f"An epoch of {result.images:,} images: first batch after {first:.2f} s at its first step, {last:.2f} s at "
            f"its last. Peak memory of the training input: {result.peak_bytes / 2**20:,.0f} MiB."
        ),
    ]
    if result.stages:
        lines += ["", "Stages of the training input          processor time, in microseconds an image"]
        lines += [
            f"{stage.name:38} {stage.microseconds:8.1f}  {'one thread' if stage.is_serial else 'all cores'}"
            for stage in result.stages
        ]
        lines.append(f"{'The most that it gives, in images/s':38} Amdahl's law   serial stages beside each other")
        lines += [
            f"on {cores:2d} such cores{'':22} {amdahl:12,.0f}   {beside:31,.0f}"
            for cores in _CORES
            for amdahl, beside in [result.ceilings(cores)]
        ]
    return "\n".join(lines)
