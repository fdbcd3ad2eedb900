"""The networks and their training recipes as data: what every published AlexNet is, and how it learns.

A variant is an entry of `ARCHITECTURES`, which `alexnet.build_model` turns into a model. TensorFlow is not imported.
Sources: "the paper" is Krizhevsky, Sutskever, Hinton, NIPS 2012; "the author's file" is `layers-145.cfg` of the
cuda-convnet tree that the Computer History Museum released; Caffe is BVLC/caffe.
"""

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from alexnet_tf.network import recipes

# ImageNet's mean colour as Caffe's `ilsvrc_2012_mean.npy` gives it; RGB in [0, 255].
IMAGENET_MEAN = (122.67891434, 116.66876762, 104.00698793)

# Principal components of ImageNet's RGB values, from cuda-convnet2's `make-data/input_meta`: standard deviations
# (square roots of the eigenvalues, in grey levels) and eigenvectors as columns, rows R, G, B. Section 4.1.
IMAGENET_PCA_STDEVS = (19.7208330491, 37.0938885330, 121.7800609929)

IMAGENET_PCA_VECTORS = (
    (0.4179551317, -0.7125794529, -0.5635104535),
    (-0.8169806184, -0.0235416713, -0.5761843966),
    (0.3973111842, 0.7011963442, -0.5920029644),
)

# Every image is first brought to 256 x 256 (Section 2); crops are taken from there.
SQUARE_SIZE = 256


@dataclasses.dataclass(frozen=True)
class LRN:
    """Local response normalization x / (bias + alpha * S)^beta, in TensorFlow's terms.

    Attributes:
        depth_radius: HALF width of the window: the paper's n = 5 is 2.
        bias: The paper's k.
        alpha: Multiplies the sum of squares as it is: Caffe's and cuda-convnet's value divided by their window's size.
        beta: Exponent.
    """

    depth_radius: int = 2
    bias: float = 2.0
    alpha: float = 1e-4
    beta: float = 0.75


@dataclasses.dataclass(frozen=True)
class Pool:
    """Max or average pooling; `padding="same"` is cuda-convnet's rounding up, for the inputs used here.

    Attributes:
        size: Side of the window in pixels.
        strides: Stride in pixels.
        padding: "valid" or "same".
        kind: "max" or "average"; the average is that of the pixels inside the map.
    """

    size: int = 3
    strides: int = 2
    padding: str = "valid"
    kind: str = "max"

    def __post_init__(self):
        if self.kind not in ("max", "average"):
            raise ValueError(f"Pool.kind must be 'max' or 'average'; got {self.kind!r}.")


@dataclasses.dataclass(frozen=True)
class Init:
    """How a kernel or a bias starts.

    Attributes:
        distribution: "constant", "normal" (never truncated, as the sources), "truncated_normal",
            "uniform_fan_in" (U(-s, s), s = value / sqrt(fan_in)) or "normal_fan_in" (standard deviation
            value / sqrt(fan_in)).
        value: The constant, standard deviation or factor.
    """

    distribution: str
    value: float


@dataclasses.dataclass(frozen=True)
class TowerShapes:
    """What one tower of a stage computes for one image.

    Attributes:
        kernel: Shape of its kernel: [height, width, in, out] of a convolution, [in, out] of a dense layer,
            [rows, columns, height * width * in, out] of a local layer.
        size: Side of the weight layer's maps in pixels; 1 for a dense layer.
        output_size: Side of the maps at the stage's end, after any pooling.
        parameters: Of its kernel and bias.
        multiply_adds: Of its weight layer; all else is small beside them.
    """

    kernel: tuple[int, ...]
    size: int
    output_size: int
    parameters: int
    multiply_adds: int


@dataclasses.dataclass(frozen=True)
class Stage:
    """One weight layer and what follows it.

    Attributes:
        name: The paper's and Caffe's name, `conv1` ... `fc8`; towers are `conv1_a` and `conv1_b`.
        filters: Output channels (or units), over all towers.
        kernel_size: Side of the square kernel in pixels; 0 is a dense layer.
        strides: Stride in pixels.
        padding: Zeros (before, after) in both directions, in pixels.
        towers: 1 or 2 columns.
        input_towers: "both": a tower reads the whole previous stage; "own": only its own half (Section 3.2).
        ops: What follows, in order: "relu", "lrn", "same_map_lrn", "pool", "dropout".
        pool: The pooling that "pool" means.
        kernel: The kernel's initialisation.
        bias: The bias's initialisation, or None for a layer without bias.
        is_local: Whether every position has a kernel and a bias of its own (cuda-convnet's "local" layers).
    """

    name: str
    filters: int
    kernel_size: int = 0
    strides: int = 1
    padding: tuple[int, int] = (0, 0)
    towers: int = 1
    input_towers: str = "both"
    ops: tuple[str, ...] = ("relu",)
    pool: Pool = Pool()
    kernel: Init = Init("normal", 0.01)
    bias: Init | None = Init("constant", 0)
    is_local: bool = False

    def __post_init__(self):
        if self.towers not in (1, 2) or self.filters % self.towers:
            raise ValueError(
                f"{self.name}: filters must be divisible by towers, and towers be 1 or 2; "
                f"got filters={self.filters}, towers={self.towers}."
            )
        if self.input_towers not in ("both", "own"):
            raise ValueError(f"{self.name}: input_towers must be 'both' or 'own'; got {self.input_towers!r}.")
        unknown = set(self.ops) - {"relu", "tanh", "lrn", "same_map_lrn", "pool", "dropout"}
        if unknown:
            raise ValueError(
                f"{self.name}: ops may be relu, lrn, same_map_lrn, pool, dropout and tanh; got {sorted(unknown)}."
            )
        if self.is_local and (not self.kernel_size or self.strides != 1):
            raise ValueError(
                f"{self.name}: a local stage needs a kernel_size and strides of 1; got kernel_size={self.kernel_size}, "
                f"strides={self.strides}."
            )

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the stage's weight layers, one for each tower."""
        return (self.name,) if self.towers == 1 else (f"{self.name}_a", f"{self.name}_b")

    @property
    def groups(self) -> int:
        """Into how many parts, each of which sees its own, Caffe and others would divide the stage."""
        return self.towers if self.input_towers == "own" else 1

    def tower_shapes(self, input_size: int, input_channels: int) -> TowerShapes:
        """Returns the shapes and sizes of each of the stage's towers.

        Args:
            input_size: Side of the previous stage's maps in pixels; 1 after a dense layer.
            input_channels: Channels of the previous stage, over all its towers.
        """
        channels, filters = input_channels // self.groups, self.filters // self.towers
        if self.kernel_size:
            kernel: tuple[int, ...] = (self.kernel_size, self.kernel_size, channels, filters)
            size = (input_size + sum(self.padding) - self.kernel_size) // self.strides + 1
        else:
            kernel, size = (input_size**2 * channels, filters), 1
        output_size = size
        if "pool" in self.ops:
            pool = self.pool
            output_size = -(-size // pool.strides) if pool.padding == "same" else (size - pool.size) // pool.strides + 1
        weights, positions = math.prod(kernel), size**2
        if self.is_local:
            kernel = (size, size, self.kernel_size**2 * channels, filters)
        parameters = (weights + (filters if self.bias else 0)) * (positions if self.is_local else 1)
        return TowerShapes(kernel, size, output_size, parameters, multiply_adds=weights * positions)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One published AlexNet.

    Attributes:
        name: Its name, as `--architecture` takes it.
        source: Where the network is stated.
        image_size: Side of the input in pixels.
        stages: `conv1` ... `fc8`. The last one gives the logits.
        recipe: How the source trained it.
        lrn: The constants of "lrn".
        lrn_across_towers: Whether the window of "lrn" crosses from one tower to the other.
        same_map_lrn: What "same_map_lrn" means: the window is spatial, `depth_radius` pixels to each side.
        dropout_rate: Fraction of activations dropped in training.
        initialization: Default initialisation of a training on ImageNet: "source", or another where the source's does
            not learn.
        mean: RGB in [0, 255], subtracted from the images by the first layer.
        scale: Per channel, multiplies what is left.
    """

    name: str
    source: str
    image_size: int
    stages: tuple[Stage, ...]
    recipe: recipes.Recipe
    lrn: LRN = LRN()
    lrn_across_towers: bool = False
    same_map_lrn: LRN = LRN(bias=1.0, alpha=4e-5)
    dropout_rate: float = 0.5
    initialization: str = "source"
    mean: tuple[float, ...] = IMAGENET_MEAN
    scale: tuple[float, ...] = (1.0, 1.0, 1.0)

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        return self.stages[-1].filters

    @property
    def layer_names(self) -> list[str]:
        """Names of the weight layers in order: `conv1_a`, `conv1_b`, ... `fc8`."""
        return [name for stage in self.stages for name in stage.layer_names]

    def tower_shapes(self, image_size: int | None = None) -> dict[str, TowerShapes]:
        """Returns what each tower of a stage computes, by the stage's name.

        Args:
            image_size: Side of the input in pixels; the architecture's own by default.
        """
        shapes, size, channels = {}, image_size or self.image_size, 3
        for stage in self.stages:
            shapes[stage.name] = stage.tower_shapes(size, channels)
            size, channels = shapes[stage.name].output_size, stage.filters
        return shapes


def derive(
    base: Architecture,
    name: str,
    source: str,
    stages: Mapping[str, Mapping[str, Any]],
    every: Mapping[str, Any] = MappingProxyType({}),
    **fields: Any,
) -> Architecture:
    """Returns another network as the changes of one.

    Args:
        base: What it is but for the changes.
        name: Its name.
        source: Where it is stated.
        stages: Changed fields of single stages: {"conv1": {"padding": (0, 3)}}.
        every: Changed fields of every stage.
        **fields: Changed fields of the architecture.
    """
    changed = tuple(dataclasses.replace(stage, **{**every, **stages.get(stage.name, {})}) for stage in base.stages)
    return dataclasses.replace(base, name=name, source=source, stages=changed, **fields)


def with_num_classes(architecture: Architecture, num_classes: int) -> Architecture:
    """Returns the architecture with another number of logits.

    Raises:
        ValueError: If it is below 1.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1; got {num_classes}.")
    last = dataclasses.replace(architecture.stages[-1], filters=num_classes)
    return dataclasses.replace(architecture, stages=architecture.stages[:-1] + (last,))


_STAGE_NAMES = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")


def _gaussians(stdevs: tuple[float, ...], biases: tuple[float, ...]) -> dict[str, tuple[Init, Init]]:
    """Returns the initialisation of each stage's kernel and bias: normal of a standard deviation, and constant."""
    return {
        name: (Init("normal", stdev), Init("constant", bias)) for name, stdev, bias in zip(_STAGE_NAMES, stdevs, biases)
    }


# Initialisations by stage, as a source states them; each is usable with every architecture.
INITIALIZATIONS = {
    "original2012": _gaussians((0.01, 0.01, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01), (0, 1, 0, 1, 1, 1, 1, 0)),
    "caffe": _gaussians((0.01, 0.01, 0.01, 0.01, 0.01, 0.005, 0.005, 0.01), (0, 0.1, 0, 0.1, 0.1, 0.1, 0.1, 0)),
    "caffenet": _gaussians((0.01, 0.01, 0.01, 0.01, 0.01, 0.005, 0.005, 0.01), (0, 1, 0, 1, 1, 1, 1, 0)),
}

INITIALIZATION_NAMES = ("source", "he", *INITIALIZATIONS)

# Standard deviation of ImageNet's pixels about their mean, in grey levels: what "he" divides the input by.
PIXEL_STDEV = 58.0


def with_initialization(architecture: Architecture, initialization: str) -> Architecture:
    """Returns the architecture with another initialisation.

    Args:
        architecture: Any architecture.
        initialization: "source": the architecture's own; a key of `INITIALIZATIONS`: that source's; "he": weights that
            keep the signal's size from layer to layer, without biases, on an input of unit variance.

    Raises:
        ValueError: If the initialisation is not known.
    """
    if initialization == "source":
        return architecture
    if initialization == "he":
        return _he(architecture)
    if initialization not in INITIALIZATIONS:
        raise ValueError(f"initialization must be one of {list(INITIALIZATION_NAMES)}; got {initialization!r}.")
    starts = INITIALIZATIONS[initialization]
    stages = tuple(
        dataclasses.replace(stage, kernel=starts[stage.name][0], bias=stage.bias and starts[stage.name][1])
        for stage in architecture.stages
    )
    return dataclasses.replace(architecture, stages=stages)


def _he(architecture: Architecture) -> Architecture:
    """He et al. 2015, with what this network needs: see `with_initialization`.

    Where LRN stood before, the gain makes up for its division by bias^beta (1.68 for k = 2). The dense layers get
    gain 1 and fc8 a standard deviation of .01: 9216 and 4096 inputs of unit size make larger ones diverge (measured).
    """
    stages, is_after_lrn = [], False
    for stage in architecture.stages:
        gain = 2**0.5 * (architecture.lrn.bias**architecture.lrn.beta if is_after_lrn else 1)
        kernel = Init("normal_fan_in", 1.0 if stage.name in ("fc6", "fc7") else gain)
        if stage is architecture.stages[-1]:
            kernel = Init("normal", 0.01)
        bias = stage.bias and Init("constant", 0.0)
        stages.append(dataclasses.replace(stage, kernel=kernel, bias=bias))
        is_after_lrn = "lrn" in stage.ops
    scale = architecture.scale
    if scale == (1.0, 1.0, 1.0):
        scale = (1 / PIXEL_STDEV,) * 3
    return dataclasses.replace(architecture, stages=tuple(stages), scale=scale)


_ONE = Init("constant", 1)

# The network of the paper, Sections 3.1 to 3.5. The text says 224 pixels, which gives 54 x 54 maps without padding and
# 55 x 55 in the author's code (0 zeros before, 3 after); 227 without padding gives the 55 x 55 of Figure 2.
PAPER = Architecture(
    name="paper",
    source="Krizhevsky, Sutskever, Hinton, NIPS 2012, the text",
    image_size=227,
    stages=(
        Stage("conv1", 96, 11, strides=4, towers=2, ops=("relu", "lrn", "pool")),
        Stage("conv2", 256, 5, padding=(2, 2), towers=2, input_towers="own", ops=("relu", "lrn", "pool"), bias=_ONE),
        Stage("conv3", 384, 3, padding=(1, 1), towers=2),
        Stage("conv4", 384, 3, padding=(1, 1), towers=2, input_towers="own", bias=_ONE),
        Stage("conv5", 256, 3, padding=(1, 1), towers=2, input_towers="own", ops=("relu", "pool"), bias=_ONE),
        Stage("fc6", 4096, towers=2, ops=("relu", "dropout"), bias=_ONE),
        Stage("fc7", 4096, towers=2, ops=("relu", "dropout"), bias=_ONE),
        Stage("fc8", 1000, ops=()),
    ),
    recipe=recipes.Recipe(),
    initialization="original2012",
)

# What `layer-params-145.cfg` logs: epoch 25 rate /10, 51 /100, 67 conv1 /10 and colour noise off, 72 conv1 frozen,
# 79 /1000, ended at 91; the biases kept twice the first rate throughout.
_AUTHORS_RECIPE = recipes.Recipe(
    schedule="steps",
    steps=((25 / 91, 0.1), (51 / 91, 0.01), (79 / 91, 0.001)),
    bias_steps=(),
    conv1_steps=((67 / 91, 0.1), (72 / 91, 0.0)),
    colour_noise_until=67 / 91,
    epochs=91,
    bias_learning_rate_multiplier=2.0,
)

ORIGINAL2012 = derive(
    with_initialization(PAPER, "original2012"),
    "original2012",
    "cuda-convnet, layers-145.cfg and layer-params-145.cfg (Computer History Museum release)",
    {
        "conv1": {"padding": (0, 3), "ops": ("lrn", "pool", "relu")},
        "conv2": {"ops": ("relu", "lrn", "same_map_lrn", "pool")},
        "conv5": {"ops": ("pool", "relu")},
    },
    image_size=224,
    lrn=LRN(alpha=2e-5),
    recipe=_AUTHORS_RECIPE,
    initialization="source",
)

# solver.prototxt: batch 256, rate divided by 10 every 100,000 of 450,000 iterations, lr_mult 2 for biases.
_CAFFES_RECIPE = recipes.Recipe(
    batch_size=256,
    schedule="steps",
    steps=((2 / 9, 0.1), (4 / 9, 0.01), (6 / 9, 0.001), (8 / 9, 1e-4)),
    bias_learning_rate_multiplier=2.0,
    colour_noise=False,
    resize="caffe",
)

_ONE_TOWER = {"towers": 1}

CAFFE = derive(
    with_initialization(PAPER, "caffe"),
    "caffe",
    "BVLC/caffe, models/bvlc_alexnet",
    dict.fromkeys(("conv1", "conv3", "fc6", "fc7"), _ONE_TOWER),
    lrn=LRN(bias=1.0, alpha=2e-5),
    lrn_across_towers=True,
    recipe=_CAFFES_RECIPE,
    initialization="source",
)

CAFFENET = derive(
    with_initialization(CAFFE, "caffenet"),
    "caffenet",
    "BVLC/caffe, models/bvlc_reference_caffenet",
    dict.fromkeys(("conv1", "conv2"), {"ops": ("relu", "pool", "lrn")}),
)

ONE_GPU = derive(
    ORIGINAL2012,
    "one_gpu",
    "cuda-convnet, layers-145-half.cfg; the paper's footnote 2",
    {"conv1": {"filters": 48}, "conv2": {"filters": 128}, "conv3": {"filters": 192}, "conv4": {"filters": 192}},
    every=_ONE_TOWER,
)

UNGROUPED = derive(
    PAPER,
    "ungrouped",
    "the paper's layers with the two towers merged, as many ports have it",
    {},
    every=_ONE_TOWER,
)

OWT = derive(
    with_initialization(UNGROUPED, "original2012"),
    "owt",
    "cuda-convnet2, layers-imagenet-1gpu.cfg ('One weird trick', 2014)",
    {
        "conv1": {"filters": 64, "padding": (0, 3), "ops": ("lrn", "pool", "relu")},
        "conv2": {"filters": 192},
        "conv4": {"filters": 256},
        "conv5": {"ops": ("pool", "relu")},
        "fc8": {"bias": Init("constant", -7)},
    },
    image_size=224,
    lrn=LRN(alpha=2e-5),
    # The rate falls by 250 in three equal factors at 25, 50 and 75 % of the run, the biases' by 10 at 50 %.
    recipe=recipes.Recipe(
        schedule="steps",
        steps=((0.25, 250 ** (-1 / 3)), (0.5, 250 ** (-2 / 3)), (0.75, 1 / 250)),
        bias_steps=((0.5, 0.1),),
        bias_learning_rate_multiplier=2.0,
    ),
    initialization="source",
)

_NO_LRN = {"ops": ("relu", "pool")}

TORCHVISION = derive(
    OWT,
    "torchvision",
    "pytorch/vision, torchvision/models/alexnet.py and references/classification",
    {
        "conv1": {"padding": (2, 2), **_NO_LRN},
        "conv2": _NO_LRN,
        "conv5": {"ops": ("relu", "pool", "dropout")},
        "fc7": {"ops": ("relu",)},
    },
    every={"kernel": Init("uniform_fan_in", 1.0), "bias": Init("uniform_fan_in", 1.0)},
    lrn=LRN(),
    mean=(123.675, 116.28, 103.53),
    scale=(1 / 58.395, 1 / 57.12, 1 / 57.375),
    recipe=recipes.Recipe(
        batch_size=256,
        weight_decay=1e-4,
        schedule="steps",
        steps=((1 / 3, 0.1), (2 / 3, 0.01)),
        colour_noise=False,
        crop="random_resized",
    ),
)

TF1_CLASS = derive(
    UNGROUPED,
    "tf1_class",
    "a widely copied TensorFlow 1 class AlexNet_CNN: no ReLU, no biases in its convolutions",
    {
        "conv1": {"ops": ("lrn", "pool"), "pool": Pool(padding="same")},
        "conv2": {"ops": ("lrn", "pool")},
        "conv3": {"ops": ()},
        "conv4": {"ops": ()},
        "conv5": {"ops": ("pool",)},
        **dict.fromkeys(("fc6", "fc7", "fc8"), {"kernel": Init("normal", 1.0), "bias": Init("normal", 1.0)}),
    },
    every={"kernel": Init("truncated_normal", 0.1), "bias": None},
    image_size=224,
    lrn=LRN(bias=1.0, alpha=1e-5),
    initialization="source",
)

FC2048 = derive(
    UNGROUPED,
    "fc2048",
    "a layer-by-layer walk that halves fc6 and fc7 and has no LRN",
    {
        "conv1": {"padding": (1, 2), **_NO_LRN},
        "conv2": _NO_LRN,
        "fc6": {"filters": 2048},
        "fc7": {"filters": 2048},
    },
    image_size=224,
)

CONV_FC = derive(
    UNGROUPED,
    "conv_fc",
    "a blog's data-flow tables: towers in conv1 and conv2 only, dense layers as convolutions",
    {
        "conv1": {"towers": 2, **_NO_LRN},
        "conv2": {"towers": 2, **_NO_LRN},
        "fc6": {"kernel_size": 6},
        "fc7": {"kernel_size": 1},
        "fc8": {"kernel_size": 1},
    },
)

NO_LRN = derive(
    ORIGINAL2012,
    "no_lrn",
    "the author's ablation 148 of layers-145.cfg, Section 3.3",
    {"conv1": {"ops": ("pool", "relu")}, "conv2": _NO_LRN},
)

_POOL_2 = {"pool": Pool(2, 2, "same")}

NON_OVERLAP = derive(
    ORIGINAL2012,
    "non_overlap",
    "the author's ablation 147 of layers-145.cfg, Section 3.4",
    {"conv1": _POOL_2, "conv2": {"padding": (1, 1), **_POOL_2}, "conv5": {"padding": (0, 0), **_POOL_2}},
)

ARCHITECTURES = {
    each.name: each
    for each in (
        PAPER,
        ORIGINAL2012,
        CAFFE,
        CAFFENET,
        ONE_GPU,
        UNGROUPED,
        OWT,
        TORCHVISION,
        TF1_CLASS,
        FC2048,
        CONV_FC,
        NO_LRN,
        NON_OVERLAP,
    )
}


def has_two_columns(architecture: Architecture) -> bool:
    """Says whether every stage but the last is two towers, whose windows of normalisation do not cross."""
    return all(stage.towers == 2 for stage in architecture.stages[:-1]) and architecture.lrn_across_towers is False
