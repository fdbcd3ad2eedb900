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

from absl import flags

from alexnet_tf.commands import cli
from alexnet_tf.data.options import DataOptions
from alexnet_tf.network import architectures, recipes
from alexnet_tf.runs.directory import default_path
from alexnet_tf.support import errors
from alexnet_tf.training import configure

_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Class folders or a TFDS directory. By default a small synthetic data set."
)
_DATASET = flags.DEFINE_string("dataset", None, "Name of the TFDS data set in --data_dir, such as imagenet2012.")
_DATA_OPTIONS = cli.define_data_options()
cli.define_image_limit()
_DOWNLOAD = flags.DEFINE_bool("download", False, "Let TFDS download and prepare --dataset into --data_dir.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory. Default: runs/<architecture>-<data set>.")
_ARCHITECTURE = flags.DEFINE_enum(
    "architecture",
    None,
    list(architectures.ARCHITECTURES),
    "Which published AlexNet: by default paper, or that of --init_from.",
    case_sensitive=False,
)
_INITIALIZATION = flags.DEFINE_enum(
    "initialization",
    "auto",
    ["auto", *architectures.INITIALIZATION_NAMES],
    "Initial weights. 'row': as the architecture's source has them; 'he': learns on small data, and is the default "
    "there.",
)
_INIT_FROM = flags.DEFINE_string(
    "init_from",
    None,
    "Transfer learning: directory of the run whose weights, architecture and mean are used. The last layer "
    "is replaced where the number of classes differs; the optimizer starts fresh.",
)
_FREEZE = flags.DEFINE_list(
    "freeze", None, "Layers of --init_from that do not learn, such as conv1,conv2 (both towers) or conv2_b."
)
_FREEZE_UNTIL = flags.DEFINE_string(
    "freeze_until", None, "Freezes all layers up to this one: after conv5 only the dense layers learn."
)
_REINITIALIZE = flags.DEFINE_list(
    "reinitialize", None, "Layers that get new weights instead of those of --init_from, such as fc7,fc8."
)
_AUGMENTATIONS = ", ".join(recipes.CHOICES["augmentations"])
# Each has the name of a field of `recipes.Recipe`; what is not given is the architecture's.
_RECIPE = (
    flags.DEFINE_integer("epochs", None, "Passes over the training images.", lower_bound=1),
    flags.DEFINE_integer("batch_size", None, "Examples per step, over all devices.", lower_bound=1),
    flags.DEFINE_float("learning_rate", None, "Initial learning rate of the kernels.", lower_bound=0),
    flags.DEFINE_float("momentum", None, "Coefficient of the velocity.", 0, 1),
    flags.DEFINE_float("weight_decay", None, "Weight decay of the kernels, as in the paper.", lower_bound=0),
    flags.DEFINE_enum(
        "schedule",
        None,
        recipes.CHOICES["schedule"],
        "'plateau' divides the rate by 10 when the validation error stops falling; 'steps' is the architecture's own "
        "table.",
    ),
    flags.DEFINE_integer("patience", None, "Epochs without progress before a division.", lower_bound=1),
    flags.DEFINE_integer("warmup_steps", None, "Steps in which the rate rises from zero.", lower_bound=0),
    flags.DEFINE_float("clip_norm", None, "Largest global norm of the gradient; 0 does not clip.", lower_bound=0),
    flags.DEFINE_enum(
        "crop", None, recipes.CHOICES["crop"], "Training crops: the paper's windows of 256 x 256, or torchvision's."
    ),
    flags.DEFINE_list(
        "augmentations",
        None,
        f"What is done to a crop, in this order, of {_AUGMENTATIONS}; --augmentations= does nothing.",
    ),
    flags.DEFINE_bool("colour_noise", None, "Add the paper's PCA colour noise."),
    flags.DEFINE_float(
        "new_layer_learning_rate_multiplier",
        None,
        "Learning rate of newly initialised layers over that of the others.",
        lower_bound=0,
    ),
)
flags.register_validator(
    "augmentations", lambda names: {*(names or ())} <= {*recipes.CHOICES["augmentations"]}, f"known: {_AUGMENTATIONS}"
)
_CLASS_WEIGHT = flags.DEFINE_enum(
    "class_weight",
    "none",
    ["none", "balanced"],
    "'balanced' weighs the loss of each class in inverse proportion to its number of training images.",
)
_MEAN = flags.DEFINE_enum(
    "mean",
    None,
    ["pixel", "image"],
    "What is subtracted: the mean colour (the default), or the paper's mean image (prepared data). With --init_from: "
    "its own.",
)
_ON_BAD_IMAGE = flags.DEFINE_enum(
    "on_bad_image", "fail", ["fail", "skip"], "What to do with an image that cannot be read; it is reported either way."
)
_SEED = flags.DEFINE_integer("seed", 0, "Fixes weights, order, augmentation and dropout.", 0, 2**31 - 1)
_PRECISION = flags.DEFINE_enum(
    "precision",
    "auto",
    ["auto", "float32", "mixed_bfloat16", "mixed_float16"],
    "'auto' is mixed_bfloat16 on a CPU that computes with it and on GPUs of compute capability 8.0 and more, "
    "mixed_float16 on GPUs of 7.x, else float32.",
)
_JIT = flags.DEFINE_bool(
    "jit", False, "Compile the whole training step with XLA: three times slower on two CPU cores; not measured on GPUs."
)
_STRATEGY = flags.DEFINE_enum(
    "strategy",
    "auto",
    ["auto", "split", "mirrored", "multi_worker"],
    "'split': tower a and tower b on two devices, as in 2012; 'mirrored': each batch over all GPUs; "
    "'multi_worker': over the machines of TF_CONFIG or of a Slurm step; 'auto': mirrored if there are several GPUs.",
)
_DEVICES = flags.DEFINE_list("devices", [], "Which devices to use: GPU:0,GPU:1 or CPU:0,CPU:1. All GPUs by default.")
_WORKER_TIMEOUT = flags.DEFINE_float("worker_timeout", 1800, "Seconds to wait for the other workers.", lower_bound=1)
_DETERMINISTIC = flags.DEFINE_bool(
    "deterministic", None, "The same seed gives the same bits, also after a resume: the default, but not with --jit."
)
_CHECKPOINT_MINUTES = flags.DEFINE_float("checkpoint_minutes", 10, "Longest time between checkpoints.", lower_bound=0)


def main(arguments: list[str]) -> int:
    """Trains, and returns 0, or 1 if a signal stopped the run early."""
    cli.check_no_arguments(arguments)
    if (_DATASET.value or _DOWNLOAD.value) and not _DATA_DIR.value:
        raise errors.UserError("--dataset and --download need --data_dir=DIR, the TFDS directory.")
    given = {holder.name: holder.value for holder in _RECIPE if holder.value is not None}
    changes = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    options = configure.TrainOptions(
        architecture=_ARCHITECTURE.value,
        initialization=_INITIALIZATION.value,
        init_from=_INIT_FROM.value,
        freeze=tuple(_FREEZE.value) if _FREEZE.value else None,
        freeze_until=_FREEZE_UNTIL.value,
        reinitialize=tuple(_REINITIALIZE.value) if _REINITIALIZE.value else None,
        mean=_MEAN.value,
        seed=_SEED.value,
        precision=_PRECISION.value,
        jit=_JIT.value,
        deterministic=_DETERMINISTIC.value,
        class_weight=_CLASS_WEIGHT.value,
        recipe_changes=changes,
    )
    configure.check_options(options)
    if not _DOWNLOAD.value:
        cli.check_directory("data_dir", _DATA_DIR.value)
    cli.import_tensorflow()
    from alexnet_tf.data import discovery
    from alexnet_tf.training import distribution, trainer

    placement = distribution.make_placement(_STRATEGY.value, _DEVICES.value, _WORKER_TIMEOUT.value)
    is_demo = not _DATA_DIR.value
    data = (
        discovery.synthetic_dataset()
        if is_demo
        else discovery.find_dataset(
            _DATA_DIR.value or "",
            DataOptions(
                dataset=_DATASET.value,
                download=_DOWNLOAD.value,
                **{flag.name: flag.value for flag in _DATA_OPTIONS},
            ),
        )
    )
    path = _WORKDIR.value or default_path(_ARCHITECTURE.value or "paper", data.name, _INIT_FROM.value)
    cli.show(data.summary())
    train_config = configure.make_train_config(options, data, path, is_demo=is_demo)
    is_complete = trainer.train(
        train_config,
        data,
        path,
        placement=placement,
        checkpoint_minutes=_CHECKPOINT_MINUTES.value,
        on_bad_image=_ON_BAD_IMAGE.value,
    )
    return 0 if is_complete else 1
