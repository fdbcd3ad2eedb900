"""Trains AlexNet. The same command again resumes a run that was stopped.

    python -m alexnet_tf train                         the demo: a small synthetic data set, no download
    python -m alexnet_tf train --data_dir=DIR          class folders (DIR/train/<class>/*.jpg and DIR/val/..., or just
                                                       DIR/<class>/*.jpg), or a TFDS directory (--dataset=NAME)
    python -m alexnet_tf train --data_dir=DIR --architecture=caffe --epochs=90
    python -m alexnet_tf train --data_dir=DIR --init_from=RUN --freeze_until=conv5
                                                       transfer learning from a trained run, or one of import_weights

The run is kept in runs/<architecture>-<data set> (runs/<RUN>-to-<data set> in transfer learning), or --workdir. What no
flag sets is the architecture's recipe. Next: python -m alexnet_tf evaluate --workdir=RUN
"""

import dataclasses
from typing import Any

from alexnet_tf.commands import cli
from alexnet_tf.commands.options import BadImageOptions, ImageOptions
from alexnet_tf.data.options import ExampleOptions
from alexnet_tf.network import architectures, recipes
from alexnet_tf.runs.directory import default_path
from alexnet_tf.support import errors
from alexnet_tf.support.settings import setting
from alexnet_tf.training import configure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(ImageOptions, ExampleOptions, BadImageOptions):
    """What to train on, and how."""

    data_dir: str | None = setting(None, "Class folders or a TFDS directory. By default a small synthetic data set.")
    workdir: str | None = setting(None, "The run's directory. Default: runs/<architecture>-<data set>.")
    architecture: str | None = setting(
        None,
        "Which published AlexNet: by default paper, or that of --init_from.",
        choices=tuple(architectures.ARCHITECTURES),
    )
    initialization: str = setting(
        "auto",
        "Initial weights. 'row': as the architecture's source has them; 'he': learns on small data, and is the "
        "default there.",
        choices=("auto", *architectures.INITIALIZATION_NAMES),
    )
    init_from: str | None = setting(
        None,
        "Transfer learning: directory of the run whose weights, architecture and mean are used. The last layer is "
        "replaced where the number of classes differs; the optimizer starts fresh.",
    )
    freeze: tuple[str, ...] | None = setting(
        None, "Layers of --init_from that do not learn, such as conv1,conv2 (both towers) or conv2_b."
    )
    freeze_until: str | None = setting(
        None, "Freezes all layers up to this one: after conv5 only the dense layers learn."
    )
    reinitialize: tuple[str, ...] | None = setting(
        None, "Layers that get new weights instead of those of --init_from, such as fc7,fc8."
    )
    changes: dict[str, Any] = dataclasses.field(default_factory=dict, metadata={"of": recipes.Recipe})
    class_weight: str = setting(
        "none",
        "'balanced' weighs the loss of each class in inverse proportion to its number of training images.",
        choices=("none", "balanced"),
    )
    mean: str | None = setting(
        None,
        "What is subtracted: the mean colour (the default), or the paper's mean image (prepared data). With "
        "--init_from: its own.",
        choices=("pixel", "image"),
    )
    seed: int = setting(0, "Fixes weights, order, augmentation and dropout.", lower=0, upper=2**31 - 1)
    precision: str = setting(
        "auto",
        "'auto' is mixed_bfloat16 on a CPU that computes with it and on GPUs of compute capability 8.0 and more, "
        "mixed_float16 on GPUs of 7.x, else float32.",
        choices=("auto", "float32", "mixed_bfloat16", "mixed_float16"),
    )
    jit: bool = setting(
        False,
        "Compile the whole training step with XLA: three times slower on two CPU cores; not measured on GPUs.",
    )
    strategy: str = setting(
        "auto",
        "'split': tower a and tower b on two devices, as in 2012; 'mirrored': each batch over all GPUs; "
        "'multi_worker': over the machines of TF_CONFIG or of a Slurm step; 'auto': mirrored if there are several "
        "GPUs.",
        choices=("auto", "split", "mirrored", "multi_worker"),
    )
    devices: tuple[str, ...] = setting((), "Which devices to use: GPU:0,GPU:1 or CPU:0,CPU:1. All GPUs by default.")
    worker_timeout: float = setting(1800.0, "Seconds to wait for the other workers.", lower=1)
    deterministic: bool | None = setting(
        None, "The same seed gives the same bits, also after a resume: the default, but not with --jit."
    )
    checkpoint_minutes: float = setting(10.0, "Longest time between checkpoints.", lower=0)


def main(options: Options) -> int:
    """Trains, and returns 0, or 1 if a signal stopped the run early."""
    if (options.dataset or options.download) and not options.data_dir:
        raise errors.UserError("--dataset and --download need --data_dir=DIR, the TFDS directory.")
    wishes = configure.TrainOptions(
        architecture=options.architecture,
        initialization=options.initialization,
        init_from=options.init_from,
        freeze=options.freeze or None,
        freeze_until=options.freeze_until,
        reinitialize=options.reinitialize or None,
        mean=options.mean,
        seed=options.seed,
        precision=options.precision,
        jit=options.jit,
        deterministic=options.deterministic,
        class_weight=options.class_weight,
        recipe_changes=options.changes,
    )
    configure.check_options(wishes)
    if not options.download:
        cli.check_directory("data_dir", options.data_dir)
    cli.import_tensorflow()
    from alexnet_tf.data import discovery
    from alexnet_tf.training import distribution, trainer

    placement = distribution.make_placement(options.strategy, options.devices, options.worker_timeout)
    is_demo = not options.data_dir
    data = discovery.synthetic_dataset() if is_demo else discovery.find_dataset(options.data_dir or "", options)
    path = options.workdir or default_path(options.architecture or "paper", data.name, options.init_from)
    cli.show(data.summary())
    train_config = configure.make_train_config(wishes, data, path, is_demo=is_demo)
    is_complete = trainer.train(
        train_config,
        data,
        path,
        placement=placement,
        checkpoint_minutes=options.checkpoint_minutes,
        on_bad_image=options.on_bad_image,
    )
    return 0 if is_complete else 1
