"""Hands every image on as TensorFlow decodes it: an ordinary JPEG or PNG as it is, anything else by way of Pillow.

Ordinary is an upright JPEG with its end marker and few scans, or an upright PNG, of at most `MAX_PIXELS`: a look at the
header, which takes microseconds. Whatever EXIF has turned, and WebP, BMP, TIFF, GIF (the first frame), AVIF and HEIC
(with the package `pillow-heif`), is decoded once by Pillow and goes on as an upright PNG without compression. So the
graph knows nothing of headers, and every command reads every format.
"""

import contextlib
import io
import re
import struct
import zlib

import numpy as np
import PIL.Image
import PIL.ImageOps

# A header that declares more is refused before anything is decoded; a 30,000 x 30,000 image would take 2.7 GB.
MAX_PIXELS = 100_000_000

# A progressive JPEG usually has about ten scans, each of which passes over the whole image; a thousand take minutes.
MAX_SCANS = 32

# The reason given for an image that the decoder refuses.
DAMAGED = "the image data is cut short, damaged or of an unsupported kind"

_TOO_LARGE = f"the header declares too many pixels; at most {MAX_PIXELS:,} are read"

# How images begin, and what else is often named .jpg.
_IMAGES = (
    (rb"\xff\xd8\xff", "a JPEG image"),
    (rb"\x89PNG\r\n\x1a\n", "a PNG image"),
    (rb"GIF8", "a GIF image"),
    (rb"RIFF....WEBP", "a WebP image"),
    (rb"BM....\0\0\0\0", "a BMP image"),
    (rb"II\*\0|MM\0\*", "a TIFF image"),
    (rb"....ftyp(hei|hev|avi|mif|msf)", "a HEIC or AVIF image"),
)
OTHERS = (
    (rb"(\xef\xbb\xbf)?\s*<", "an HTML page or an SVG image"),
    (rb"version https://git-lfs", "a pointer of Git LFS (git lfs pull fetches the file itself)"),
)

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"

_ORIENTATION = 0x0112

# Where a walk through the segments of a header ends at the latest.
_MAX_SEGMENTS = 2000

# Two ways to go on after the last byte of a file; in entropy-coded data a byte 0xff is followed by a zero.
_PADDINGS = (b"\x00" * 64, b"\xff\x00" * 64)


class UnreadableImage(ValueError):
    """An image cannot be read; the message says why."""


def kind_of(beginning: bytes, kinds: tuple[tuple[bytes, str], ...] = _IMAGES) -> str | None:
    """Returns what an image is, such as "a JPEG image", from its first 32 bytes; None if it is of no known format."""
    return next((kind for start, kind in kinds if re.match(start, beginning, re.DOTALL)), None)


def is_ordinary(image_bytes: bytes) -> bool:
    """Returns whether the graph decodes an image as it is; whether its data is whole is not looked at."""
    try:
        if image_bytes.startswith(_PNG_SIGNATURE):
            return _is_ordinary_png(image_bytes)
        if not image_bytes.startswith(b"\xff\xd8\xff") or not image_bytes.endswith(_END_OF_IMAGE):
            return False
        pixels, is_upright, scans = _jpeg_header(image_bytes)
        return is_upright and 0 < pixels <= MAX_PIXELS and scans <= MAX_SCANS
    except (struct.error, IndexError):
        return False


def _is_ordinary_png(image_bytes: bytes) -> bool:
    """Returns whether a PNG is upright and of a permitted size."""
    width, height = struct.unpack_from(">II", image_bytes, 16)
    header = image_bytes[: image_bytes.find(b"IDAT")]
    exif = header.find(b"eXIf")
    return 0 < width * height <= MAX_PIXELS and (exif < 0 or _is_upright(header[exif + 4 :]))


def _jpeg_header(image_bytes: bytes) -> tuple[int, bool, int]:
    """Returns (pixels, whether EXIF leaves it upright, scans) of a JPEG.

    Raises:
        struct.error, IndexError: If the header is cut or is not one.
    """
    position, pixels, components, is_sequential, is_upright = 2, 0, 0, False, True
    for _ in range(_MAX_SEGMENTS):
        marker, size = struct.unpack_from(">HH", image_bytes, position)
        if marker == 0xFFDA:
            # What follows a scan of all components of a sequential image is not read.
            is_single = is_sequential and image_bytes[position + 4] == components
            return pixels, is_upright, 1 if is_single else image_bytes.count(_START_OF_SCAN, position)
        if marker in (0xFFC0, 0xFFC1, 0xFFC2):
            height, width, components = struct.unpack_from(">HHB", image_bytes, position + 5)
            pixels, is_sequential = height * width, marker != 0xFFC2
        elif marker == 0xFFE1 and image_bytes[position + 4 : position + 10] == b"Exif\0\0":
            is_upright &= _is_upright(image_bytes[position + 10 : position + 2 + size])
        # A marker may be preceded by bytes 0xff.
        position += 1 if marker == 0xFFFF else 2 + size
    raise struct.error("the header does not end")


def _is_upright(exif: bytes) -> bool:
    """Returns whether EXIF's data, a TIFF file without pixels, surely leaves the image upright."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return False
    try:
        [directory] = struct.unpack_from(order + "I", exif, 4)
        [count] = struct.unpack_from(order + "H", exif, directory)
        entries = [struct.unpack_from(order + "HHIH", exif, directory + 2 + 12 * number) for number in range(count)]
    except struct.error:
        return False
    return all(tag != _ORIENTATION or (kind, value) == (3, 1) for tag, kind, _, value in entries)


def plain(image_bytes: bytes) -> bytes:
    """Returns an encoded image as the graph decodes it: as it is if it is ordinary, otherwise as an upright PNG.

    Raises:
        UnreadableImage: If it is empty, of no known format, too large, has too many scans, or Pillow cannot read it.
            An ordinary image may still be damaged, which its decoder finds.
    """
    if is_ordinary(image_bytes):
        return image_bytes
    if not image_bytes:
        raise UnreadableImage("the file is empty")
    kind = kind_of(image_bytes)
    if kind is None:
        other = kind_of(image_bytes, OTHERS)
        known = f"it is {other}" if other else f"it is not an image of a known format; it has {len(image_bytes)} bytes"
        raise UnreadableImage(known)
    if kind == "a JPEG image":
        image_bytes = _whole_jpeg(image_bytes)
        if is_ordinary(image_bytes):
            return image_bytes
    return as_png(_decode(image_bytes))


def _whole_jpeg(image_bytes: bytes) -> bytes:
    """Returns a JPEG with its end marker, once its scans are counted.

    The decoder takes an end marker in the middle of an image for granted and leaves the rest grey. So an image without
    one is decoded with two different continuations: where all pixels are there, these change nothing.
    """
    try:
        _, _, scans = _jpeg_header(image_bytes)
    except (struct.error, IndexError) as error:
        raise UnreadableImage(DAMAGED) from error
    if scans > MAX_SCANS:
        raise UnreadableImage(f"the JPEG has {scans} scans; at most {MAX_SCANS} are read")
    if image_bytes.endswith(_END_OF_IMAGE):
        return image_bytes
    # Zeros were never written, or stand behind the end marker.
    start = (image_bytes.rstrip(b"\0") if image_bytes.endswith(bytes(16)) else image_bytes).removesuffix(b"\xff")
    first, second = (_decode(start + padding + _END_OF_IMAGE) for padding in _PADDINGS)
    if not np.array_equal(first, second):
        raise UnreadableImage(DAMAGED)
    return start + _END_OF_IMAGE


def _decode(image_bytes: bytes) -> np.ndarray:
    """Decodes an image with Pillow, uint8 [height, width, 3], RGB, upright."""
    _register_heif()
    try:
        with PIL.Image.open(io.BytesIO(image_bytes)) as image:
            return pixels_of(image)
    except UnreadableImage:
        raise
    except PIL.Image.DecompressionBombError as error:
        raise UnreadableImage(_TOO_LARGE) from error
    except Exception as error:  # On a damaged file, Pillow's decoders can raise anything.
        kind = kind_of(image_bytes) or ""
        hint = "; install pillow-heif to read HEIC" if "HEIC" in kind else ""
        is_usual = kind in ("a JPEG image", "a PNG image")
        raise UnreadableImage(DAMAGED if is_usual else f"it is {kind}, which cannot be read{hint}") from error


def pixels_of(image: PIL.Image.Image) -> np.ndarray:
    """Returns an opened image, of whatever mode, as uint8 [height, width, 3], RGB, upright.

    Raises:
        UnreadableImage: If it is too large.
        Exception: Whatever Pillow raises for a damaged file or a mode that it cannot convert, such as LAB.
    """
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableImage(_TOO_LARGE)
    image.load()
    upright: PIL.Image.Image = image
    with contextlib.suppress(Exception):  # Damaged EXIF says nothing.
        upright = PIL.ImageOps.exif_transpose(image)
    return np.asarray(_rgb(upright))


def _rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """Returns an image in RGB; alpha is dropped without blending, as of PNG, and 16 bits keep their upper eight."""
    if image.mode.startswith("I;16"):
        return image.point(lambda value: value / 256).convert("L").convert("RGB")
    if image.mode in ("LA", "PA") or (image.mode == "P" and "transparency" in image.info):
        image = image.convert("RGBA")
    return image.convert("RGB")


def _register_heif() -> None:
    try:
        import pillow_heif
    except ImportError:
        return
    pillow_heif.register_heif_opener()


def as_png(pixels: np.ndarray) -> bytes:
    """Returns pixels, uint8 [height, width, 1 or 3], as PNG without compression: a tenth of the time of Pillow's."""
    height, width, channels = pixels.shape
    lines = np.zeros((height, 1 + width * channels), "uint8")  # Each line begins with the number of its filter: none.
    lines[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.data, 0)), (b"IEND", b""))
    parts = [
        part
        for kind, data in chunks
        for part in (struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))))
    ]
    return b"".join([_PNG_SIGNATURE, *parts])
