"""Each kind of malformed message is what its name says, and nothing else is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from bench.malformed import KINDS, MAX_AMOUNT, MAX_COMMAND_BYTES, MAX_LEVELS, MAX_MEMBERS, Command, spoiled

HEALTHY: Command = {
    "type": "transfers.post",
    "id": "5f0c1f6e-8a58-4c39-9d0e-5a2f3b1c7d9e",
    "source_id": "0b7d4c0a-6f3e-4d7b-8f61-2c9a1e5d3b4f",
    "destination_id": "c1a2b3c4-d5e6-4f70-8a9b-0c1d2e3f4a5b",
    "amount": 12_50,
    "kind": "top_up",
}
FIELDS = {"type", "id", "source_id", "destination_id", "amount", "kind", "metadata", "up_to", "ledger", "currency"}
FIELDS |= {"scale", "commands"}
NOTHING: Command = {}


def text_of(line: bytes) -> str:
    return line.decode("utf-8", "replace")


def read(line: bytes) -> Any:
    """Read as leniently as Python can, floats as their text; None where it cannot."""
    try:
        return json.loads(text_of(line), strict=False, parse_float=Float, parse_constant=Constant)
    except ValueError:
        return None


class Float(str):
    """A number as it was written, with a point or an exponent."""

    __slots__ = ()


class Constant(str):
    """NaN or Infinity."""

    __slots__ = ()


def fields(line: bytes) -> Command:
    value = read(line)
    return value if isinstance(value, dict) else NOTHING


def amount(line: bytes) -> Any:
    return fields(line).get("amount", 1)


def whole(line: bytes) -> int:
    """The amount where it is an integer, else a fine one."""
    return amount(line) if type(amount(line)) is int else 1


def id_of(line: bytes) -> Any:
    return fields(line).get("id", HEALTHY["id"])


def note(line: bytes) -> str:
    metadata = fields(line).get("metadata", NOTHING)
    return str(metadata.get("note", ""))


def levels(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(levels, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(levels, value), default=0)
    return 0


def has_duplicate_keys(line: bytes) -> bool:
    seen = []

    def pairs(of: list[tuple[str, Any]]) -> Command:
        seen.append(len(of) != len(dict(of)))
        return dict(of)

    if read(line) is not None:
        json.loads(text_of(line), strict=False, object_pairs_hook=pairs)
    return any(seen)


def is_not_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def is_canonical_but_for_case(id_: Any) -> bool:
    return isinstance(id_, str) and str(UUID(id_)) == id_.lower()


IS: dict[str, Callable[[bytes], bool]] = {
    "not_json": lambda line: read(line) is None,
    "not_utf8": is_not_utf8,
    "raw_control_character": lambda line: any(byte < 0x20 for byte in line),
    "duplicate_key": has_duplicate_keys,
    "amount_with_exponent": lambda line: isinstance(amount(line), Float) and "e" in amount(line),
    "not_an_object": lambda line: isinstance(read(line), list),
    "too_large": lambda line: "commands" not in fields(line) and len(line) > MAX_COMMAND_BYTES,
    "too_deep": lambda line: levels(read(line)) > MAX_LEVELS,
    "unknown_type": lambda line: (
        fields(line).get("type", "batch") not in ("ledgers.open", "accounts.open", "transfers.post", "batch")
    ),
    "missing_type": lambda line: isinstance(read(line), dict) and "type" not in fields(line),
    "missing_field": lambda line: fields(line).get("type") == "transfers.post" and "destination_id" not in fields(line),
    "unknown_field": lambda line: not set(fields(line)) <= FIELDS,
    "amount_float": lambda line: isinstance(amount(line), Float) and not float(amount(line)).is_integer(),
    "amount_float_without_fraction": lambda line: isinstance(amount(line), Float) and amount(line).endswith(".0"),
    "amount_nan": lambda line: amount(line) == Constant("NaN"),
    "amount_infinite": lambda line: amount(line) == Constant("Infinity"),
    "amount_in_quotes": lambda line: type(amount(line)) is str,
    "amount_boolean": lambda line: isinstance(amount(line), bool),
    "amount_null": lambda line: amount(line) is None,
    "amount_zero": lambda line: whole(line) == 0,
    "amount_negative": lambda line: whole(line) < 0,
    "amount_above_limit": lambda line: whole(line) == MAX_AMOUNT + 1,
    "amount_above_bigint": lambda line: whole(line) > 2**63 - 1,
    "boolean_as_number": lambda line: type(fields(line).get("up_to", False)) is int,
    "id_upper_case": lambda line: is_canonical_but_for_case(id_of(line)) and id_of(line) != id_of(line).lower(),
    "id_without_hyphens": lambda line: isinstance(id_of(line), str) and "-" not in id_of(line),
    "id_nil": lambda line: id_of(line) == str(UUID(int=0)),
    "id_all_ones": lambda line: id_of(line) == str(UUID(int=2**128 - 1)),
    "id_a_number": lambda line: isinstance(id_of(line), int),
    "ledger_name": lambda line: " " in fields(line).get("ledger", ""),
    "control_character": lambda line: "\x07" in note(line),
    "nul_character": lambda line: "\x00" in note(line),
    "bidirectional_character": lambda line: "\u202e" in note(line),
    "lone_surrogate": lambda line: any(0xD800 <= ord(character) <= 0xDFFF for character in note(line)),
    "batch_without_commands": lambda line: fields(line).get("type") == "batch" and "commands" not in fields(line),
    "batch_of_too_many": lambda line: len(fields(line).get("commands", ())) > MAX_MEMBERS,
}


def test_every_kind_has_its_check() -> None:
    assert set(IS) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_spoiled_message_is_what_its_kind_says_and_nothing_else(kind: str) -> None:
    line = spoiled(kind, HEALTHY)

    assert {name for name, holds in IS.items() if holds(line)} == {kind}
    assert b"\n" not in line


def test_nothing_is_wrong_with_the_healthy_one() -> None:
    line = json.dumps(HEALTHY).encode()

    assert not [name for name, holds in IS.items() if holds(line)]


def test_a_batch_in_a_batch_is_healthy_by_itself() -> None:
    line = spoiled("batch_in_a_batch", HEALTHY)

    assert fields(line)["type"] == "batch"
    assert fields(line)["commands"] == [HEALTHY]
