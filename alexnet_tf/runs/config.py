"""What a run was started with: the dataclasses behind config.json."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Annotated, Any

import pydantic

from alexnet_tf.network import architectures, recipes
from alexnet_tf.support import errors, settings

# A value for each of R, G and B.
Colour = Annotated[
    tuple[Annotated[float, pydantic.Field(allow_inf_nan=False)], ...], pydantic.Field(min_length=3, max_length=3)
]

# What config.json says in place of a mean colour where the mean is an image; also the name of its file.
MEAN_IMAGE = "mean_image.npz"

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How to train, once everything is decided.

    Attributes:
        architecture: A key of `architectures.ARCHITECTURES`.
        recipe: The architecture's recipe with the changes that flags made.
        initialization: One of `architectures.INITIALIZATION_NAMES`.
        seed: Fixes the initial weights, the order, the augmentation and the dropout.
        precision: Keras dtype policy: "float32", "mixed_bfloat16" or "mixed_float16"; "auto" is settled at the start.
        deterministic: Whether the same seed gives the same bits; not with `jit`.
        mean: What the first layer subtracts: "pixel", the mean colour, or "image", the paper's mean image.
        init_from: Directory of the run that the weights come from, with its architecture and mean.
        freeze: Names of the layers that do not learn.
        reinitialize: Names of the layers that do not take the source's weights; the last one is replaced anyway
            where the number of classes differs.
        jit: Whether XLA compiles the step.
        class_weight: "none", or "balanced": the loss of a class's images counts in inverse proportion to their number.
    """

    architecture: str = "paper"
    recipe: recipes.Recipe = recipes.Recipe()
    initialization: str = "row"
    seed: int = 0
    precision: str = "float32"
    deterministic: bool = True
    mean: str = "pixel"
    init_from: str | None = None
    freeze: tuple[str, ...] = ()
    reinitialize: tuple[str, ...] = ()
    jit: bool = False
    class_weight: str = "none"


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
    """

    train: TrainConfig
    data: RunData
    image_size: Annotated[int, pydantic.Field(ge=1, le=10_000)]
    mean: Colour | str
    scale: Colour | None = None
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
        for name, known in (
            ("architecture", architectures.ARCHITECTURES),
            ("initialization", architectures.INITIALIZATION_NAMES),
            ("precision", PRECISIONS),
        ):
            if (value := getattr(self.train, name)) not in known:
                raise errors.UserError(f"{name} is {value!r}, which is not known. Known: {', '.join(known)}.")
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


def differences(before: RunConfig, now: RunConfig) -> Iterator[str]:
    """Yields what differs between two runs, a line each. More epochs, or moved data, are no difference."""
    old, new = (dict(_flat(dataclasses.asdict(each))) for each in (before, now))
    for name in {**old, **new}:
        if name not in ("recipe.epochs", "data.directory", "data.name") and old.get(name) != new.get(name):
            yield f"{name}: {_short(old.get(name))} in the run, {_short(new.get(name))} now"


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
