"""The networks and their training recipes as data: what every published AlexNet is, and how it learns.

A variant is an entry of `ARCHITECTURES`, which `alexnet.build_model` turns into a model. TensorFlow is not imported.
Sources: "the paper" is Krizhevsky, Sutskever, Hinton, NIPS 2012; "the author's file" is `layers-145.cfg` of the
cuda-convnet tree that the Computer History Museum released; Caffe is BVLC/caffe.
"""

import dataclasses
import math
import typing

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
    bias: Init | None = Init("constant", 0.0)
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


def _each(architecture: Architecture, **changes: dict[str, typing.Any]) -> tuple[Stage, ...]:
    """Returns the stages with changed fields: `conv1={"padding": (0, 3)}`."""
    return tuple(dataclasses.replace(s, **changes.get(s.name, {})) for s in architecture.stages)


def with_num_classes(architecture: Architecture, num_classes: int) -> Architecture:
    """Returns the architecture with another number of logits.

    Raises:
        ValueError: If it is below 1.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1; got {num_classes}.")
    last = dataclasses.replace(architecture.stages[-1], filters=num_classes)
    return dataclasses.replace(architecture, stages=architecture.stages[:-1] + (last,))


def _normal(std: float, bias: float) -> dict[str, typing.Any]:
    return {"kernel": Init("normal", std), "bias": Init("constant", bias)}


_STAGE_NAMES = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")

# Initialisations by stage, as a source states them; each is usable with every architecture.
INITIALIZATIONS = {
    "original2012": dict(
        zip(
            _STAGE_NAMES,
            (
                _normal(0.01, 0),
                _normal(0.01, 1),
                _normal(0.03, 0),
                _normal(0.03, 1),
                _normal(0.03, 1),
                _normal(0.01, 1),
                _normal(0.01, 1),
                _normal(0.01, 0),
            ),
        )
    ),
    "caffe": dict(
        zip(
            _STAGE_NAMES,
            (
                _normal(0.01, 0),
                _normal(0.01, 0.1),
                _normal(0.01, 0),
                _normal(0.01, 0.1),
                _normal(0.01, 0.1),
                _normal(0.005, 0.1),
                _normal(0.005, 0.1),
                _normal(0.01, 0),
            ),
        )
    ),
    "caffenet": dict(
        zip(
            _STAGE_NAMES,
            (
                _normal(0.01, 0),
                _normal(0.01, 1),
                _normal(0.01, 0),
                _normal(0.01, 1),
                _normal(0.01, 1),
                _normal(0.005, 1),
                _normal(0.005, 1),
                _normal(0.01, 0),
            ),
        )
    ),
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
        dataclasses.replace(stage, **starts[stage.name] if stage.bias else {"kernel": starts[stage.name]["kernel"]})
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


# The network of the paper, Sections 3.1 to 3.5. The text says 224 pixels, which gives 54 x 54 maps without padding and
# 55 x 55 in the author's code (0 zeros before, 3 after); 227 without padding gives the 55 x 55 of Figure 2.
PAPER = Architecture(
    name="paper",
    source="Krizhevsky, Sutskever, Hinton, NIPS 2012, the text",
    image_size=227,
    stages=(
        Stage("conv1", 96, 11, strides=4, towers=2, ops=("relu", "lrn", "pool"), **_normal(0.01, 0)),
        Stage(
            "conv2",
            256,
            5,
            padding=(2, 2),
            towers=2,
            input_towers="own",
            ops=("relu", "lrn", "pool"),
            **_normal(0.01, 1),
        ),
        Stage("conv3", 384, 3, padding=(1, 1), towers=2, **_normal(0.01, 0)),
        Stage("conv4", 384, 3, padding=(1, 1), towers=2, input_towers="own", **_normal(0.01, 1)),
        Stage("conv5", 256, 3, padding=(1, 1), towers=2, input_towers="own", ops=("relu", "pool"), **_normal(0.01, 1)),
        Stage("fc6", 4096, towers=2, ops=("relu", "dropout"), **_normal(0.01, 1)),
        Stage("fc7", 4096, towers=2, ops=("relu", "dropout"), **_normal(0.01, 1)),
        Stage("fc8", 1000, ops=(), **_normal(0.01, 0)),
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

ORIGINAL2012 = Architecture(
    name="original2012",
    source="cuda-convnet, layers-145.cfg and layer-params-145.cfg (Computer History Museum release)",
    image_size=224,
    stages=_each(
        with_initialization(PAPER, "original2012"),
        conv1={"padding": (0, 3), "ops": ("lrn", "pool", "relu")},
        conv2={"ops": ("relu", "lrn", "same_map_lrn", "pool")},
        conv5={"ops": ("pool", "relu")},
    ),
    lrn=LRN(alpha=2e-5),
    recipe=_AUTHORS_RECIPE,
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

CAFFE = Architecture(
    name="caffe",
    source="BVLC/caffe, models/bvlc_alexnet",
    image_size=227,
    stages=_each(
        with_initialization(PAPER, "caffe"),
        conv1={"towers": 1},
        conv3={"towers": 1},
        fc6={"towers": 1},
        fc7={"towers": 1},
    ),
    lrn=LRN(bias=1.0, alpha=2e-5),
    lrn_across_towers=True,
    recipe=_CAFFES_RECIPE,
)

CAFFENET = dataclasses.replace(
    CAFFE,
    name="caffenet",
    source="BVLC/caffe, models/bvlc_reference_caffenet",
    stages=_each(
        with_initialization(CAFFE, "caffenet"),
        conv1={"ops": ("relu", "pool", "lrn")},
        conv2={"ops": ("relu", "pool", "lrn")},
    ),
)

ONE_GPU = dataclasses.replace(
    ORIGINAL2012,
    name="one_gpu",
    source="cuda-convnet, layers-145-half.cfg; the paper's footnote 2",
    stages=_each(
        ORIGINAL2012,
        conv1={"filters": 48, "towers": 1},
        conv2={"filters": 128, "towers": 1},
        conv3={"filters": 192, "towers": 1},
        conv4={"filters": 192, "towers": 1},
        conv5={"towers": 1},
        fc6={"towers": 1},
        fc7={"towers": 1},
    ),
)

UNGROUPED = dataclasses.replace(
    PAPER,
    name="ungrouped",
    source="the paper's layers with the two towers merged, as many ports have it",
    stages=tuple(dataclasses.replace(s, towers=1) for s in PAPER.stages),
)

OWT = Architecture(
    name="owt",
    source="cuda-convnet2, layers-imagenet-1gpu.cfg ('One weird trick', 2014)",
    image_size=224,
    stages=_each(
        with_initialization(UNGROUPED, "original2012"),
        conv1={"filters": 64, "padding": (0, 3), "ops": ("lrn", "pool", "relu")},
        conv2={"filters": 192},
        conv4={"filters": 256},
        conv5={"ops": ("pool", "relu")},
        fc8=_normal(0.01, -7),
    ),
    lrn=LRN(alpha=2e-5),
    # The rate falls by 250 in three equal factors at 25, 50 and 75 % of the run, the biases' by 10 at 50 %.
    recipe=recipes.Recipe(
        schedule="steps",
        steps=((0.25, 250 ** (-1 / 3)), (0.5, 250 ** (-2 / 3)), (0.75, 1 / 250)),
        bias_steps=((0.5, 0.1),),
        bias_learning_rate_multiplier=2.0,
    ),
)

_PYTORCH_DEFAULT: dict[str, typing.Any] = {"kernel": Init("uniform_fan_in", 1.0), "bias": Init("uniform_fan_in", 1.0)}

TORCHVISION = Architecture(
    name="torchvision",
    source="pytorch/vision, torchvision/models/alexnet.py and references/classification",
    image_size=224,
    stages=tuple(
        dataclasses.replace(s, **_PYTORCH_DEFAULT)
        for s in _each(
            OWT,
            conv1={"padding": (2, 2), "ops": ("relu", "pool")},
            conv2={"ops": ("relu", "pool")},
            conv5={"ops": ("relu", "pool", "dropout")},
            fc7={"ops": ("relu",)},
        )
    ),
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

_TF1_CONV = {"kernel": Init("truncated_normal", 0.1), "bias": None}

_TF1_DENSE = {"kernel": Init("normal", 1.0), "bias": Init("normal", 1.0)}

TF1_CLASS = Architecture(
    name="tf1_class",
    source="a widely copied TensorFlow 1 class AlexNet_CNN: no ReLU, no biases in its convolutions",
    image_size=224,
    stages=_each(
        UNGROUPED,
        conv1={"ops": ("lrn", "pool"), "pool": Pool(padding="same"), **_TF1_CONV},
        conv2={"ops": ("lrn", "pool"), **_TF1_CONV},
        conv3={"ops": (), **_TF1_CONV},
        conv4={"ops": (), **_TF1_CONV},
        conv5={"ops": ("pool",), **_TF1_CONV},
        fc6=_TF1_DENSE,
        fc7=_TF1_DENSE,
        fc8=_TF1_DENSE,
    ),
    lrn=LRN(bias=1.0, alpha=1e-5),
    recipe=recipes.Recipe(),
)

FC2048 = dataclasses.replace(
    UNGROUPED,
    name="fc2048",
    source="a layer-by-layer walk that halves fc6 and fc7 and has no LRN",
    image_size=224,
    stages=_each(
        UNGROUPED,
        conv1={"padding": (1, 2), "ops": ("relu", "pool")},
        conv2={"ops": ("relu", "pool")},
        fc6={"filters": 2048},
        fc7={"filters": 2048},
    ),
)

CONV_FC = dataclasses.replace(
    UNGROUPED,
    name="conv_fc",
    source="a blog's data-flow tables: towers in conv1 and conv2 only, dense layers as convolutions",
    stages=_each(
        UNGROUPED,
        conv1={"towers": 2, "ops": ("relu", "pool")},
        conv2={"towers": 2, "ops": ("relu", "pool")},
        fc6={"kernel_size": 6},
        fc7={"kernel_size": 1},
        fc8={"kernel_size": 1},
    ),
)

NO_LRN = dataclasses.replace(
    ORIGINAL2012,
    name="no_lrn",
    source="the author's ablation 148 of layers-145.cfg, Section 3.3",
    stages=_each(ORIGINAL2012, conv1={"ops": ("pool", "relu")}, conv2={"ops": ("relu", "pool")}),
)

_POOL_2 = {"pool": Pool(2, 2, "same")}

NON_OVERLAP = dataclasses.replace(
    ORIGINAL2012,
    name="non_overlap",
    source="the author's ablation 147 of layers-145.cfg, Section 3.4",
    stages=_each(
        ORIGINAL2012, conv1=_POOL_2, conv2={"padding": (1, 1), **_POOL_2}, conv5={"padding": (0, 0), **_POOL_2}
    ),
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
