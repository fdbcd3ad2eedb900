"""Trains AlexNet. The same command again resumes a run that was stopped.

    python -m alexnet_tf train                         the demo: a small synthetic data set, no download
    python -m alexnet_tf train --data_dir=DIR          class folders (DIR/train/<class>/*.jpg and DIR/val/..., or just
                                                       DIR/<class>/*.jpg), or a TFDS directory (--dataset=NAME)
    python -m alexnet_tf train --data_dir=DIR --architecture=caffe --epochs=90
    python -m alexnet_tf train --data_dir=DIR --init_from=RUN --freeze_until=conv5
                                                       transfer learning from a trained run, or one of import_weights
    python -m alexnet_tf train --data_dir=DIR --pretrained=torchvision --freeze_until=conv5
                                                       transfer learning from public ImageNet weights

The run is kept in runs/<architecture>-<data set> (runs/<RUN>-to-<data set> in transfer learning), or --workdir. What no
flag sets is the architecture's recipe. Next: python -m alexnet_tf evaluate --workdir=RUN
"""

import dataclasses
import os
from typing import Any

from alexnet_tf.commands import cli
from alexnet_tf.commands.options import ImageOptions, check_path, load_pretrained, pretrained_setting
from alexnet_tf.data.options import ExampleOptions
from alexnet_tf.network import recipes
from alexnet_tf.runs.config import TrainConfig
from alexnet_tf.support import errors
from alexnet_tf.support.settings import setting
from alexnet_tf.training import configure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(ImageOptions, ExampleOptions):
    """What to train on, and how."""

    data_dir: str | None = setting(None, "Class folders or a TFDS directory. By default a small synthetic data set.")
    workdir: str | None = setting(None, "The run's directory. Default: runs/<architecture>-<data set>.")
    pretrained: str | None = pretrained_setting()
    train: dict[str, Any] = dataclasses.field(default_factory=dict, metadata={"of": TrainConfig})
    recipe: dict[str, Any] = dataclasses.field(default_factory=dict, metadata={"of": recipes.Recipe})
    transfer: dict[str, Any] = dataclasses.field(default_factory=dict, metadata={"of": configure.TransferOptions})
    placement: dict[str, Any] = dataclasses.field(default_factory=dict, metadata={"of": configure.PlacementOptions})
    run: dict[str, Any] = dataclasses.field(default_factory=dict, metadata={"of": configure.RunOptions})


def main(options: Options) -> int:
    """Trains, and returns 0, or `cli.STOPPED` if a signal stopped the run early."""
    if (options.dataset or options.download) and not options.data_dir:
        raise errors.UserError("--dataset and --download need --data_dir=DIR, the TFDS directory.")
    asked = options.train | options.recipe | options.transfer
    if options.pretrained and "init_from" in asked:
        raise errors.UserError("Give either --init_from=RUN or --pretrained=NAME.")
    configure.check(asked | ({"init_from": options.pretrained} if options.pretrained else {}))
    if not options.download:
        check_path("data_dir", options.data_dir, "directory")
    if options.pretrained:
        asked["init_from"] = load_pretrained(options.pretrained)
    cli.import_tensorflow()
    from alexnet_tf.data import discovery
    from alexnet_tf.training import distribution, trainer

    placement = distribution.make_placement(configure.PlacementOptions(**options.placement))
    is_demo = not options.data_dir
    data = discovery.synthetic_dataset() if is_demo else discovery.find_dataset(options.data_dir or "", options)
    run_options = configure.RunOptions(**options.run)
    source = asked.get("init_from")
    begin = f"{os.path.basename(os.path.abspath(source))}-to" if source else asked.get("architecture", "paper")
    path = options.workdir or f"runs/{begin}-{data.name}"
    cli.show(data.summary())
    train_config = configure.decide(asked, data, path, is_demo=is_demo)
    is_complete = trainer.train(train_config, data, path, placement=placement, options=run_options)
    return 0 if is_complete else cli.STOPPED
