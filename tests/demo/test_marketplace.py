"""The shipped month: made again byte for byte, and settled to the same numbers in whatever order a phase arrives."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from bench.malformed import KINDS, MAX_AMOUNT, MAX_COMMAND_BYTES, MEMBER_KINDS
from bench.marketplace import MEMBERS, PHASES, SINGLES, expected, month, write
from bench.story import Message, encode, foretold
from tests.demo.reading import Reading

SHIPPED = Path(__file__).parents[2] / "demo"
MAX_SHIPPED_BYTES = 9_000_000  # a clone should stay quick

REFUSALS = {  # all that the commands of this month can be answered, but `overflow` (see bench.marketplace)
    "id_reused",
    "accounts_must_differ",
    "source_not_found",
    "destination_not_found",
    "ledgers_must_match",
    "insufficient_funds",
    "limit_exceeded",
    "ledger_exists",
    "ledger_not_found",
    "account_exists",
    "chain_failed",
    "malformed",
    "exceeds_hold",
    "already_voided",
    "exceeds_original",
}


@pytest.fixture(scope="module")
def told() -> dict[str, list[Message]]:
    return month()


def every(told: dict[str, list[Message]]) -> list[Message]:
    return [message for phase in told.values() for message in phase]


def test_the_shipped_files_are_what_the_generator_writes(tmp_path: Path) -> None:
    write(tmp_path)

    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    shipped = {path.name: path.read_bytes() for path in SHIPPED.iterdir()}
    assert set(made) == {*(f"{phase}.jsonl" for phase in PHASES), "expected.json"}
    assert made == shipped
    assert sum(map(len, shipped.values())) < MAX_SHIPPED_BYTES


def test_the_month_has_as_many_commands_as_it_says(told: dict[str, list[Message]]) -> None:
    healthy = {
        form: sum(one.status != "malformed" for m in every(told) if m.form == form for one in m.foretold)
        for form in ("single", "batch", "malformed")
    }

    assert healthy == {"single": SINGLES, "batch": MEMBERS, "malformed": 0}
    assert expected(told).commands == SINGLES + MEMBERS


def test_every_status_and_every_kind_of_dead_letter_occurs(told: dict[str, list[Message]]) -> None:
    answered, dead_letters = expected(told).answered, expected(told).dead_letters

    assert set(answered) == REFUSALS | {"applied"}
    assert set(dead_letters) == {*KINDS, *MEMBER_KINDS}
    assert sum(dead_letters.values()) == answered["malformed"]


def test_the_money_of_each_ledger_adds_up_to_nothing(told: dict[str, list[Message]]) -> None:
    for classes in expected(told).money.values():
        assert sum(classes.values()) == 0
        assert classes["customer"] > 0


@pytest.mark.parametrize("seed", range(5))
def test_the_numbers_hold_in_whatever_order_a_phase_arrives(told: dict[str, list[Message]], seed: int) -> None:
    reading = Reading()

    for phase in told.values():
        for message in Random(seed).sample(phase, len(phase)):
            reading.take(message)

    foreseen = expected(told)
    assert reading.answered == foreseen.answered
    assert Counter(status for _, status in reading.kept.values()) == foreseen.decided
    assert {id_: reading.balances[id_] for id_ in reading.accounts} == foreseen.balances


def test_all_of_it_sent_again_changes_no_balance_and_no_verdict_that_is_kept(told: dict[str, list[Message]]) -> None:
    reading = Reading()

    for message in [*every(told), *every(told)]:
        reading.take(message)

    foreseen = expected(told)
    assert Counter(status for _, status in reading.kept.values()) == foreseen.decided
    assert {id_: reading.balances[id_] for id_ in reading.accounts} == foreseen.balances


def test_what_is_not_foretold_to_be_malformed_is_well_formed(told: dict[str, list[Message]]) -> None:
    fields = {
        "ledgers.open": {"ledger", "currency", "scale"},
        "accounts.open": {"account_id", "ledger", "min_balance", "max_balance", "metadata"},
        "transfers.post": {"source_id", "destination_id", "amount", "up_to", "kind", "metadata"},
        "transfers.hold": {"source_id", "destination_id", "amount", "kind", "expires_in_s"},
        "transfers.capture": {"hold_id", "amount", "final"},
        "transfers.void": {"hold_id"},
        "transfers.reverse": {"transfer_id", "amount"},
        "transfers.split": {"source_id", "destinations", "amount", "kind"},
    }

    for one in foretold(every(told)):
        if one.status == "malformed":
            continue
        command = one.command
        assert set(command) <= {"type", "id"} | fields[command["type"]]
        assert len(encode(command)) <= MAX_COMMAND_BYTES
        for name in {"id", "account_id", "source_id", "destination_id", "hold_id", "transfer_id"} & set(command):
            assert str(UUID(command[name])) == command[name]
            assert UUID(command[name]).version == 4
        if "amount" in command:
            assert type(command["amount"]) is int
            assert 1 <= command["amount"] <= MAX_AMOUNT


def test_a_line_holds_the_commands_that_are_foretold_of_it(told: dict[str, list[Message]]) -> None:
    for message in every(told):
        if message.form == "single":
            assert [json.loads(message.line)] == [one.command for one in message.foretold]
        if message.form == "batch":
            flat = []
            for member in json.loads(message.line)["commands"]:
                flat += member if isinstance(member, list) else [member]
            assert flat == [one.command for one in message.foretold]


def test_the_expectation_is_shipped_beside_the_files(told: dict[str, list[Message]]) -> None:
    assert json.loads((SHIPPED / "expected.json").read_text(encoding="utf-8")) == asdict(expected(told))
