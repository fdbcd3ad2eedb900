"""What was measured, in words: tables for people and JSON for programs, of the results of `network_speed`."""

import dataclasses
import json

_WIDTH = 52


def report(result) -> str:
    """Returns a `network_speed.NetworkSpeed` as tables."""
    [batch_size] = result.facts["batch_sizes"]
    lines = [
        *_header(result.facts, f"batches of {batch_size}"), *_baseline_header(result.peer_facts), "",
        f"{'':{_WIDTH}} images/s           range   ms an image   of the floor"]
    name = result.peer_facts.get("name")
    for speed in (*result.ours, *result.peers):
        label = speed.name if speed in result.ours else f"{name} {speed.name}"
        lines.append(f"{label:{_WIDTH}} {_speed(speed)} {1000 / speed.median:13.2f} {result.share(speed):14.2f}")
    lines += [
        f"{'floor: a product of square matrices':{_WIDTH}} {result.floor.median / result.flop:8.1f} "
        f"{_range(result.floor, result.flop)} {1000 * result.flop / result.floor.median:13.2f} {1:14.2f}",
        "", f"The floor is {result.floor.median / 1e9:,.0f} GFLOP/s; the network has {result.flop / 1e9:.2f} GFLOP an image."]
    ratios = [
        f"{ratio:.2f} times {name}'s best in {precision} ({speed.name})"
        for precision, (speed, ratio) in _ratios(result).items()]
    if ratios:
        lines.append(f"{result.best.name} is {', and '.join(ratios)}.")
    if any(len(speed.rounds) < len(result.floor.rounds) for speed in result.peers):
        lines.append("A variant with one figure was too slow in its first turn to be the best of its precision.")
    return "\n".join([*lines, _memory(result), "", *_groups(result, batch_size)])


def growth_report(result) -> str:
    """Returns a `network_speed.Growth` as a table."""
    unit = result.sweep.replace("_", " ")
    lines = [*_header(result.facts, f"by {unit}"), "", (
        f"{unit:>12} images/s           range   ms an image   of the floor   memory beyond weights, MiB")]
    for value, speed, peak in result.points:
        share = speed.median * result.flop / result.floor.median
        lines.append(f"{value:12} {_speed(speed)} {1000 / speed.median:13.2f} {share:14.2f} {_mebibytes(peak):>29}")
    lines += ["", f"The floor is {result.floor.median / 1e9:,.0f} GFLOP/s, {result.flop / 1e9:.2f} GFLOP an image."]
    return "\n".join(lines)


def as_json(result) -> str:
    """Returns either result as JSON, with the medians and the ratios."""
    def plain(value):
        if dataclasses.is_dataclass(value):
            value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)} | (
                {"median": value.median} if hasattr(value, "median") else {})
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items()}
        return [plain(each) for each in value] if isinstance(value, (list, tuple)) else value

    extra = {}
    if hasattr(result, "ours"):
        extra = {"best": result.best.name, "share_of_floor": result.share(result.best), "ratios": {
            precision: {"variant": speed.name, "ratio": ratio} for precision, (speed, ratio) in _ratios(result).items()}}
    return json.dumps(plain(result) | extra, indent=2)


def _header(facts, size):
    what = "Training steps" if facts["is_training"] else "Inference"
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    machine = ", ".join([facts["cpu"], f"{facts['cores']} cores", *facts["accelerators"]])
    return [
        f"{what} of {facts['architecture']}, {size}, {facts['precision']}, "
        f"{'' if facts['deterministic'] else 'not '}deterministic",
        f"{machine}; {versions}",
        f"Medians of {facts['rounds']} turns of at least {facts['seconds']:g} s, in alternation, each engine in its own "
        "process"]


def _baseline_header(facts):
    return [f"{facts['name']} {facts['version']}, {facts['threads']} threads; {facts['data']}"] if facts else []


def _speed(speed, unit=1.0):
    return f"{speed.median / unit:8.1f} {_range(speed, unit)}"


def _range(speed, unit=1.0):
    if len(speed.rounds) == 1:
        return f"{'one turn':>15}"
    return f"{min(speed.rounds) / unit:6.1f} - {max(speed.rounds) / unit:6.1f}"


def _ratios(result) -> dict:
    """Returns {precision: (the peer's best, our best over it)}."""
    return {key: (speed, result.best.median / speed.median) for key, speed in result.peer_bests().items()}


def _memory(result):
    what = "Weights and momentum" if result.facts["is_training"] else "Weights"
    return (f"{what}: {_mebibytes(result.state_bytes)} MiB. Memory at most in a step, beyond them: "
            f"{_mebibytes(result.peak_bytes)} MiB.")


def _mebibytes(count):
    return "unknown" if count is None else f"{count / 2**20:,.0f}"


def _groups(result, batch_size):
    """Returns the table of the layer groups, in milliseconds an image."""
    is_training = result.facts["is_training"]
    lines = [
        "Each group of layers by itself, on given activations, in ms an image; so the sum is only near the whole",
        f"{'':12} forward {'backward     both' if is_training else '':18}    share   of the floor"]
    per_image = 1000 / batch_size
    whole = 1000 / result.best.median
    total = 0.0
    for group in result.groups:
        forward, backward = group.forward_seconds * per_image, (group.backward_seconds or 0.0) * per_image
        both, floor = forward + backward, 2000 * group.multiply_adds / result.floor.median
        total += both
        columns = f"{backward:8.2f} {both:8.2f} " if is_training else f"{'':18}"
        share = f"{floor / both:14.2f}" if group.multiply_adds else ""
        lines.append(f"{group.name:12} {forward:7.2f} {columns}{both / whole:8.0%} {share}".rstrip())
    for name, value in ("sum", total), ("whole", whole):
        columns = f"{'':16} {value:8.2f} " if is_training else f"{value:7.2f} {'':18}"
        lines.append(f"{name:12} {columns}{value / whole:8.0%}")
    return lines
