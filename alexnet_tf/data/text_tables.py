"""Tables in text files: CSV, TSV, text or JSON lines, as rows of {column: text}."""

import codecs
import csv
import json
import os
import pathlib
import re
from collections.abc import Collection, Mapping

from alexnet_tf.support import errors

# What a file that is not in UTF-8 may be written in: Western European, Cyrillic, Chinese, Japanese, Korean.
_ENCODINGS = ("cp1252", "cp1251", "gb18030", "shift_jis", "euc_kr")

Row = Mapping[str, str]


def _read_text(path: pathlib.Path, encoding: str | None) -> str:
    """Returns a file's text; a byte order mark states UTF-8 or UTF-16.

    Raises:
        DataError: If it is in another encoding; shows a line as others would read it.
    """
    content = path.read_bytes()
    marked = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return content.decode(encoding or marked)
    except (LookupError, UnicodeError) as error:
        line = next(line for line in content.splitlines() if not line.isascii())
        readings = [f"\n  --labels_encoding={each}: {line.decode(each, 'replace')}" for each in _ENCODINGS]
        raise errors.DataError(
            f"{path} is not {encoding or 'UTF-8'} text. Give its encoding; a line of it in the usual ones:"
            + "".join(readings)
        ) from error


def read(path: pathlib.Path, encoding: str | None, known_columns: Collection[str]) -> list[Row]:
    """Returns the rows of a file; where no line names the columns, they are called "0", "1", ...

    Args:
        path: A .csv, .tsv, .jsonl or text file.
        encoding: Of the file; by default UTF-8, or UTF-16 with a byte order mark.
        known_columns: Names, in lower case, that are a column's and not a value.

    Raises:
        DataError: If it is empty, or is not of its ending's format or encoding.
    """
    lines = [line for line in _read_text(path, encoding).splitlines() if line.strip()]
    if not lines:
        raise errors.DataError(f"{path} is empty.")
    if path.suffix.lower() == ".jsonl":
        try:
            objects = [dict(json.loads(line)) for line in lines]
        except (ValueError, TypeError) as error:
            raise errors.DataError(f"{path}: each line must be a JSON object; {error}.") from error
        return [{name: "" if value is None else str(value) for name, value in each.items()} for each in objects]
    stated = re.fullmatch("sep=(.)", lines[0])  # Excel's first line.
    lines = lines[bool(stated) :]
    delimiter = stated[1] if stated else max(",;\t", key=lines[0].count)
    if path.suffix.lower() == ".txt" and delimiter not in lines[0]:
        table = [line.rsplit(maxsplit=1) for line in lines]
    else:
        table = list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
    columns = [name.strip() for name in table[0]]
    is_header = len(table) > 1 and (
        any(name.lower() in known_columns for name in columns)
        or not any(os.path.splitext(name)[1] or name.isdecimal() for name in columns)
    )
    if not is_header:
        columns = [str(number) for number in range(len(columns))]
    return [dict(zip(columns, row)) for row in table[is_header:]]
