"""Turns images into records of 256 x 256 pixels, from which training reads faster.

    python -m alexnet_tf prepare --data_dir=SOURCE --output_dir=OUT
    python -m alexnet_tf prepare --data_dir=SOURCE --output_dir=OUT --resize=caffe --on_bad_image=skip

SOURCE is whatever train reads, or the directory with ImageNet's own tar files. The same command continues after it was
stopped or killed. OUT is a TFDS data set with its mean image and colours.
Next: python -m alexnet_tf train --data_dir=OUT
"""

import dataclasses
import functools

from alexnet_tf.commands import cli
from alexnet_tf.commands.options import ImageOptions
from alexnet_tf.data.options import ExampleOptions
from alexnet_tf.support import image_limit, processors, shell
from alexnet_tf.support.settings import REQUIRED, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(ImageOptions, ExampleOptions):
    """What to prepare, and how."""

    data_dir: str = setting(
        REQUIRED, "Images: class folders, a TFDS directory, or ImageNet's tar files.", path="directory"
    )
    output_dir: str = setting(REQUIRED, "Directory of the new data set; it appears when it is complete.")
    resize: str = setting(
        "paper",
        "'paper' scales the shorter side to 256 and keeps the centre; 'caffe' warps the whole image, as its weights "
        "expect.",
        choices=("paper", "caffe"),
    )
    processes: int = setting(processors.available_cpus(), "Number of worker processes, about 0.5 GB each.", lower=1)
    on_bad_image: str = setting(
        "fail",
        "What to do with an image that cannot be read; it is reported, and listed in OUT/preparation.json.",
        choices=("fail", "skip"),
    )


def main(options: Options) -> None:
    """Prepares the data set, unless it is there already, and prints what it holds."""
    cli.import_tensorflow()
    from alexnet_tf.data import discovery, prepare
    from alexnet_tf.support import devices

    devices.share_memory()
    output = options.output_dir
    data = discovery.find_dataset(options.data_dir, options)
    cli.show(data.summary())
    preparation, is_new = prepare.prepare(
        data,
        output,
        resize=options.resize,
        processes=options.processes,
        on_bad_image=options.on_bad_image,
        initializer=functools.partial(initialize_process, options.max_image_mb),
    )
    cli.show(f"Prepared: {output}" if is_new else f"{output} is prepared already: nothing to do.")
    for name, split in preparation["splits"].items():
        cli.show(
            f"  {name}: {split['images']:,} images in {len(split['files'])} files, "
            f"{sum(split['sizes']) / 1e6:,.0f} MB; {len(split['skipped']):,} skipped"
        )
    for note in preparation["notes"]:
        cli.show(f"  {note}")
    red, green, blue = preparation["statistics"]["mean_pixel"]
    cli.show(
        f"  mean colour of train: {red:.1f}, {green:.1f}, {blue:.1f}\nNext:\n  "
        f"{shell.command_line('train', data_dir=output)}"
    )


def initialize_process(max_image_mb: int) -> None:
    """Starts a worker process with its limit of an image's bytes, without TensorFlow's start-up messages."""
    image_limit.set_max_mb(max_image_mb)
    processors.hide_gpus()  # TensorFlow looks for them when it is imported.
    cli.import_tensorflow()
    from alexnet_tf.data import prepare_images

    prepare_images.set_up_process()
