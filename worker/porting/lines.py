"""The lines of a file that is imported: numbered as an editor does, each read into memory once, none of them for long.

`worker.sending.lines` reads a pipe as it comes and forwards it; here a file is read to its end, and how far matters.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from models.contract import MAX_BATCH_BYTES

MAX_LINE_BYTES: Final = MAX_BATCH_BYTES + 64 * 1024
"""The largest batch, with room to spare for white space. Of a longer line the rest is not kept."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""What some editors and spreadsheets put before UTF-8."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line, without its end. `number` counts from 1, empty lines included; `ends_at` is a place in the file."""

    number: int
    content: bytes
    ends_at: int

    @property
    def is_too_long(self) -> bool:
        """Whether it could be nothing that is known, whatever is in it."""
        return len(self.content) > MAX_LINE_BYTES


def lines(file: BinaryIO) -> Iterator[Line]:
    """Give the lines that are not empty. A line that is too long comes as its beginning, one byte too long."""
    ends_at = number = 0
    while content := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        ends_at += len(content)
        if not content.endswith(b"\n"):
            ends_at += _skip_rest(file, len(content))
        if number == 1:
            content = content.removeprefix(_BYTE_ORDER_MARK)
        if content.strip():
            yield Line(number, content.rstrip(b"\r\n"), ends_at)


def _skip_rest(file: BinaryIO, length: int) -> int:
    """Read to the end of a line that is too long; give the bytes that were passed over."""
    skipped = 0
    while length > MAX_LINE_BYTES and (more := file.readline(MAX_LINE_BYTES + 1)):
        skipped += len(more)
        if more.endswith(b"\n"):
            break
    return skipped
