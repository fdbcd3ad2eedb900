"""What a person can choose about an export. Standard library only, so that `--help` and mistakes answer at once."""

import dataclasses
from collections.abc import Iterable

from alexnet_tf.support import errors

# How a .tflite file stores its weights, and which implementation of LRN is faster with it: measured at full width on
# two cores. XNNPACK, which runs everything else, has no LRN: the built-in op cuts the graph in pieces. As a convolution
# the graph is one piece, but in integers its square roots are slow, so that int8 keeps the op, in floats.
LRN_IMPLEMENTATIONS = {"float32": "convolution", "float16": "convolution", "dynamic": "convolution", "int8": "builtin"}

# How the dense layers' 8-bit weights are scaled. One scale for each layer is read by every runtime from 2.4 on; one
# scale for each unit needs 2.17: older runtimes refuse the file or, in int8, compute wrong results without a word.
DENSE_QUANTIZATIONS = ("per_tensor", "per_channel")

# The most that `preprocessing` decodes, whatever an export allows.
MAX_MEGAPIXELS = 100

# The longest request that TF Serving takes over gRPC by default is of 4 MB; photographs of 100 megapixels are longer.
MAX_MEGABYTES = 256


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """What to export.

    Attributes:
        formats: Some of the keys of `formats.FORMATS`.
        quantizations: Some of the keys of `LRN_IMPLEMENTATIONS`.
        lrn: How the .tflite files compute LRN: "builtin", "convolution", or "auto" for the faster.
        dense_quantization: One of `DENSE_QUANTIZATIONS`, for the .tflite files with 8-bit weights.
        tflite_batch_size: Images that a .tflite file takes at once; the number is fixed in the file.
        checkpoint: "last" or "best".
        data_dir: Images to compare and to calibrate on; by default the run's.
        dataset: Name of the TFDS data set in it.
        max_megapixels: The SavedModel refuses images whose header declares more.
        max_megabytes: The SavedModel refuses longer encoded images.
        litert_js: Where the web page takes LiteRT.js from: a folder of the npm package, or an address. By default the
            package is fetched once with `npm` and kept in the page's folder.
    """

    formats: tuple[str, ...] = ("saved_model", "tflite")
    quantizations: tuple[str, ...] = tuple(LRN_IMPLEMENTATIONS)
    lrn: str = "auto"
    dense_quantization: str = "per_tensor"
    tflite_batch_size: int = 1
    checkpoint: str = "last"
    data_dir: str | None = None
    dataset: str | None = None
    max_megapixels: int = MAX_MEGAPIXELS
    max_megabytes: int = MAX_MEGABYTES
    litert_js: str | None = None

    def __post_init__(self) -> None:
        check_choices("quantization", self.quantizations, LRN_IMPLEMENTATIONS)
        check_choices("lrn", (self.lrn,), ("auto", "builtin", "convolution"))
        check_choices("dense_quantization", (self.dense_quantization,), DENSE_QUANTIZATIONS)


def check_choices(flag: str, given: tuple[str, ...], known: Iterable[str]) -> None:
    """Checks the values of a flag.

    Raises:
        UserError: If there are none, or some are not known.
    """
    names = list(known)
    unknown = [name for name in given if name not in names]
    if unknown or not given:
        raise errors.UserError(
            f"--{flag} takes {', '.join(names)}, separated by commas; got {', '.join(unknown) or 'nothing'}."
        )
