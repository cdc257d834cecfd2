"""Messages that nobody can handle: one healthy transfer, spoiled in each way that the door must refuse.

`bench.marketplace` strews them over its month. Each kind breaks one rule of the wire contract, so that its dead letter
can have one reason only. Nothing here knows how the door finds out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Command = dict[str, Any]
Change = Callable[[Command], object]
Spoil = Callable[[Command], bytes]

MAX_AMOUNT = 10**15  # the contract's limits: of one transfer,
MAX_COMMAND_BYTES = 16 * 1024  # of a command that is neither a document nor a batch,
MAX_LEVELS = 8  # of a command,
MAX_MEMBERS = 10_000  # of a batch


def spoiled(kind: str, healthy: Command) -> bytes:
    """Return the healthy transfer as a message of that kind."""
    if kind in TEXTS:
        return TEXTS[kind](healthy)
    return _ascii(CHANGES[kind](healthy))


def _ascii(value: object) -> bytes:
    """Encode with escapes for all but ASCII: what is invisible on the screen shall be visible in the file."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _with(**fields: object) -> Change:
    return lambda healthy: healthy | fields


def _without(field: str) -> Change:
    return lambda healthy: {name: value for name, value in healthy.items() if name != field}


def _with_id(change: Callable[[str], str]) -> Change:
    return lambda healthy: healthy | {"id": change(healthy["id"])}


def _with_note(note: str) -> Change:
    return _with(metadata={"note": note})


def _instead(type_: str, **fields: object) -> Change:
    return lambda healthy: {"type": type_, "id": healthy["id"], **fields}


def _typed_as(literal: bytes, change: Change) -> Spoil:
    """Put the literal where the change has `"?"`: for what a JSON encoder does not write."""
    return lambda healthy: _ascii(change(healthy)).replace(b'"?"', literal)


def _nested(levels: int) -> object:
    return {"in": _nested(levels - 1)} if levels else "the bottom"


# No JSON encoder writes these.
TEXTS: dict[str, Spoil] = {
    "not_json": lambda healthy: _ascii(healthy)[:-1],
    "not_utf8": _typed_as('"café"'.encode("latin-1"), _with_note("?")),
    "raw_control_character": _typed_as(b'"\x1b[2J"', _with_note("?")),
    "duplicate_key": lambda healthy: b'{"amount":1,' + _ascii(healthy)[1:],
    "amount_with_exponent": _typed_as(b"1e3", _with(amount="?")),
}

CHANGES: dict[str, Change] = {
    "not_an_object": lambda healthy: [healthy],
    "too_large": _with_note("x" * MAX_COMMAND_BYTES),
    "too_deep": _with(metadata=_nested(2 * MAX_LEVELS)),
    "unknown_type": _with(type="transfers.teleport"),
    "missing_type": _without("type"),
    "missing_field": _without("destination_id"),
    "unknown_field": _with(tip=100),
    "amount_float": _with(amount=12.5),
    "amount_float_without_fraction": _with(amount=1250.0),
    "amount_nan": _with(amount=float("nan")),
    "amount_infinite": _with(amount=float("inf")),
    "amount_in_quotes": _with(amount="1250"),
    "amount_boolean": _with(amount=True),
    "amount_null": _with(amount=None),
    "amount_zero": _with(amount=0),
    "amount_negative": _with(amount=-1250),
    "amount_above_limit": _with(amount=MAX_AMOUNT + 1),
    "amount_above_bigint": _with(amount=2**63),
    "boolean_as_number": _with(up_to=1),
    "id_upper_case": _with_id(str.upper),
    "id_without_hyphens": _with_id(lambda id_: id_.replace("-", "")),
    "id_nil": _with(id="00000000-0000-0000-0000-000000000000"),
    "id_all_ones": _with(id="ffffffff-ffff-ffff-ffff-ffffffffffff"),
    "id_a_number": _with(id=42),
    "ledger_name": _instead("ledgers.open", ledger="Market Place", currency="EUR", scale=2),
    "control_character": _with_note("rings \x07 twice"),
    "nul_character": _with_note("ends \x00 here"),
    "bidirectional_character": _with_note("reads \u202e backwards"),
    "lone_surrogate": _with_note("half \ud83d a face"),
    "batch_without_commands": _instead("batch"),
    "batch_of_too_many": _instead("batch", commands=[0] * (MAX_MEMBERS + 1)),
    "batch_in_a_batch": lambda healthy: _instead("batch", commands=[healthy])(healthy),
}

# Of these a batch may hold one and still be read: that member alone is the dead letter, the rest of the batch goes on.
MEMBER_KINDS = (
    "amount_zero",
    "amount_boolean",
    "amount_above_limit",
    "unknown_type",
    "missing_field",
    "unknown_field",
    "id_upper_case",
    "batch_in_a_batch",
)
KINDS = tuple(kind for kind in (*TEXTS, *CHANGES) if kind != "batch_in_a_batch")  # by itself it is a healthy batch
