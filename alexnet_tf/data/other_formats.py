"""Images that TensorFlow's decoders do not read: WebP, BMP, TIFF, the first frame of a GIF, HEIC and AVIF.

Pillow decodes them (HEIC only with the package `pillow-heif`) and they go on as PNG, upright. `prepare` and `predict`
do so; training reads JPEG and PNG from their files and everything else from what was prepared.
"""

import io
import re

import PIL.Image
import PIL.ImageOps

from alexnet_tf.data import image_headers
from alexnet_tf.support import shell

# How files begin.
_BEGINNINGS = (
    (rb"GIF8", "a GIF image"),
    (rb"RIFF....WEBP", "a WebP image"),
    (rb"BM....\0\0\0\0", "a BMP image"),
    (rb"II\*\0|MM\0\*", "a TIFF image"),
    (rb"....ftyp(hei|hev|avi|mif|msf)", "a HEIC or AVIF image"),
)


class UnreadableImage(ValueError):
    """An image cannot be read; the message says why."""


def name_of(image_bytes: bytes) -> str | None:
    """Returns what an image is that TensorFlow does not read, "a WebP image", or None."""
    for beginning, kind in _BEGINNINGS:
        if re.match(beginning, image_bytes, re.DOTALL):
            return kind
    return None


def as_readable(image_bytes: bytes) -> bytes:
    """Returns an encoded image as JPEG or PNG: as it is, or, where it is of another known format, as upright PNG.

    Raises:
        UnreadableImage: If it is of another known format and cannot be read.
    """
    kind = name_of(image_bytes[:64])
    if kind is None:
        return image_bytes
    _register_heif()
    try:
        with PIL.Image.open(io.BytesIO(image_bytes)) as image:
            if image.width * image.height > image_headers.MAX_PIXELS:
                raise UnreadableImage(
                    f"the header declares {image.width} x {image.height} pixels; at most "
                    f"{image_headers.MAX_PIXELS:,} are read"
                )
            upright = PIL.ImageOps.exif_transpose(image)
            file = io.BytesIO()
            _rgb(upright).save(file, "png", compress_level=1)
            return file.getvalue()
    except UnreadableImage:
        raise
    except PIL.UnidentifiedImageError as error:
        hint = "; install pillow-heif to read HEIC" if "HEIC" in kind else ""
        raise UnreadableImage(f"it is {kind}, which cannot be read{hint}") from error
    except Exception as error:  # On a damaged file, Pillow's decoders can raise anything.
        raise UnreadableImage(f"it is {kind}, cut short or damaged") from error


def _rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """Returns an image in RGB; alpha is dropped without blending, as of PNG, and 16 bits keep their upper eight."""
    if image.mode.startswith("I;16"):
        return image.point(lambda value: value / 256).convert("L").convert("RGB")
    if image.mode in ("P", "PA") and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("RGBA", "LA", "PA"):
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _register_heif() -> None:
    try:
        import pillow_heif
    except ImportError:
        return
    pillow_heif.register_heif_opener()


def prepare_command(directory: object) -> str:
    """Returns the command that converts a directory of images."""
    return shell.command_line("prepare", data_dir=directory, output_dir="OUT")
