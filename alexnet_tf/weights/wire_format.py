"""Parses protocol buffers from strangers: a message's fields are looked over before the library makes objects of them.

The library takes a hundred bytes for each empty message, so that a file of a megabyte could fill the memory. In a
weight file, nearly everything is the values themselves.
"""

from collections.abc import Mapping
from typing import TypeVar

from google.protobuf import message

from alexnet_tf.weights import containers

# {message: {field number: the message that it is, or "" for values}}.
Fields = Mapping[str, Mapping[int, str]]

# Bytes that a file may have beside its values: Caffe's own files have some thousands, PyTorch's .onnx files some
# hundred thousand, because each operator names the lines of Python that it came from.
_MAX_OVERHEAD = 1 << 18

_Message = TypeVar("_Message", bound=message.Message)


def parse(kind: type[_Message], content: bytes, what: str, fields: Fields) -> _Message:
    """Parses a message whose bulk are values.

    Args:
        kind: The generated class.
        content: The file's bytes.
        what: Names the kind of file in the error's message.
        fields: Where the values lie.

    Raises:
        WeightFileError: If it is damaged, or there is much beside the values.
    """
    try:
        _check_overhead(kind.DESCRIPTOR.name, content, fields)
        return kind.FromString(content)
    except (message.DecodeError, UnicodeDecodeError, ValueError, KeyError) as error:
        raise containers.WeightFileError(f"It is not a {what}: truncated, damaged or of another kind.") from error


def _check_overhead(kind: str, content: bytes, fields: Fields) -> None:
    """Looks over a message's fields.

    Raises:
        ValueError: If a field leads out of its message, or there is much beside the values.
    """
    pending, overhead = [(0, len(content), kind)], 0
    while pending:
        position, end, kind = pending.pop()
        while position < end:
            start, length, inner = position, 0, None
            key, position = _varint(content, position)
            if key & 7 == 2:
                length, position = _varint(content, position)
                inner = fields.get(kind, {}).get(key >> 3)
                overhead += position - start + (length if inner is None else 0)
                position += length
            else:
                sizes = {1: 8, 5: 4}
                position = _varint(content, position)[1] if key & 7 == 0 else position + sizes[key & 7]
                overhead += position - start
            if position > end or overhead > _MAX_OVERHEAD:
                raise ValueError("a field is too long")
            if inner:  # Its fields come first, then the rest of this message, so that `pending` stays short.
                pending += [(position, end, kind), (position - length, position, inner)]
                break


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """Returns (the number at a position, the position after it)."""
    number = shift = 0
    while shift < 64 and position < len(content):
        byte = content[position]
        number, shift, position = number | (byte & 127) << shift, shift + 7, position + 1
        if byte < 128:
            return number, position
    raise ValueError("a number has no end")
