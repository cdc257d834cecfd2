"""Content: what must be the same when an id comes again, and which field is named when it is not."""

import json
from typing import Any

import orjson
import pytest

from models.commands import Batch, Command
from models.content import content_of, first_difference
from tests.factories import batch_of, new_id
from worker.intake.door import Delivery, judge

A, B, C, D = (f"{digit}0000000-0000-4000-8000-000000000000" for digit in "abcd")
TRANSFER: dict[str, Any] = {"id": A, "source_id": B, "destination_id": C, "amount": 5}
ACCOUNT: dict[str, Any] = {"id": A, "account_id": B, "ledger": "m"}
LEDGER: dict[str, Any] = {"id": A, "ledger": "m", "currency": "EUR", "scale": 2}
TYPES = {"transfers.post": TRANSFER, "accounts.open": ACCOUNT, "ledgers.open": LEDGER}


def command(type_: str, **fields: Any) -> Command:
    body = json.dumps([[], TYPES[type_] | fields, {}]).encode()
    item = judge(Delivery(type_, "task", "commands", body, raw=body)).item
    assert isinstance(item, Command)
    return item


def difference(first: Command | Batch, second: Command | Batch) -> str | None:
    """Compare as the inbox does, where the first content comes back from JSON."""
    return first_difference(orjson.loads(orjson.dumps(content_of(first))), second)


@pytest.mark.parametrize(
    ("type_", "one", "other"),
    [
        ("transfers.post", {}, {"up_to": False, "kind": None, "effective_at": None, "metadata": None}),
        ("transfers.post", {"metadata": {"a": 1, "b": 2}}, {"metadata": {"b": 2, "a": 1}}),
        ("transfers.post", {"effective_at": "2026-11-23T12:00:00Z"}, {"effective_at": "2026-11-23T13:00:00.0+01:00"}),
        ("accounts.open", {}, {"min_balance": 0, "max_balance": None}),
    ],
)
def test_another_way_to_write_the_same_makes_no_difference(
    type_: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert difference(command(type_, **one), command(type_, **other)) is None
    assert difference(command(type_, **other), command(type_, **one)) is None


@pytest.mark.parametrize(
    ("type_", "one", "other", "field"),
    [
        ("transfers.post", {}, {"amount": 6}, "amount"),
        ("transfers.post", {}, {"up_to": True}, "up_to"),
        ("transfers.post", {}, {"kind": "fee"}, "kind"),
        ("transfers.post", {}, {"effective_at": "2026-11-23T12:00:00Z"}, "effective_at"),
        ("transfers.post", {}, {"metadata": {}}, "metadata"),
        ("transfers.post", {"metadata": {"a": 1}}, {"metadata": {"a": True}}, "metadata"),
        ("transfers.post", {"metadata": {"a": [0]}}, {"metadata": {"a": [False]}}, "metadata"),
        ("transfers.post", {"metadata": {"a": None}}, {"metadata": {}}, "metadata"),
        ("accounts.open", {}, {"min_balance": None}, "min_balance"),
        ("accounts.open", {"min_balance": -1}, {"min_balance": None}, "min_balance"),
        ("accounts.open", {}, {"max_balance": 0}, "max_balance"),
        ("accounts.open", {}, {"owner_id": C}, "owner_id"),
        ("ledgers.open", {}, {"scale": 0}, "scale"),
    ],
)
def test_each_field_that_differs_is_named(type_: str, one: dict[str, Any], other: dict[str, Any], field: str) -> None:
    assert difference(command(type_, **one), command(type_, **other)) == field
    assert difference(command(type_, **other), command(type_, **one)) == field


def test_the_first_difference_is_named_in_the_contracts_order() -> None:
    first = command("transfers.post")
    changes: list[dict[str, Any]] = [
        {"metadata": {"a": 1}}, {"effective_at": "2026-11-23T12:00:00Z"}, {"kind": "fee"}, {"up_to": True},
        {"amount": 6}, {"destination_id": D}, {"source_id": D},
    ]  # fmt: skip

    told, fields = [], {}
    for change in changes:
        fields = change | fields
        told.append(difference(first, command("transfers.post", **fields)))

    assert told == ["metadata", "effective_at", "kind", "up_to", "amount", "destination_id", "source_id"]
    assert difference(first, command("accounts.open")) == "type"
    assert difference(first, batch_of([{}], id=A)) == "type"


def test_a_batch_is_the_same_when_its_members_are() -> None:
    id, member = new_id(), {"type": "transfers.post"} | TRANSFER
    same = {"up_to": False} | dict(reversed(member.items()))
    bad = {"type": "transfers.post", "b": 1, "a": 2}

    first = batch_of([member, [member, bad]], id=id)

    assert difference(first, batch_of([same, [same, bad]], id=id)) is None
    for other in ([member, member, bad], [member], [member, [member, bad | {"b": 2}]], [[member, bad], member]):
        assert difference(first, batch_of(other, id=id)) == "commands"
