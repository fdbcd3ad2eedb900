"""What a run was started with: the dataclasses behind config.json."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Annotated, Any

import pydantic

from alexnet_tf.network import architectures, recipes
from alexnet_tf.support import errors, settings
from alexnet_tf.support.settings import setting

# A value for each of R, G and B.
Colour = Annotated[
    tuple[Annotated[float, pydantic.Field(allow_inf_nan=False)], ...], pydantic.Field(min_length=3, max_length=3)
]

# What config.json says in place of a mean colour where the mean is an image; also the name of its file.
MEAN_IMAGE = "mean_image.npz"

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

    stdevs: Colour
    vectors: Annotated[tuple[Colour, ...], pydantic.Field(min_length=3, max_length=3)]


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
        options: What else says which examples are meant, such as the file of the labels.
    """

    classes: Annotated[tuple[str, ...], pydantic.Field(min_length=1)]
    name: str = "imported"
    directory: str | None = None
    images: dict[str, int] = dataclasses.field(default_factory=dict)
    validation: str | None = None
    fingerprint: str = ""
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
    mean: Colour | str
    scale: Colour
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
        cpus: How many processors it was last started on: another number may round differently.
    """

    train: TrainConfig
    data: RunData
    image_size: Annotated[int, pydantic.Field(ge=1, le=10_000)]
    mean: Colour | str
    scale: Colour | None = None
    colour_pca: ColourPCA | None = None
    source: PretrainedRun | None = None
    imported: ImportedFile | None = None
    cpus: int | None = None

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

    def to_json(self) -> dict[str, Any]:
        """Returns what config.json holds."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: object) -> "RunConfig":
        """Returns the config that config.json holds.

        Raises:
            UserError: If it is not the config of a run; the message says what is wrong.
        """
        try:
            run_config: RunConfig = _adapter().validate_python(content)
        except pydantic.ValidationError as error:
            problem = error.errors()[0]
            raise errors.UserError(f"{'.'.join(map(str, problem['loc'])) or 'the file'}: {problem['msg']}.") from error
        run_config.check()
        return run_config

    def check(self) -> None:
        """Checks what types alone do not: names that must be known, and ranges.

        Raises:
            UserError: Says what is wrong.
        """
        settings.check(self)
        for mean in (self.mean, self.source.mean if self.source else self.mean):
            if isinstance(mean, str) and mean != MEAN_IMAGE:
                raise errors.UserError(f"mean is {mean!r}; it must be three finite numbers or {MEAN_IMAGE!r}.")


@functools.cache
def _adapter() -> pydantic.TypeAdapter:
    return pydantic.TypeAdapter(RunConfig)


def class_names_in(text: str) -> list[str]:
    """Returns the class names of a text with one on each line, also as editors leave it: BOM, CRLF, empty last lines.

    Only line feeds separate names, so that a name may hold any other separator of Unicode.
    """
    names = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]
    while names and not names[-1].strip():
        names.pop()
    return names


_MAY_DIFFER = {"recipe.epochs", "data.directory", "data.name", "data.fingerprint", "cpus"}


def differences(before: RunConfig, now: RunConfig) -> Iterator[str]:
    """Yields what differs between two runs, a line each. More epochs, moved data and other processors do not."""
    old, new = (dict(_flat(dataclasses.asdict(each))) for each in (before, now))
    for name in {**old, **new}:
        if name not in _MAY_DIFFER and old.get(name) != new.get(name):
            yield f"{name}: {_short(old.get(name))} in the run, {_short(new.get(name))} now"
    if before.data.fingerprint != now.data.fingerprint:
        where, here = before.data.directory, now.data.directory
        change = (
            f"files of {here} were added, removed or changed" if where == here else f"{where} in the run, {here} now"
        )
        yield f"data: {change}"


def _flat(values: dict[str, Any], start: str = "") -> Iterator[tuple[str, object]]:
    """Yields (name, value) of nested dictionaries; what is in `train` goes by its own name, as the flags do."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, "" if name == "train" else f"{start}{name}.")
        else:
            yield f"{start}{name}", value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."
