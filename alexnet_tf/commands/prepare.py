"""Turns images into records of 256 x 256 pixels: training then reads them at the speed of the decoder.

    python -m alexnet_tf prepare --data_dir=SOURCE --output_dir=OUT [--resize=caffe] [--on_bad_image=skip]

SOURCE is whatever train.py reads, or the directory with ImageNet's own tar files. The same command goes on after it
was stopped or killed. OUT is a TFDS data set with its mean image and colours: python train.py --data_dir=OUT
"""

import os

from absl import flags

from alexnet_tf import cli

cli.import_tensorflow()

from alexnet_tf.data import discovery, prepare  # noqa: E402

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Images: class folders, a TFDS directory, or ImageNet's tar files.", required=True)
_DATASET = flags.DEFINE_string("dataset", None, "Name of the TFDS data set in --data_dir.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where the data set shall appear, when it is whole.", required=True)
_RESIZE = flags.DEFINE_enum(
    "resize", "paper", ["paper", "caffe"],
    "'paper' scales the shorter side to 256 and keeps the centre; 'caffe' warps the whole image, as its weights expect.")
_QUALITY = flags.DEFINE_integer("quality", 95, "Of the JPEG images.", 95, 100)
_PROCESSES = flags.DEFINE_integer("processes", os.cpu_count(), "How many work at a time; about 0.5 GB each.", lower_bound=1)
_ON_BAD_IMAGE = flags.DEFINE_enum(
    "on_bad_image", "fail", ["fail", "skip"],
    "What to do at an image that cannot be read; it is named, and listed in OUT/preparation.json.")


def main(argv):
    cli.check_no_arguments(argv)
    data = discovery.find_dataset(_DATA_DIR.value, _DATASET.value)
    print(data.summary())
    preparation, is_new = prepare.prepare(
        data, _OUTPUT_DIR.value, resize=_RESIZE.value, quality=_QUALITY.value, processes=_PROCESSES.value,
        on_bad_image=_ON_BAD_IMAGE.value, initializer=initialize_process)
    print(f"Prepared: {_OUTPUT_DIR.value}" if is_new else f"{_OUTPUT_DIR.value} is prepared already: nothing to do.")
    for name, split in preparation["splits"].items():
        print(f"  {name}: {split['images']:,} images in {len(split['files'])} files, {sum(split['sizes']) / 1e6:,.0f} MB; "
              f"{split['rotated']:,} turned upright as EXIF says; {len(split['skipped']):,} skipped")
    red, green, blue = preparation["statistics"]["mean_pixel"]
    print(f"  mean colour of train: {red:.1f}, {green:.1f}, {blue:.1f}\nNext:\n  python train.py --data_dir={_OUTPUT_DIR.value}")


def initialize_process():
    """Begins a worker process: this module's import has loaded TensorFlow without its start-up lines."""
    prepare.set_up_process()


def run():
    cli.run(main)
