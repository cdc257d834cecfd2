"""The limits of the wire contract, version 1, each with its reason.

Everything that comes from outside is bounded by one of these numbers. The door judges by them, the
documentation quotes them. Rules that need the books (limits of an account, say) stand in `rules`.
"""

import re
from typing import Final

VERSION: Final = 1
"""What `VERSION_HEADER` names; a message without it speaks version 1."""

VERSION_HEADER: Final = "equipoise-contract"

UNREADABLE_TASK: Final = "commands.unreadable"
"""The task under which a message travels whose type or shape nobody could read."""

MAX_COMMAND_BYTES: Final = 16 * 1024
"""One command as JSON: ids, a kind, and metadata for a page of a person's reading."""

MAX_BATCH_BYTES: Final = 16 * 1024 * 1024
"""One batch message: 10,000 commands of 1.6 KiB."""

MAX_BATCH_COMMANDS: Final = 10_000
"""Commands in a batch, those inside chains counted: one transaction of well under a second."""

MAX_DEPTH: Final = 8
"""Levels of objects and lists in one command, the command itself being the first: more than people put into metadata,
and far from what a decoder's stack bears."""

MAX_AMOUNT: Final = 10**15
"""Minor units a transfer: 10 trillion EUR. Nine thousand of them fit into a counter."""

MAX_COUNTER: Final = 2**63 - 1
"""What BIGINT holds. A transfer that would pass it is refused with `overflow`."""

MAX_SCALE: Final = 18
"""Decimal places of a currency: ether has 18, and 10**18 still fits into BIGINT."""

MAX_EXPIRES_IN_S: Final = 10 * 365 * 24 * 3_600
"""Ten years: longer than anything is reserved. What shall not expire leaves `expires_in_s` out."""

NIL_ID: Final = "00000000-0000-0000-0000-000000000000"
ALL_ONES_ID: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"


def _not_all(digit: str, others: str) -> str:
    """Match a UUID that begins with `digit` and has another digit somewhere. Pydantic's engine has no look-ahead."""
    places = [place for place, character in enumerate(NIL_ID) if character != "-"]
    shape = "".join("-" if character == "-" else "[0-9a-f]" for character in NIL_ID)
    tails = []
    for place in places[1:]:
        same = NIL_ID[1:place].replace("0", digit)
        rest = shape[len("[0-9a-f]") * sum(p <= place for p in places) + NIL_ID[: place + 1].count("-") :]
        tails.append(f"{same}{others}{rest}")
    return f"{digit}(?:{'|'.join(tails)})"


_ANY = "[0-9a-f]{7}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

ID_PATTERN: Final = f"^(?:[1-9a-e]{_ANY}|{_not_all('0', '[1-9a-f]')}|{_not_all('f', '[0-9a-e]')})$"
"""A UUID of 36 characters, lower case, neither nil nor all ones. One pattern, so that no Python runs for it."""

LEDGER_PATTERN: Final = r"^[a-z0-9_-]{1,63}$"
"""What fits into a name of PostgreSQL's, a label of DNS, and a metric's label."""

CURRENCY_PATTERN: Final = r"^[A-Za-z0-9_-]{1,16}$"
"""ISO 4217's three letters, and longer ones for points and tokens."""

SHARE_PATTERN: Final = r"^[1-9][0-9]{0,8}/[1-9][0-9]{0,8}$"
"""A fraction such as `1/3`; nine digits are a thousandth of a ppm."""

MAX_KIND_CHARACTERS: Final = 63
"""As a ledger's name: it is a label."""

# Control characters (Cc), lone surrogates (Cs), and the marks that reorder what a person reads
# (Unicode Standard Annex 9, "Explicit Directional Formatting Characters" and the implicit marks).
FORBIDDEN_CHARACTERS: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
