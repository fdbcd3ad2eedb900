"""The Python interface: ordinary Keras models from a name or a run, and a run's predictions.

import alexnet_tf

model = alexnet_tf.build_model("paper", num_classes=10)
run = alexnet_tf.load_run("runs/paper-demo")
run.predict(["photo.jpg"])
"""

import difflib
import gc
import inspect
import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
import PIL.Image

from alexnet_tf.data import plain_images
from alexnet_tf.evaluation import metrics, predictions
from alexnet_tf.network import alexnet, architectures
from alexnet_tf.runs import checkpoints
from alexnet_tf.runs.config import RunConfig
from alexnet_tf.runs.directory import RunDirectory
from alexnet_tf.support import devices, errors
from alexnet_tf.weights import pretrained

_LOGGER = logging.getLogger(__name__)

# What `keras.applications` has under other names, or leaves to its callers.
_OTHER_NAMES = {
    "classes": ": write num_classes=.",
    "input_shape": ": write image_size=, with include_top=False for images of another size.",
    "input_tensor": ": call the model on the tensor.",
    "name": ": the model has its architecture's name.",
    "pooling": ": write include_top=False, and keras.layers.GlobalAveragePooling2D() behind it.",
}


def build_model(
    architecture: str | architectures.Architecture | None = None,
    *,
    num_classes: int | None = None,
    initialization: str = "he",
    weights: str | os.PathLike[str] | None = None,
    checkpoint: str = "last",
    include_top: bool = True,
    classifier_activation: str | None = None,
    image_size: int | tuple[int, ...] | None = None,
    seed: int = 0,
    precision: str | None = None,
    mean: Any = None,
    **others: Any,
) -> alexnet.AlexNet:
    """Returns an AlexNet as an ordinary Keras model: RGB images [batch, height, width, 3] in [0, 255] to logits.

    It normalises its input itself. The logits have no softmax: compile it with a loss that has `from_logits=True`.

    Args:
        architecture: Name of a published AlexNet, as `python -m alexnet_tf train --architecture` takes it, or an
            `architectures.Architecture`, whose own initialisation and scale then stay as they are. By default "paper",
            or the run's.
        num_classes: Number of logits; by default 1000, or the run's.
        initialization: One of `architectures.INITIALIZATION_NAMES`. "he" learns on small data; "source" is what the
            source states, which for the paper's text does not.
        weights: Directory of a run, trained or made by `import_weights`, whose weights, classes and input normalisation
            are used; its architecture must be `architecture`. Or "imagenet": public weights, as `load_pretrained`.
            With another number of classes the last layer is random.
        checkpoint: Which of the run's: "last" or "best".
        include_top: False ends the network with the features of the convolutions, both towers joined; then images of
            other sizes are accepted.
        classifier_activation: "softmax" for a network that returns probabilities; by default it returns logits.
        image_size: Side of the images in pixels, (height, width) or (height, width, 3); by default the architecture's.
        seed: Fixes the initial weights and the dropout masks.
        precision: Keras dtype policy, such as "mixed_bfloat16"; by default the global one.
        mean: What is subtracted from the images; by default the architecture's or the run's.
        **others: None; those of `keras.applications` are told what to write instead.

    Raises:
        TypeError: If there is another argument.
        ValueError: If the network cannot have so many classes, or take images of this size.
        UserError: If the architecture is not known, or the run's is another.
    """
    if others:
        name = next(iter(others))
        near = difflib.get_close_matches(name, inspect.signature(build_model).parameters, 1)
        advice = _OTHER_NAMES.get(name) or (f". Did you mean {near[0]!r}?" if near else "")
        raise TypeError(f"build_model() has no argument {name!r}{advice}")
    if not include_top and num_classes is not None:
        raise errors.UserError(
            f"num_classes={num_classes} has no meaning with include_top=False: leave one of them out."
        )
    if classifier_activation not in (None, "linear", "softmax"):
        raise errors.UserError(f"classifier_activation must be 'softmax' or None; got {classifier_activation!r}.")
    if weights == "imagenet":
        own_name = architecture if isinstance(architecture, str | None) else architecture.name
        weights = pretrained.load((own_name or "paper").lower(), _LOGGER.info)
    size = image_size if isinstance(image_size, int) or image_size is None else (image_size[0], image_size[1])
    arguments: dict[str, Any] = {"include_top": include_top, "image_size": size, "seed": seed, "precision": precision}
    if weights is not None:
        run = RunDirectory(weights)
        model = _from_run(run, architecture, num_classes, mean=mean, checkpoint=checkpoint, **arguments)
    else:
        architecture = architecture or "paper"
        if isinstance(architecture, str):
            architecture = architectures.with_initialization(_find(architecture), initialization)
        if num_classes is not None:
            architecture = architectures.with_num_classes(architecture, num_classes)
        model = alexnet.build_model(architecture, mean=mean, **arguments)
    if classifier_activation != "softmax":
        return model
    probabilities = keras.layers.Softmax(name="probabilities", dtype="float32")(model.output)
    return alexnet.AlexNet(model.input, probabilities, name=model.name)


def _find(name: str) -> architectures.Architecture:
    """Returns an architecture by its name, in upper or lower case."""
    try:
        return architectures.ARCHITECTURES[name.lower()]
    except KeyError:
        raise errors.UserError(
            f"architecture must be one of {', '.join(architectures.ARCHITECTURES)}; got {name!r}."
        ) from None


def _from_run(
    run: RunDirectory,
    architecture: str | architectures.Architecture | None = None,
    num_classes: int | None = None,
    *,
    mean: Any = None,
    checkpoint: str = "last",
    **arguments: Any,
) -> alexnet.AlexNet:
    """Builds the network of a run, with its weights but for a last layer of another size."""
    if checkpoint not in ("last", "best"):
        raise errors.UserError(f'checkpoint must be "last" or "best"; got {checkpoint!r}.')
    run_config = run.existing_config()
    own = run_config.architecture
    name = architecture if isinstance(architecture, str | None) else architecture.name
    if name is not None and name.lower() != own.name:
        raise errors.UserError(f"weights={str(run)!r} is a run of {own.name}; got architecture={name!r}. Leave it out.")
    is_same = num_classes in (None, own.num_classes)
    model = alexnet.build_model(
        own if num_classes is None else architectures.with_num_classes(own, num_classes),
        mean=run.read_mean(run_config) if mean is None else mean,
        initialize=not is_same,
        **arguments,
    )
    last = () if is_same else own.stages[-1].layer_names
    variables = [variable for variable in model.weights if variable.path.split("/")[0] not in last]
    checkpoints.restore(variables, run.existing_checkpoint(checkpoint)[0])
    return model


class Run:
    """A run's network and its classes.

    Attributes:
        model: The Keras model, with the weights of a checkpoint in float32. `predict` computes with it: what you train
            further predicts as it has become.
        class_names: In the order of the logits.
        config: What the run was started with.
    """

    def __init__(self, path: str | os.PathLike[str], checkpoint: str = "last", precision: str | None = None) -> None:
        """Loads a run: see `load_run`."""
        directory = RunDirectory(path)
        self.config: RunConfig = directory.existing_config()
        self.class_names = directory.class_names()
        devices.share_memory()
        devices.set_numerics(tf32=False)
        precision = precision or self.config.train.precision
        self.model = _from_run(directory, checkpoint=checkpoint, precision=precision)
        self._predictor = metrics.make_predictor(self.model)

    def predict(self, images: Any, batch_size: int = 128) -> np.ndarray:
        """Returns the probabilities of the classes, float32 [images, classes].

        Args:
            images: One image or an iterable of many, each of any size. Paths of image files, of the formats that the
                command `predict` reads; `PIL.Image` objects, which are read as their files are; or arrays of RGB in
                [0, 255], [height, width, 3], of which grey ones may lack the last dimension. They are scaled and
                cropped as in evaluation. Whether an array is BGR, as `cv2.imread` returns it, cannot be seen.
            batch_size: How many are computed at a time.

        Raises:
            UserError: If a file cannot be read; it is named. If an array has another shape, or was normalised.
        """
        probabilities = list(self.predict_iter(images, batch_size))
        return np.stack(probabilities) if probabilities else np.zeros((0, len(self.class_names)), "float32")

    def predict_iter(self, images: Any, batch_size: int = 128) -> Iterator[np.ndarray]:
        """Yields the probabilities of each image, float32 [classes], in order, for more images than fit into memory.

        Files are read and decoded by several threads while the network computes.

        Args:
            images: As for `predict`; an iterable is asked for images as they are needed.
            batch_size: How many are computed at a time.

        Raises:
            UserError: As `predict`, when the image's turn has come.
        """
        devices.check_process()
        crops = predictions.crops_of(
            _as_list(images),
            self.config.image_size,
            self.config.train.recipe.resize,
            ahead=2 * batch_size,
            read=_encoded,
        )
        for image, result in predictions.compute(self._predictor, crops, batch_size):
            if isinstance(result, str):
                name = os.fspath(image) if isinstance(image, (str, os.PathLike)) else "An image"
                raise errors.UserError(f"{name} cannot be read: {result}.")
            yield np.exp(result)

    def __del__(self) -> None:
        """Frees the weights at once: layers of Keras refer to each other, and Python seldom looks for such circles."""
        self.__dict__.clear()
        gc.collect()

    def __repr__(self) -> str:
        return f"<Run of {self.config.train.architecture}, {len(self.class_names)} classes>"


def load_run(path: str | os.PathLike[str], checkpoint: str = "last", precision: str | None = None) -> Run:
    """Loads a run: its Keras model, its class names, and predictions from files or arrays.

    Args:
        path: The run's directory.
        checkpoint: "last" or "best".
        precision: Keras dtype policy; by default the run's.

    Raises:
        RunError: If there is no run or no checkpoint, or it cannot be read.
    """
    return Run(path, checkpoint, precision)


def load_pretrained(name: str, precision: str | None = None) -> Run:
    """Loads public ImageNet weights; the first time, downloads 244 MB, which are kept in ~/.cache/alexnet_tf.

    Args:
        name: "torchvision", "caffe" or "caffenet".
        precision: Keras dtype policy; by default float32.

    Raises:
        UserError: If there are no public weights of this name, or they cannot be downloaded.
    """
    return Run(pretrained.load(name, _LOGGER.info), precision=precision)


def _as_list(images: Any) -> Iterable[Any]:
    """Returns one image or many as many."""
    is_one = isinstance(images, (str, os.PathLike, PIL.Image.Image)) or getattr(images, "ndim", None) in (2, 3)
    return [images] if is_one else images


def _encoded(image: Any) -> bytes:
    """Returns an image, whatever a person has of it, as a JPEG or PNG."""
    if isinstance(image, (str, os.PathLike)):
        return predictions.read(image)
    if not isinstance(image, PIL.Image.Image):
        return plain_images.as_png(_pixels(image))
    try:
        return plain_images.as_png(plain_images.pixels_of(image))
    except (OSError, ValueError) as error:
        raise plain_images.UnreadableImage(f"{error} (mode {image.mode})") from error


# Resizing with a bicubic or Lanczos filter leaves [0, 255] by a little, below only beside bright pixels. Subtracting a
# mean leaves it by more, or nothing bright; dividing leaves almost nothing of the range.
_OVERSHOOT, _BRIGHT, _NARROW = 40, 152, 16


def _pixels(image: Any) -> np.ndarray:
    """Returns an array of pixels as uint8 [height, width, 3].

    Raises:
        UserError: If it has another shape, or its values are not those of pixels in [0, 255].
    """
    array = np.asarray(image)
    expected = "Expected RGB in [0, 255], [height, width, 3], as PIL.Image.open and keras.utils.load_img give it"
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or 0 in array.shape:
        raise errors.UserError(f"Got an image of shape {list(np.shape(image))}. {expected}.")
    if array.dtype.kind not in "uifb" or not np.isfinite(array).all():
        raise errors.UserError(f"Got an image of {array.dtype} with values that are not numbers. {expected}.")
    low, high = float(array.min()), float(array.max())
    is_scaled = high < _NARROW and array.dtype.kind == "f" and (array != np.round(array)).any()
    is_shifted = low < -_OVERSHOOT or high > 255 + _OVERSHOOT or (low < -1 and high < _BRIGHT)
    if is_scaled or is_shifted:
        raise errors.UserError(
            f"Got an image with values from {low:.4g} to {high:.4g}: was it normalised? {expected}; the network "
            "normalises it itself."
        )
    array = np.clip(np.round(array), 0, 255).astype("uint8")
    return np.repeat(array, 3, axis=2) if array.shape[-1] == 1 else array[..., :3]
