"""What a run was started with: the dataclass behind config.json. Standard library only.

config.json holds the fields of `TrainConfig` and of `RunConfig` side by side, as every version of this package has
written it; a field that an older file lacks takes its default, which is what all runs had then.
"""

import dataclasses
import math
import typing
from collections.abc import Iterator

from alexnet_tf.network import architectures, recipes
from alexnet_tf.support import errors, settings
from alexnet_tf.support.settings import setting

# What config.json says in place of a mean colour where the mean is an image; also the name of its file.
MEAN_IMAGE = "mean_image.npy"

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How to train, once everything is decided. A field made by `setting` is a flag of `train.py`, too.

    Attributes:
        architecture, ..., class_weight: See their help.
        recipe: The architecture's recipe with the changes that flags made.
    """

    architecture: str = setting(
        "paper",
        "Which published AlexNet: by default paper, or that of --init_from.",
        choices=architectures.ARCHITECTURES,
    )
    recipe: recipes.Recipe = recipes.Recipe()
    initialization: str = setting(
        "source",
        "Initial weights. 'source': as the architecture's source has them; 'he': learns on small data, and is the "
        "default there.",
        choices=architectures.INITIALIZATION_NAMES,
    )
    seed: int = setting(0, "Fixes weights, order, augmentation and dropout.", lower=0, upper=2**31 - 1)
    precision: str = setting(
        "float32",
        "By default auto: mixed_bfloat16 on a CPU that computes with it and on GPUs of compute capability 8.0 and "
        "more, mixed_float16 on GPUs of 7.x, else float32.",
        choices=PRECISIONS,
    )
    deterministic: bool = setting(
        True, "The same seed gives the same bits, also after a resume: the default, but not with --jit."
    )
    mean: str = setting(
        "pixel",
        "What is subtracted: the mean colour (the default), or the paper's mean image (prepared data). With "
        "--init_from: its own.",
        choices=("pixel", "image"),
    )
    init_from: str | None = setting(
        None,
        "Transfer learning: directory of the run whose weights, architecture and mean are used. The last layer is "
        "replaced where the number of classes differs; the optimizer starts fresh.",
    )
    freeze: tuple[str, ...] = setting(
        (), "Layers of --init_from that do not learn, such as conv1,conv2 (both towers) or conv2_b."
    )
    reinitialize: tuple[str, ...] = setting(
        (), "Layers that get new weights instead of those of --init_from, such as fc7,fc8."
    )
    jit: bool = setting(
        False, "Compile the whole training step with XLA: three times slower on two CPU cores; not measured on GPUs."
    )
    class_weight: str = setting(
        "none",
        "'balanced' weighs the loss of each class in inverse proportion to its number of training images.",
        choices=("none", "balanced"),
    )


@dataclasses.dataclass(frozen=True)
class ColourPCA:
    """Principal components of the training pixels' colours (Section 4.1).

    Attributes:
        stdevs: Square roots of the eigenvalues, in grey levels.
        vectors: Eigenvectors as columns; rows are R, G, B.
    """

    stdevs: tuple[float, ...]
    vectors: tuple[tuple[float, ...], ...]


@dataclasses.dataclass(frozen=True)
class RunData:
    """The data set that a run was trained on.

    Attributes:
        classes: Class names in the order of the logits.
        name: Short name of the data set.
        directory: Where it was; None for an imported run.
        images: Number of images by split.
        validation: Split that errors are measured on.
        fingerprint: Hash of the classes and files.
        split_rule: How one folder of class folders was divided, a key of `data.class_folders.SPLIT_RULES`; the default
            is the rule of older versions, and stands also where nothing was divided.
        options: What else says which examples are meant, such as the file of the labels.
    """

    classes: tuple[str, ...]
    name: str = "imported"
    directory: str | None = None
    images: dict[str, int] = dataclasses.field(default_factory=dict)
    validation: str | None = None
    fingerprint: str = ""
    split_rule: str = "file_name"
    options: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class PretrainedRun:
    """The run that the weights come from.

    Attributes:
        path: Its directory, as it was typed.
        step: Step of its last checkpoint.
        architecture: Its architecture's name.
        classes: Its classes, in the order of the logits.
        mean: What its first layer subtracts: RGB in [0, 255], or `MEAN_IMAGE`.
        scale: Factor for each channel after that.
        resize: How images became 256 x 256, as in `recipes.Recipe`.
    """

    path: str
    step: int
    architecture: str
    classes: tuple[str, ...]
    mean: tuple[float, ...] | str
    scale: tuple[float, ...]
    resize: str


@dataclasses.dataclass(frozen=True)
class ImportedFile:
    """The weight file that a run was imported from: its name and its SHA-256 in hexadecimal."""

    file: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that was decided before the first step: enough to evaluate, export or resume the run.

    Attributes:
        train: How to train.
        data: What on.
        image_size: Side of the network's input, in pixels.
        mean: What the first layer subtracts: RGB in [0, 255], or `MEAN_IMAGE` for the mean image beside config.json.
        scale: Factor for each channel after that; None for the architecture's own.
        colour_pca: For the colour noise; None for an imported run.
        source: The run that the weights come from, in transfer learning.
        imported: The file that the weights come from, in an imported run.
    """

    train: TrainConfig
    data: RunData
    image_size: int
    mean: tuple[float, ...] | str
    scale: tuple[float, ...] | None = None
    colour_pca: ColourPCA | None = None
    source: PretrainedRun | None = None
    imported: ImportedFile | None = None

    @property
    def architecture(self) -> architectures.Architecture:
        """The architecture with the run's initialisation, scale, resizing and number of classes."""
        architecture = architectures.with_initialization(
            architectures.ARCHITECTURES[self.train.architecture], self.train.initialization
        )
        return architectures.with_num_classes(
            dataclasses.replace(
                architecture,
                scale=architecture.scale if self.scale is None else self.scale,
                recipe=dataclasses.replace(architecture.recipe, resize=self.train.recipe.resize),
            ),
            len(self.data.classes),
        )

    def to_json(self) -> dict:
        """Returns config.json as a dictionary of what JSON can hold; tuples become lists."""
        optional = {name: getattr(self, name) for name in ("scale", "colour_pca", "source", "imported")}
        return _plain(
            dataclasses.asdict(self.train)
            | {
                "mean": self.mean,
                "image_size": self.image_size,
                "data": self.data,
                **{name: value for name, value in optional.items() if value is not None},
            }
        )

    def check(self) -> None:
        """Checks what types alone do not: names that must be known, and numbers of entries.

        Raises:
            UserError: Says what is wrong.
        """
        settings.check(self)
        if self.data.split_rule not in ("file_name", "class_and_path"):
            raise errors.UserError(
                f"data.split_rule must be file_name or class_and_path; got {self.data.split_rule!r}."
            )
        problems = {
            "data.classes is empty.": not self.data.classes,
            f"image_size is {self.image_size}, which is not usable.": not 1 <= self.image_size <= 10_000,
            f"mean must be three finite numbers or {MEAN_IMAGE!r}.": not all(
                mean == MEAN_IMAGE or _are_three_numbers(mean)
                for mean in (self.mean, self.source.mean if self.source else self.mean)
            ),
            "scale must be three finite numbers.": self.scale is not None and not _are_three_numbers(self.scale),
            "colour_pca must be three standard deviations and three vectors of three numbers.": self.colour_pca
            is not None
            and (
                len(self.colour_pca.vectors) != 3
                or not all(map(_are_three_numbers, (self.colour_pca.stdevs, *self.colour_pca.vectors)))
            ),
        }
        for problem, is_there in problems.items():
            if is_there:
                raise errors.UserError(problem)

    @classmethod
    def from_json(cls, content: object) -> "RunConfig":
        """Returns the config that config.json holds.

        Raises:
            UserError: If it is not the config of a run; the message says what is wrong.
        """
        try:
            values: dict[str, typing.Any] = _typed(dict[str, object], content, "the file")
            train = {
                field.name: values[field.name] for field in dataclasses.fields(TrainConfig) if field.name in values
            }
            train["mean"] = "image" if values.get("mean") == MEAN_IMAGE else "pixel"
            others = {name: values[name] for name in _BESIDE_TRAIN if name in values}
            run_config: RunConfig = _typed(cls, others | {"train": train}, "the file")
            run_config.check()
            return run_config
        except RecursionError as error:
            raise errors.UserError("it is nested too deep.") from error


def _are_three_numbers(values: tuple[float, ...] | str) -> bool:
    return not isinstance(values, str) and len(values) == 3 and all(map(math.isfinite, values))


# The fields of `RunConfig` that config.json holds beside those of `TrainConfig`.
_BESIDE_TRAIN = ("data", "image_size", "mean", "scale", "colour_pca", "source", "imported")


def _plain(value: typing.Any) -> typing.Any:
    """Returns a value with dataclasses as dictionaries and tuples as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _typed(kind: typing.Any, value: typing.Any, name: str) -> typing.Any:
    """Returns a value of JSON as a type: a dataclass, tuple, dict, union or plain type.

    Raises:
        UserError: If it cannot be one.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, dict):
        fields, hints = dataclasses.fields(kind), typing.get_type_hints(kind)
        missing = [
            field.name
            for field in fields
            if field.name not in value
            and field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        ]
        if missing:
            raise errors.UserError(f"{name} lacks {', '.join(missing)}.")
        return kind(
            **{
                field.name: _typed(hints[field.name], value[field.name], field.name)
                for field in fields
                if field.name in value
            }
        )
    if origin is tuple and isinstance(value, list):
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_typed(arguments[0], each, name) for each in value)
        if len(arguments) == len(value):
            return tuple(_typed(each, item, name) for each, item in zip(arguments, value))
    if origin is dict and isinstance(value, dict):
        return {key: _typed(arguments[1], each, f"{name}.{key}") for key, each in value.items()}
    if arguments and origin not in (tuple, dict):  # A union: the first type that fits.
        for each in arguments:
            try:
                return _typed(each, value, name)
            except errors.UserError:
                continue
    if kind is object or (kind is type(None) and value is None):
        return value
    if kind is float and type(value) is int:
        return float(value)
    if isinstance(kind, type) and not dataclasses.is_dataclass(kind) and type(value) is kind:
        return value
    text = repr(value)
    raise errors.UserError(f"{name} is {text if len(text) < 60 else text[:57] + '...'}, which is not usable.")


def class_names_in(text: str) -> list[str]:
    """Returns the class names of a text with one on each line, also as editors leave it: BOM, CRLF, empty last lines.

    Only line feeds separate names, so that a name may hold any other separator of Unicode.
    """
    names = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]
    while names and not names[-1].strip():
        names.pop()
    return names


def differences(before: object, now: object, name: str = "") -> Iterator[str]:
    """Yields what differs between two config.json, a line each. More epochs, or moved data, are no difference."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            yield from differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif name not in ("recipe.epochs", "data.directory", "data.name") and before != now:
        yield f"{name}: {_short(before)} in the run, {_short(now)} now"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."
