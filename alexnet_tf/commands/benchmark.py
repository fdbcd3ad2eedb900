"""Measures the speed of the input, of training and of inference, as ratios within one run.

    python -m alexnet_tf benchmark input --data_dir=DIR
    python -m alexnet_tf benchmark train --architecture=paper --batch_size=64 --precision=float32 --baseline=torch
    python -m alexnet_tf benchmark infer --baseline=openvino

`input` compares the training input with a bare decode and with the usual pipeline. `train` and `infer` compare with
the machine's matmul peak, measured in the same rounds, and with the same network in another framework; they report the
time of each stage and the peak memory. Only figures of one run can be compared.
Next: python -m alexnet_tf train --data_dir=DIR
"""

import dataclasses

from alexnet_tf.benchmarks import model_throughput
from alexnet_tf.commands import cli
from alexnet_tf.commands.options import ImageOptions
from alexnet_tf.support import errors


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(ImageOptions, model_throughput.Options):
    """What to measure, and against what."""

    arguments: tuple[str, ...] = ()


def main(options: Options) -> None:
    """Measures, and prints tables."""
    [what] = options.arguments if len(options.arguments) == 1 else [""]
    if what not in ("input", "train", "infer"):
        raise errors.UserError(
            "Give what to measure: python -m alexnet_tf benchmark input, train or infer. See --help."
        )
    if what != "input":
        return cli.show(model_throughput.table(options, *model_throughput.measure(options, what == "train")))
    cli.import_tensorflow()
    from alexnet_tf.benchmarks import input_throughput

    cli.show(input_throughput.table(input_throughput.measure(options)))
