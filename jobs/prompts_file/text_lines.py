"""The lines of a prompts file as UTF-8. Other kinds of files are recognised by their first bytes, and named.

Memory is bounded: at most a block and one line of MAX_LINE bytes.
"""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from typing import BinaryIO

from jobs.errors import Problem

MAX_LINE = 2_000_000
"""Bytes of the longest line (CSV: the longest cell); Replicate takes `data:` URIs of 256 kB."""
BLOCK = 1 << 20
AT_ONCE, BYTES_AT_ONCE = 500, 1 << 16
"""Most lines that are handled together, and about how many bytes of them."""
BOM = codecs.BOM_UTF8

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins like that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WIDE = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
_SAMPLE = 1 << 16
_FOREIGN = (
    (re.compile(rb"PK\x03\x04"), "a zip archive or an Excel workbook; in Excel, save it as CSV UTF-8"),
    (re.compile(rb"\xd0\xcf\x11\xe0"), "an old Excel workbook; save it as CSV UTF-8"),
    (re.compile(rb"\x1f\x8b"), "packed by gzip; unpack it, or name it .jsonl.gz if it holds JSON Lines"),
    (re.compile(rb"PAR1[\x00-\x1f]"), "a Parquet file; name it .parquet"),
    (re.compile(rb"ARROW1\0"), "an Arrow file; name it .arrow"),
    (re.compile(rb"%PDF-"), "a PDF; write one prompt a line"),
    (re.compile(rb"\{\\rtf"), "rich text (RTF); save it as plain text in UTF-8"),
    (re.compile(rb"\s*<(!doctype\s+html|html[\s>])", re.IGNORECASE), "an HTML page: was it downloaded by mistake?"),
)


class Unreadable(Exception):
    """A file cannot be understood past a line."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.message)


def read_blocks(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the contents of a file, in UTF-8 and without a byte order mark at its head; Unreadable."""
    try:
        encoding, first = _detect_encoding(stream.read(BLOCK))
        blocks = chain(first, iter(partial(stream.read, BLOCK), b""))
        yield from blocks if encoding == "utf-8" else _recode(blocks, encoding)
    except EOFError:
        raise _unreadable("it is cut short") from None
    except zlib.error:
        raise _unreadable("it is damaged") from None
    except OSError as error:  # gzip's own has no strerror
        raise _unreadable(error.strerror or "it is not packed by gzip, or damaged") from None


def _detect_encoding(head: bytes) -> tuple[str, Iterator[bytes]]:
    """The encoding of a file and its first block, which is freed as it is read."""
    mark, encoding = next(((mark, name) for mark, name in _MARKS if head.startswith(mark)), (b"", "utf-8"))
    if foreign := not mark and _foreign(head):
        raise Unreadable(Problem(1, f"this is {foreign}"))
    return encoding, filter(None, iter([head[len(mark) :]]))


def _unreadable(reason: str) -> Unreadable:
    return Unreadable(Problem(0, f"the file cannot be read further: {reason}"))


def _recode(blocks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for block in blocks:
            yield decoder.decode(block).encode()
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        problem = Problem(
            0, f"from here on it is not {_encoding_name(encoding)}, as at its start: save the file as UTF-8"
        )
        raise Unreadable(problem) from None


def _encoding_name(encoding: str) -> str:
    return encoding.upper().replace("-LE", "").replace("-BE", "")


def _foreign(head: bytes) -> str | None:
    """What the file is if it is certainly not UTF-8 text."""
    for pattern, name in _FOREIGN:
        if pattern.match(head):
            return name
    sample = head[:_SAMPLE]
    if b"\0" not in sample:
        return None
    encoding = max(_WIDE, key=partial(_likeness, sample))
    likeness = _likeness(sample, encoding)
    if likeness < (0.5 if _is_utf8(sample) else 0.001):
        return None
    return (
        f"{_encoding_name(encoding)} without a byte order mark: save it as UTF-8 (iconv -f {encoding.upper()} -t UTF-8)"
    )


def _likeness(sample: bytes, encoding: str) -> float:
    """The share of plain ASCII in a sample decoded by that encoding; 0 when it cannot be decoded."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError:
        return 0
    return sum(" " <= char <= "~" or char in "\r\n\t" for char in text) / len(text) if text and "\0" not in text else 0


def _is_utf8(sample: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return False
    return True


def number_lines(blocks: Iterable[bytes]) -> Iterator[tuple[int, bytes | Problem]]:
    """Yield each physical line with its number from 1, the last one being a problem if reading fails."""
    for first, lines in number_many(blocks):
        yield from enumerate(lines, first)


def number_many(blocks: Iterable[bytes]) -> Iterator[tuple[int, list[bytes | Problem]]]:
    """Yield the same lines, many at once, with the number of the first."""
    first = 1
    try:
        for lines in _lines(blocks):
            numbered = enumerate(lines, first)
            yield first, [line if len(line) <= MAX_LINE else Problem(number, _TOO_LONG) for number, line in numbered]
            first += len(lines)
    except Unreadable as error:
        yield first, [Problem(first, error.problem.message)]


_TOO_LONG = f"the line is longer than {MAX_LINE:,} bytes; give big files by path or URL"


def _lines(blocks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield the lines, some together; of a longer one than MAX_LINE, little more than that is kept."""
    rest, ending = b"", b""
    for block in blocks:
        ending = ending or _line_end(block)
        head, *lines = block.split(ending)
        if len(rest) <= MAX_LINE:
            rest += head
        if lines:
            yield [rest]
            rest = lines.pop()
            size = min(len(lines) * BYTES_AT_ONCE // len(block) + 1, AT_ONCE)
            yield from (lines[start : start + size] for start in range(0, len(lines), size))
    if rest:
        yield [rest]


def _line_end(head: bytes) -> bytes:
    """Old Macs, and Excel on new ones, end lines with only a carriage return."""
    return b"\r" if b"\n" not in head and b"\r" in head[:-1] else b"\n"


def text_of(number: int, line: bytes | Problem) -> str | Problem:
    """Decode a line, or say why it is not text; a byte order mark at its head comes from joined files."""
    if isinstance(line, Problem):
        return line
    line = line.removeprefix(BOM)
    if b"\0" in line:
        return Problem(number, f"a NUL byte at offset {line.index(0)} of the line: this is not text, or damaged")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        return Problem(number, _not_utf8(line, error))


def is_blank(text: str) -> bool:
    """Whether a text has nothing visible: white space, or the Ctrl-Z that ends a DOS file."""
    return not any(map(str.isprintable, text.strip()))


def _not_utf8(line: bytes, error: UnicodeDecodeError) -> str:
    start = max(error.start - 12, 0)
    legacy = line[start : error.start + 12].decode("cp1252", errors="replace").strip()
    return (
        f"not UTF-8: byte 0x{line[error.start]:02x} at offset {error.start} of the line. Save the file as UTF-8 "
        f"(Excel: CSV UTF-8); if it is in Windows-1252, this is {legacy!r}"
    )
