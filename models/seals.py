"""Seals: the hash chain that each ledger's rows form, so that none can be changed, removed, added or moved unseen.

A row's link is the SHA-256 of the link before it and of the row as PostgreSQL's COPY writes it: whoever has psql and
sha256sum can follow the chain. A ledger keeps its newest link whole (its *head*), each row eight bytes of its own: a
row that does not fit is named, and the head would have to be found for a changed row to fit. Whoever may write
everything can seal everything anew; what he cannot do is match a head that was signed and kept elsewhere (checkpoints).

Nothing here reads or writes: `worker.engine.sealing` makes the lines, `worker.proving` follows them.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Final


def genesis(name: str, currency: str, scale: int) -> bytes:
    """Give what stands before a ledger's first link: what the ledger is, which never changes either."""
    return sha256(f"{name}\t{currency}\t{scale}".encode()).digest()


def link(before: bytes, line: bytes) -> bytes:
    """Give a row's link in the chain; `line` is the row without its seal and without the line's end."""
    return sha256(before + line).digest()


def seal(link: bytes) -> int:
    """Give what a row keeps of its link: the first eight bytes, as PostgreSQL's bigint."""
    return int.from_bytes(link[:8], "big", signed=True)


NULL: Final = r"\N"
"""How COPY writes it."""


def field(value: object) -> str:
    """Write a value as COPY does: NULL, a number, an id, or a text with what would end a field escaped."""
    if value is None:
        return NULL
    return value.translate(_ESCAPES) if isinstance(value, str) else str(value)


def line(values: Iterable[object]) -> bytes:
    """Write a row's values as COPY does."""
    return "\t".join(map(field, values)).encode()


def as_copied(timestamp: str) -> str:
    """Write an outcome's timestamp as COPY does in UTC: without a `T`, and without zeros at its end."""
    return timestamp.rstrip("Z").replace("T", " ").rstrip("0").rstrip(".") + "+00"


# PostgreSQL manual, COPY, "Text Format".
_ESCAPES = str.maketrans({"\\": r"\\", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v"})
