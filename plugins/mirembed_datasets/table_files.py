"""From the bytes of a table to its records: encodings, delimiters and quotation marks, as spreadsheets write them."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import re
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from mirembed import DatasetError

DELIMITERS = "\t;,|"
"""In order of preference, if several split a table equally well."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_NO_TABLES = (
    (b"PK\3\4", "a spreadsheet or another ZIP archive"),
    (b"\xd0\xcf\x11\xe0", "a spreadsheet or another Office document"),
    (b"PAR1", "a Parquet file"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"%PDF-", "a PDF"),
)
"""First bytes of files that are not tables of text, and what they are."""

_SEPARATOR_LINE = re.compile(r'\s*"?sep=([^\w\s"]|\t)"?\r?\n?', re.IGNORECASE)
"""A first line in which Excel states the delimiter."""

_SAMPLE = 50
"""Records from which the delimiter is chosen."""

_CHUNK = 1000
"""Records that are read at once."""


def read_text(file: Path) -> str:
    """Return the text of a file in UTF-8, UTF-16 or UTF-32; raise `DatasetError` if it cannot be read or is neither."""
    text, note = decoded(file)
    if note:
        raise DatasetError(f"{note}; save it as UTF-8")
    return text


def decoded(file: Path) -> tuple[str, str]:
    """Return the text of a file, and a note if its encoding was guessed.

    A byte order mark decides. Without one, the text is in UTF-8, in UTF-16 if every other byte is zero, or else in
    Windows-1252, in which Western European spreadsheets save CSV.

    Raises
    ------
    DatasetError
        The file cannot be read, is a spreadsheet or another file that is no text, or is not valid in its encoding.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot read {file}: {error.strerror}") from error
    for start, what in _NO_TABLES:
        if content.startswith(start):
            raise DatasetError(f"{file} is {what}, which is not supported; save the table as CSV UTF-8")
    mark, encoding = next((found for found in _BOMS if content.startswith(found[0])), (b"", _without_mark(content)))
    try:
        return content[len(mark) :].decode(encoding), ""
    except UnicodeDecodeError as error:
        line = _lines_before(content, error.start + len(mark), encoding) + 1
        if mark or encoding != "utf-8":
            expected = encoding.upper() if mark else "UTF-8 or UTF-16"
            raise DatasetError(f"{file}, line {line}: not valid {expected}; save the table as UTF-8") from error
    with contextlib.suppress(UnicodeDecodeError):
        text = content.decode("cp1252")
        # Bytes that are letters in UTF-8 hardly occur together in Windows-1252.
        if content.decode("utf-8", "ignore").isascii():
            word = next((word for word in re.findall(r"\w+", text) if not word.isascii()), "")
            such = f", with words such as {word!r}" if word else ""
            return text, f"{file} is not UTF-8 (line {line}) and was read as Windows-1252{such}"
    raise DatasetError(f"{file}, line {line}: neither UTF-8 nor Windows-1252 throughout; save the table as UTF-8")


def _without_mark(content: bytes) -> str:
    head = content[:400]
    if head[1::2].count(0) > len(head) // 4:
        return "utf-16-le"
    return "utf-16-be" if head[::2].count(0) > len(head) // 4 else "utf-8"


def _lines_before(content: bytes, position: int, encoding: str) -> int:
    text = content[:position].decode(encoding, "ignore")
    return text.count("\n") + text.count("\r") - text.count("\r\n")


def records(file: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the records of a CSV file that are not blank, each with the line on which it begins.

    Values have no surrounding white space. Excel's line ``sep=;`` is no record.

    Raises
    ------
    DatasetError
        Quotation marks are malformed.
    """
    delimiter, n_lines = delimiter_of(text)
    # strict: an unclosed quotation mark is an error, where it would otherwise swallow the rest of the file
    reader = csv.reader(_lines(text, n_lines), delimiter=delimiter, skipinitialspace=True, strict=True)
    error: csv.Error | None = None
    while error is None:
        chunk: list[tuple[int, list[str]]] = []
        begins = n_lines + reader.line_num + 1
        with _any_length():
            try:
                for record in islice(reader, _CHUNK):
                    chunk.append((begins, record))
                    begins = n_lines + reader.line_num + 1
            except csv.Error as malformed:
                error = malformed
        for line, record in chunk:
            values = [value.strip() for value in record]
            if any(values):
                yield line, values
        if error is None and len(chunk) < _CHUNK:
            return
    raise DatasetError(
        f"{file}: malformed quotation marks in the row that begins on line {begins} ({error}); "
        "write a quotation mark within a quoted value twice"
    ) from error


def delimiter_of(text: str) -> tuple[str, int]:
    """Return the delimiter of a CSV file, and how many lines only state it.

    Without such a line, it is the one that splits most of the first records as it splits the header, and the header
    into the most columns.
    """
    if stated := _SEPARATOR_LINE.match(text):
        return stated[1], 1

    def fit(delimiter: str) -> tuple[float, int]:
        reader = csv.reader(_lines(text, 0), delimiter=delimiter, skipinitialspace=True)
        with _any_length(), contextlib.suppress(csv.Error):
            lengths = [len(record) for record in islice(filter(any, reader), _SAMPLE)]
            alike = [length == lengths[0] for length in lengths[1:]]
            return (sum(alike) / len(alike) if alike else 1.0) * (lengths[0] > 1), lengths[0]
        return 0.0, 0

    return max(DELIMITERS, key=fit) if text.strip() else ",", 0


def _lines(text: str, skipped: int) -> Iterator[str]:
    return islice(io.StringIO(text, newline=""), skipped, None)


@contextlib.contextmanager
def _any_length() -> Iterator[None]:
    """Let the module csv read values of any length; its limit of 128 kB holds for the whole process."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)
