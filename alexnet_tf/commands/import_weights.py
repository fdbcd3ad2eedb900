"""Makes a run of a weight file: Caffe's, NumPy's, PyTorch's, Keras'. Then evaluate and predict work on it.

    python -m alexnet_tf import_weights --source=bvlc_alexnet.caffemodel --workdir=RUN
        [--architecture=caffe] [--classes=FILE] [--mean=104,117,123] [--allow_nan]
"""

from absl import flags

from alexnet_tf import architectures, cli
from alexnet_tf.weights import conversion

_SOURCE = flags.DEFINE_string(
    "source", None, "The file: .caffemodel, .npy, .pth, .safetensors, or this project's .weights.h5 or .keras.",
    required=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run that is made.", required=True)
_ARCHITECTURE = flags.DEFINE_enum(
    "architecture", None, list(architectures.ARCHITECTURES),
    "Which network it is; by default recognised by names, shapes and order.")
_CLASSES = flags.DEFINE_string(
    "classes", None, "Text with a class name on each line, in the order of the logits. By default ImageNet's 1000.")
_MEAN = flags.DEFINE_string(
    "mean", None, "What is subtracted from an image: B,G,R in [0, 255], or a .binaryproto or .npy, [3, height, width], "
    "BGR. By default what the file says, or else what its kind of network was trained with.")
_ALLOW_NAN = flags.DEFINE_bool("allow_nan", False, "Take weights that are no finite numbers.")


def main(argv):
    cli.check_no_arguments(argv)
    lines = conversion.import_run(
        _SOURCE.value, _WORKDIR.value, architecture=_ARCHITECTURE.value, classes=_CLASSES.value, mean=_MEAN.value,
        allow_nan=_ALLOW_NAN.value)
    print("\n".join(lines))
    print(f"Imported: {_WORKDIR.value}. Next:\n"
          f"  python -m alexnet_tf predict --workdir={_WORKDIR.value} IMAGE...\n"
          f"  python -m alexnet_tf evaluate --workdir={_WORKDIR.value} --data_dir=DIR\n"
          f"  python export.py --workdir={_WORKDIR.value}\n"
          f"  python train.py --init_from={_WORKDIR.value} --data_dir=DIR   (your own classes)")


def run():
    cli.run(main)
