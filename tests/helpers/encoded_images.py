"""Encoded images written by hand: EXIF segments, many scans, sizes that a header only declares. No TensorFlow."""

import io
import struct
import zlib

import PIL.Image
import PIL.ImageOps


def exif(orientation, byte_order="II", kind=3, before=0, tag=0x0112):
    """Returns an EXIF segment's data: a TIFF header, a directory with some entries before the orientation's."""
    end = {"II": "<", "MM": ">"}[byte_order]
    entries = [struct.pack(end + "HHII", 0x010E + number, 4, 1, 7) for number in range(before)]
    value = struct.pack(end + "HH", orientation, 0) if kind == 3 else struct.pack(end + "I", orientation)
    entries.append(struct.pack(end + "HHI", tag, kind, 1) + value)
    return (
        b"Exif\0\0" + byte_order.encode() + struct.pack(end + "HIH", 42, 8, len(entries)) + b"".join(entries) + bytes(4)
    )


def segment(marker, data):
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def with_segments(image_bytes, *segments, keep_jfif=True):
    """Returns a JPEG with segments put behind the JFIF segment, or in its place."""
    assert image_bytes[2:4] == b"\xff\xe0"
    return image_bytes[: 20 if keep_jfif else 2] + b"".join(segments) + image_bytes[20:]


def upright(image_bytes):
    """Returns an image as Pillow turns it upright."""
    with PIL.Image.open(io.BytesIO(image_bytes)) as image:
        return PIL.ImageOps.exif_transpose(image)


def with_scans(image, count):
    """Returns a progressive JPEG whose last scan comes again and again: each is a pass over the image."""
    file = io.BytesIO()
    image.save(file, "jpeg", progressive=True)
    image_bytes = file.getvalue()
    last = image_bytes.rindex(b"\xff\xda")
    return image_bytes[:-2] + image_bytes[last:-2] * (count - image_bytes.count(b"\xff\xda")) + image_bytes[-2:]


def declare_jpeg(image_bytes, width, height):
    """Returns a JPEG whose frame header declares another size."""
    data = bytearray(image_bytes)
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def chunk(kind, data):
    """Returns a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def compressed_zeros(length, times):
    """Returns zeros, `length` of them so many times, as zlib stores them."""
    compressor = zlib.compressobj(1)
    return b"".join([compressor.compress(bytes(length)) for _ in range(times)]) + compressor.flush()


def black_png(width, height, *chunks):
    """Returns a whole grey PNG, with further chunks before its data, which is a thousandth of its pixels in bytes."""
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
            *chunks,
            chunk(b"IDAT", compressed_zeros(width + 1, height)),
            chunk(b"IEND", b""),
        ]
    )
