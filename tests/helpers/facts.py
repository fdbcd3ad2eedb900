"""What the sources state of each architecture, written out a second time by hand: the judge of all tests.

An architecture has one entry here.
"""

import dataclasses

# Weight layers and pools in order: output shape, kernel and parameters (of each tower).
TWO_TOWERS = """
    conv1_a conv1_b            55 55 48      11x11x3x48       17,472
    conv1_a_pool conv1_b_pool  27 27 48
    conv2_a conv2_b            27 27 128     5x5x48x128      153,728
    conv2_a_pool conv2_b_pool  13 13 128
    conv3_a conv3_b            13 13 192     3x3x256x192     442,560
    conv4_a conv4_b            13 13 192     3x3x192x192     331,968
    conv5_a conv5_b            13 13 128     3x3x192x128     221,312
    conv5_a_pool conv5_b_pool  6 6 128
    fc6_a fc6_b                2048          9216x2048    18,876,416
    fc7_a fc7_b                2048          4096x2048     8,390,656
    fc8                        1000          4096x1000     4,097,000
"""
# bvlc_alexnet's norm2 reads both groups, so that its pool2 is one layer; caffenet pools before that.
GROUPS = """
    conv1                      55 55 96      11x11x3x96       34,944
    conv1_pool                 27 27 96
    conv2_a conv2_b            27 27 128     5x5x48x128      153,728
    conv2_pool                 13 13 256
    conv3                      13 13 384     3x3x256x384     885,120
    conv4_a conv4_b            13 13 192     3x3x192x192     331,968
    conv5_a conv5_b            13 13 128     3x3x192x128     221,312
    conv5_a_pool conv5_b_pool  6 6 128
    fc6                        4096          9216x4096    37,752,832
    fc7                        4096          4096x4096    16,781,312
    fc8                        1000          4096x1000     4,097,000
"""
ONE_GPU = """
    conv1       55 55 48      11x11x3x48       17,472
    conv1_pool  27 27 48
    conv2       27 27 128     5x5x48x128      153,728
    conv2_pool  13 13 128
    conv3       13 13 192     3x3x128x192     221,376
    conv4       13 13 192     3x3x192x192     331,968
    conv5       13 13 256     3x3x192x256     442,624
    conv5_pool  6 6 256
    fc6         4096          9216x4096    37,752,832
    fc7         4096          4096x4096    16,781,312
    fc8         1000          4096x1000     4,097,000
"""
UNGROUPED = """
    conv1       55 55 96      11x11x3x96       34,944
    conv1_pool  27 27 96
    conv2       27 27 256     5x5x96x256      614,656
    conv2_pool  13 13 256
    conv3       13 13 384     3x3x256x384     885,120
    conv4       13 13 384     3x3x384x384   1,327,488
    conv5       13 13 256     3x3x384x256     884,992
    conv5_pool  6 6 256
    fc6         4096          9216x4096    37,752,832
    fc7         4096          4096x4096    16,781,312
    fc8         1000          4096x1000     4,097,000
"""
ONE_WEIRD_TRICK = """
    conv1       55 55 64      11x11x3x64       23,296
    conv1_pool  27 27 64
    conv2       27 27 192     5x5x64x192      307,392
    conv2_pool  13 13 192
    conv3       13 13 384     3x3x192x384     663,936
    conv4       13 13 256     3x3x384x256     884,992
    conv5       13 13 256     3x3x256x256     590,080
    conv5_pool  6 6 256
    fc6         4096          9216x4096    37,752,832
    fc7         4096          4096x4096    16,781,312
    fc8         1000          4096x1000     4,097,000
"""
TF1_CLASS = """
    conv1       54 54 96      11x11x3x96       34,848
    conv1_pool  27 27 96
    conv2       27 27 256     5x5x96x256      614,400
    conv2_pool  13 13 256
    conv3       13 13 384     3x3x256x384     884,736
    conv4       13 13 384     3x3x384x384   1,327,104
    conv5       13 13 256     3x3x384x256     884,736
    conv5_pool  6 6 256
    fc6         4096          9216x4096    37,752,832
    fc7         4096          4096x4096    16,781,312
    fc8         1000          4096x1000     4,097,000
"""
FC2048 = """
    conv1       55 55 96      11x11x3x96       34,944
    conv1_pool  27 27 96
    conv2       27 27 256     5x5x96x256      614,656
    conv2_pool  13 13 256
    conv3       13 13 384     3x3x256x384     885,120
    conv4       13 13 384     3x3x384x384   1,327,488
    conv5       13 13 256     3x3x384x256     884,992
    conv5_pool  6 6 256
    fc6         2048          9216x2048    18,876,416
    fc7         2048          2048x2048     4,196,352
    fc8         1000          2048x1000     2,049,000
"""
CONV_FC = """
    conv1_a conv1_b            55 55 48      11x11x3x48       17,472
    conv1_a_pool conv1_b_pool  27 27 48
    conv2_a conv2_b            27 27 128     5x5x48x128      153,728
    conv2_a_pool conv2_b_pool  13 13 128
    conv3                      13 13 384     3x3x256x384     885,120
    conv4                      13 13 384     3x3x384x384   1,327,488
    conv5                      13 13 256     3x3x384x256     884,992
    conv5_pool                 6 6 256
    fc6                        1 1 4096      6x6x256x4096 37,752,832
    fc7                        1 1 4096      1x1x4096x4096 16,781,312
    fc8                        1 1 1000      1x1x4096x1000 4,097,000
"""
NON_OVERLAP = """
    conv1_a conv1_b            55 55 48      11x11x3x48       17,472
    conv1_a_pool conv1_b_pool  28 28 48
    conv2_a conv2_b            26 26 128     5x5x48x128      153,728
    conv2_a_pool conv2_b_pool  13 13 128
    conv3_a conv3_b            13 13 192     3x3x256x192     442,560
    conv4_a conv4_b            13 13 192     3x3x192x192     331,968
    conv5_a conv5_b            11 11 128     3x3x192x128     221,312
    conv5_a_pool conv5_b_pool  6 6 128
    fc6_a fc6_b                2048          9216x2048    18,876,416
    fc7_a fc7_b                2048          4096x2048     8,390,656
    fc8                        1000          4096x1000     4,097,000
"""


def steps(conv1, conv2, conv5="relu pool", fc6="relu dropout", fc7="relu dropout", conv34="relu"):
    """Returns what follows each weight layer, in order."""
    return {
        "conv1": conv1.split(),
        "conv2": conv2.split(),
        "conv3": conv34.split(),
        "conv4": conv34.split(),
        "conv5": conv5.split(),
        "fc6": fc6.split(),
        "fc7": fc7.split(),
        "fc8": [],
    }


@dataclasses.dataclass(frozen=True)
class Facts:
    """The numbers of a source.

    Attributes:
        parameters: Weights and biases.
        multiply_adds: Of an image; None where nobody worked them out.
        image_size: Side of the image.
        layers: As a text: names, output shape, kernel and parameters (of each tower) of the weight layers and pools.
        steps: What follows each weight layer, in order.
        lrn: k, effective alpha, and whether the window of 5 channels stays in a tower. beta is .75 everywhere.
        conv1_padding: Zeros before and after the image.
        gaussians: Standard deviation of the kernel and bias, conv1 ... fc8; None where they are not Gaussians.
        recipe: Batch size, rate, weight decay, schedule, biases' rate over the kernels', epochs, colour noise, resize,
            crop.
        rates: Epochs or iterations, and (from which on, the kernels' rate); None where there are no steps.
        paddings: Zeros before and after a later stage, where they are not (2, 2) for conv2 and (1, 1) for conv3 to 5.
        strides: Of the convolutions, where they are not 1.
        pool: Size of the windows of pooling.
    """

    parameters: int
    multiply_adds: int | None
    image_size: int
    layers: str
    steps: dict[str, list[str]]
    lrn: tuple[float, float, bool] | None
    conv1_padding: tuple[int, int]
    gaussians: str | None
    recipe: tuple
    rates: tuple | None = None
    paddings: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    strides: dict[str, int] = dataclasses.field(default_factory=lambda: {"conv1": 4})
    pool: int = 3


# Positions times the kernel's size: 3025 x 34,848 (conv1), 729 x 307,200, 169 x 884,736, 169 x 663,552,
# 169 x 442,368, and the dense layers' 37,748,736 + 16,777,216 + 4,096,000.
GROUPED_ADDS = 724_406_816

GAUSSIANS_PAPER = ".01 0  .01 1  .01 0  .01 1  .01 1  .01 1  .01 1  .01 0"
GAUSSIANS_145 = ".01 0  .01 1  .03 0  .03 1  .03 1  .01 1  .01 1  .01 0"
PAPERS_RECIPE = (128, 0.01, 5e-4, "plateau", 1, 90, True, "paper", "window")
RECIPE_145 = (128, 0.01, 5e-4, "steps", 2, 91, True, "paper", "window")
CAFFES_SOLVER = (256, 0.01, 5e-4, "steps", 2, 90, False, "caffe", "window")
RATES_145 = (91, [(25, 0.001), (51, 1e-4), (79, 1e-5)])
# 450,000 iterations, which fall by 10 every 100,000.
RATES_CAFFE = (450_000, [(100_000, 0.001), (200_000, 1e-4), (300_000, 1e-5), (400_000, 1e-6)])

PAPER = Facts(
    60_965_224,
    GROUPED_ADDS,
    227,
    TWO_TOWERS,
    steps("relu lrn pool", "relu lrn pool"),
    (2, 1e-4, True),
    (0, 0),
    GAUSSIANS_PAPER,
    PAPERS_RECIPE,
)
ORIGINAL2012 = Facts(
    60_965_224,
    GROUPED_ADDS,
    224,
    TWO_TOWERS,
    steps("lrn pool relu", "relu lrn same_map_lrn pool", conv5="pool relu"),
    (2, 2e-5, True),
    (0, 3),
    GAUSSIANS_145,
    RECIPE_145,
    RATES_145,
)
CAFFE = Facts(
    60_965_224,
    GROUPED_ADDS,
    227,
    GROUPS,
    steps("relu lrn pool", "relu lrn pool"),
    (1, 2e-5, False),
    (0, 0),
    ".01 0  .01 .1  .01 0  .01 .1  .01 .1  .005 .1  .005 .1  .01 0",
    CAFFES_SOLVER,
    RATES_CAFFE,
)
OWT = Facts(
    61_100_840,
    714_188_480,
    224,
    ONE_WEIRD_TRICK,
    steps("lrn pool relu", "relu lrn pool", conv5="pool relu"),
    (2, 2e-5, True),
    (0, 3),
    ".01 0  .01 1  .03 0  .03 1  .03 1  .01 1  .01 1  .01 -7",
    (128, 0.01, 5e-4, "steps", 2, 90, True, "paper", "window"),
    (4, [(1, 0.001587401051968), (2, 0.000251984209979), (3, 0.00004)]),
)
FACTS = {
    "paper": PAPER,
    "original2012": ORIGINAL2012,
    "caffe": CAFFE,
    "caffenet": dataclasses.replace(
        CAFFE,
        layers=GROUPS.replace("conv2_pool                 13 13 256", "conv2_a_pool conv2_b_pool 13 13 128"),
        steps=steps("relu pool lrn", "relu pool lrn"),
        gaussians=".01 0  .01 1  .01 0  .01 1  .01 1  .005 1  .005 1  .01 0",
    ),
    "one_gpu": dataclasses.replace(ORIGINAL2012, parameters=59_798_312, multiply_adds=391_514_384, layers=ONE_GPU),
    "ungrouped": dataclasses.replace(
        PAPER,
        parameters=62_378_344,
        # 729 x 614,400, 169 x 1,327,104 and 169 x 884,736 in conv2, conv4 and conv5.
        multiply_adds=1_135_256_096,
        layers=UNGROUPED,
    ),
    "owt": OWT,
    "torchvision": dataclasses.replace(
        OWT,
        steps=steps("relu pool", "relu pool", conv5="relu pool dropout", fc7="relu"),
        lrn=None,
        conv1_padding=(2, 2),
        gaussians=None,
        recipe=(256, 0.01, 1e-4, "steps", 1, 90, False, "paper", "random_resized"),
        rates=(90, [(30, 0.001), (60, 1e-4)]),
    ),
    "tf1_class": Facts(
        62_376_968,
        None,
        224,
        TF1_CLASS,
        steps("lrn pool", "lrn pool", conv5="pool", conv34=""),
        (1, 1e-5, True),
        (0, 0),
        None,
        PAPERS_RECIPE,
    ),
    "fc2048": Facts(
        28_868_968,
        None,
        224,
        FC2048,
        steps("relu pool", "relu pool"),
        None,
        (1, 2),
        GAUSSIANS_PAPER,
        PAPERS_RECIPE,
    ),
    "conv_fc": Facts(
        62_071_144,
        None,
        227,
        CONV_FC,
        steps("relu pool", "relu pool"),
        None,
        (0, 0),
        GAUSSIANS_PAPER,
        PAPERS_RECIPE,
    ),
    "no_lrn": dataclasses.replace(ORIGINAL2012, steps=steps("pool relu", "relu pool", conv5="pool relu"), lrn=None),
    "non_overlap": dataclasses.replace(
        ORIGINAL2012, multiply_adds=None, layers=NON_OVERLAP, paddings={"conv2": (1, 1), "conv5": (0, 0)}, pool=2
    ),
}


def gaussians_of(name: str) -> tuple[tuple[float, float], ...]:
    """Returns the standard deviation of the kernel and the bias of each stage, conv1 ... fc8."""
    numbers = list(map(float, (FACTS[name].gaussians or "").split()))
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))
