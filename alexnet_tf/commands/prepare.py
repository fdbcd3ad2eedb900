"""Turns images into records of 256 x 256 pixels, from which training reads faster.

    python -m alexnet_tf prepare --data_dir=SOURCE --output_dir=OUT
    python -m alexnet_tf prepare --data_dir=SOURCE --output_dir=OUT --resize=caffe --on_bad_image=skip

SOURCE is whatever train reads, or the directory with ImageNet's own tar files. The same command continues after it was
stopped or killed. OUT is a TFDS data set with its mean image and colours.
Next: python -m alexnet_tf train --data_dir=OUT
"""

import functools

from absl import flags

from alexnet_tf.commands import cli
from alexnet_tf.data.options import DataOptions
from alexnet_tf.support import image_limit, processors, shell

_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Images: class folders, a TFDS directory, or ImageNet's tar files.", required=True
)
_DATASET = flags.DEFINE_string("dataset", None, "Name of the TFDS data set in --data_dir.")
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Directory of the new data set; it appears when it is complete.", required=True
)
_RESIZE = flags.DEFINE_enum(
    "resize",
    "paper",
    ["paper", "caffe"],
    "'paper' scales the shorter side to 256 and keeps the centre; 'caffe' warps the whole image, as its weights "
    "expect.",
)
_QUALITY = flags.DEFINE_integer("quality", 95, "JPEG quality.", 95, 100)
_PROCESSES = flags.DEFINE_integer(
    "processes", processors.available_cpus(), "Number of worker processes, about 0.5 GB each.", lower_bound=1
)
_OPTIONS = cli.define_data_options()
_MAX_IMAGE_MB = cli.define_image_limit()
_ON_BAD_IMAGE = flags.DEFINE_enum(
    "on_bad_image",
    "fail",
    ["fail", "skip"],
    "What to do with an image that cannot be read; it is reported, and listed in OUT/preparation.json.",
)


def main(arguments: list[str]) -> None:
    """Prepares the data set, unless it is there already, and prints what it holds."""
    cli.check_no_arguments(arguments)
    cli.check_directory("data_dir", _DATA_DIR.value)
    cli.import_tensorflow()
    from alexnet_tf.data import discovery, prepare
    from alexnet_tf.support import devices

    devices.share_memory()
    options = {flag.name: flag.value for flag in _OPTIONS}
    data = discovery.find_dataset(_DATA_DIR.value, DataOptions(dataset=_DATASET.value, **options))
    cli.show(data.summary())
    preparation, is_new = prepare.prepare(
        data,
        _OUTPUT_DIR.value,
        resize=_RESIZE.value,
        quality=_QUALITY.value,
        processes=_PROCESSES.value,
        on_bad_image=_ON_BAD_IMAGE.value,
        initializer=functools.partial(initialize_process, _MAX_IMAGE_MB.value),
    )
    cli.show(f"Prepared: {_OUTPUT_DIR.value}" if is_new else f"{_OUTPUT_DIR.value} is prepared already: nothing to do.")
    for name, split in preparation["splits"].items():
        cli.show(
            f"  {name}: {split['images']:,} images in {len(split['files'])} files, "
            f"{sum(split['sizes']) / 1e6:,.0f} MB; "
            f"{split['rotated']:,} rotated upright as EXIF says; {len(split['skipped']):,} skipped"
        )
    red, green, blue = preparation["statistics"]["mean_pixel"]
    cli.show(
        f"  mean colour of train: {red:.1f}, {green:.1f}, {blue:.1f}\nNext:\n  "
        f"{shell.command_line('train', data_dir=_OUTPUT_DIR.value)}"
    )


def initialize_process(max_image_mb: int) -> None:
    """Starts a worker process with its limit of an image's bytes, without TensorFlow's start-up messages."""
    image_limit.set_max_mb(max_image_mb)
    processors.hide_gpus()  # TensorFlow looks for them when it is imported.
    cli.import_tensorflow()
    from alexnet_tf.data import prepare_images

    prepare_images.set_up_process()
