"""Trains AlexNet. The same command again resumes.

    python train.py                          a try-out on images that are drawn for it, no download
    python train.py --data_dir=DIR           on class folders (DIR/train/<class>/*.jpg and DIR/val/..., or just
                                             DIR/<class>/*.jpg), or on a TFDS directory (--dataset=NAME)
    python train.py --data_dir=DIR --architecture=caffe --epochs=90
    python train.py --data_dir=DIR --init_from=RUN                        transfer learning: from the weights of a run that
    python train.py --data_dir=DIR --init_from=RUN --freeze_until=conv5   was trained here, or of import_weights

The run is kept in runs/<architecture>-<data set> (runs/<RUN>-to-<data set>), or --workdir. What no flag says is the
row's recipe.
"""

from absl import flags

from alexnet_tf import architectures, cli, errors, recipes, runs
from alexnet_tf.run_config import TrainConfig

cli.import_tensorflow()

from alexnet_tf.data import discovery  # noqa: E402
from alexnet_tf.training import distribution, trainer, transfer_learning  # noqa: E402

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Images: class folders or a TFDS directory. Drawn ones by default.")
_DATASET = flags.DEFINE_string("dataset", None, "Name of the TFDS data set in --data_dir, such as imagenet2012.")
_DOWNLOAD = flags.DEFINE_bool("download", False, "Let TFDS download and prepare --dataset into --data_dir.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory. Default: runs/<architecture>-<data set>.")
_ARCHITECTURE = flags.DEFINE_enum("architecture", None, list(architectures.ARCHITECTURES),
    "Which published AlexNet: by default paper, or that of --init_from.")
_INITIALIZATION = flags.DEFINE_enum(
    "initialization", "auto", ["auto", *architectures.INITIALIZATION_NAMES],
    "How the weights start. 'row' is what the source says; 'he' learns on small data and is chosen there.")
_INIT_FROM = flags.DEFINE_string(
    "init_from", None, "Directory of the run that the weights come from, with its architecture and mean. The last "
    "layer is replaced where the number of classes differs; the optimizer starts fresh.")
_FREEZE = flags.DEFINE_list("freeze", None, "Layers of --init_from that do not learn, such as conv1,conv2 (both towers) or conv2_b.")
_FREEZE_UNTIL = flags.DEFINE_string(
    "freeze_until", None, "The same for all layers up to this one: conv5 leaves the dense layers to learn.")
_REINITIALIZE = flags.DEFINE_list("reinitialize", None, "Layers that start anew instead of from --init_from, such as fc7,fc8.")
# The recipe, each by the name of its field in config.Recipe; what is not given is the row's.
flags.DEFINE_integer("epochs", None, "Passes over the training images.", lower_bound=1)
flags.DEFINE_integer("batch_size", None, "Examples per step, over all devices.", lower_bound=1)
flags.DEFINE_float("learning_rate", None, "Of the kernels, at the start.", lower_bound=0)
flags.DEFINE_float("momentum", None, "Coefficient of the velocity.", 0, 1)
flags.DEFINE_float("weight_decay", None, "Of the kernels, the paper's way.", lower_bound=0)
flags.DEFINE_enum(
    "schedule", None, ["plateau", "steps", "cosine"],
    "'plateau' divides the rate by 10 when the validation error stops falling; 'steps' is the row's own table.")
flags.DEFINE_integer("patience", None, "Epochs without progress before a division.", lower_bound=1)
flags.DEFINE_integer("warmup_steps", None, "Steps in which the rate rises from zero.", lower_bound=0)
flags.DEFINE_float("clip_norm", None, "Largest norm of the gradient; 0 is none.", lower_bound=0)
flags.DEFINE_enum(
    "crop", None, ["window", "random_resized"], "Training crops: the paper's windows of 256 x 256, or torchvision's.")
flags.DEFINE_bool("colour_noise", None, "Add the paper's PCA colour noise.")
flags.DEFINE_float(
    "new_layer_learning_rate_multiplier", None, "Rate of the layers that start anew over that of the others.", lower_bound=0)
_MEAN = flags.DEFINE_enum(
    "mean", None, ["pixel", "image"],
    "What is subtracted: a colour (the default), or the paper's mean image (prepared data). With --init_from: its own.")
_ON_BAD_IMAGE = flags.DEFINE_enum(
    "on_bad_image", "fail", ["fail", "skip"], "What to do at an image that cannot be read; it is named either way.")
_SEED = flags.DEFINE_integer("seed", 0, "Fixes weights, order, augmentation and dropout.", 0, 2 ** 31 - 1)
_PRECISION = flags.DEFINE_enum(
    "precision", "auto", ["auto", "float32", "mixed_bfloat16", "mixed_float16"],
    "'auto' is mixed_bfloat16 on a CPU that computes with it, else float32.")
_JIT = flags.DEFINE_bool("jit", False, "Compile the whole step with XLA: on two CPU cores three times slower; on GPUs not measured.")
_STRATEGY = flags.DEFINE_enum(
    "strategy", "auto", distribution.STRATEGIES,
    "'split': tower a and tower b on two devices, as in 2012; 'mirrored': each batch over all GPUs; 'multi_worker': over "
    "the machines of TF_CONFIG; 'auto': mirrored where there are several GPUs. The result is the same.")
_DEVICES = flags.DEFINE_list("devices", [], "Which devices to use: GPU:0,GPU:1 or CPU:0,CPU:1. All GPUs by default.")
_DETERMINISTIC = flags.DEFINE_bool(
    "deterministic", None, "The same seed gives the same bits, also after a resume: the default, but not with --jit.")
_CHECKPOINT_MINUTES = flags.DEFINE_float("checkpoint_minutes", 10, "Longest time between checkpoints.", lower_bound=0)


def main(argv):
    cli.check_no_arguments(argv)
    if (_DATASET.value or _DOWNLOAD.value) and not _DATA_DIR.value:
        raise errors.UserError("--dataset and --download need --data_dir=DIR, the TFDS directory.")
    placement = distribution.make_placement(_STRATEGY.value, _DEVICES.value)
    changes = {name: flags.FLAGS[name].value for name in recipes.RECIPE_FLAGS if flags.FLAGS[name].value is not None}
    given = {name: flags.FLAGS[name].value for name in transfer_learning.FLAGS}
    if not _INIT_FROM.value:
        transfer_learning.check_flags(None, given)
    data = discovery.find_dataset(_DATA_DIR.value, _DATASET.value, _DOWNLOAD.value) if _DATA_DIR.value else discovery.synthetic_dataset()
    print(data.summary())
    path = _WORKDIR.value or runs.default_path(_ARCHITECTURE.value or "paper", data.name, _INIT_FROM.value)
    source = transfer_learning.find_source(_INIT_FROM.value, path)
    transfer_learning.check_flags(source, given)
    row = architectures.ARCHITECTURES[source.architecture if source else _ARCHITECTURE.value or "paper"]
    frozen, new = transfer_learning.choose_layers(
        row, freeze=_FREEZE.value, freeze_until=_FREEZE_UNTIL.value, reinitialize=_REINITIALIZE.value)
    num_images = len(data.splits["train"])
    initialization = _INITIALIZATION.value
    if initialization == "auto":
        initialization = row.initialization if num_images >= recipes.LARGE_DATASET and not source else "he"
    if data.resize:
        changes["resize"] = data.resize
    if source:
        recipe = recipes.fine_tune(row.recipe, num_images, {"resize": source.resize, **changes})
    elif _DATA_DIR.value:
        recipe = recipes.adapt(row.recipe, initialization, num_images, changes)
    else:
        recipe = recipes.demo(row.recipe, changes)
    if num_images < recipes.LARGE_DATASET:
        print(f"  The row's own recipe is for ImageNet; the one below suits {num_images:,} images. Flags change it.")
    deterministic = not _JIT.value if _DETERMINISTIC.value is None else _DETERMINISTIC.value
    train_config = TrainConfig(
        architecture=row.name, recipe=recipe, initialization=initialization, seed=_SEED.value,
        deterministic=deterministic, precision=_PRECISION.value, mean=_MEAN.value or "pixel", jit=_JIT.value,
        init_from=source and source.path, freeze=frozen, reinitialize=new)
    is_complete = trainer.train(
        train_config, data, path, placement=placement, checkpoint_minutes=_CHECKPOINT_MINUTES.value,
        on_bad_image=_ON_BAD_IMAGE.value)
    return 0 if is_complete else 1


if __name__ == "__main__":
    cli.run(main)
