"""Every outcome is final: the same bytes after months, from another process, from rows that an old release wrote."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import psycopg
import pytest

from models import contract
from models.commands import COMMANDS, Command
from models.outcomes import encode, moment, timestamp
from tests.conftest import libpq
from tests.factories import batch_of, new_id, open_books, post
from tests.golden.record import MESSAGES, restore
from tests.laws.stories import World, verdicts
from worker.engine.settle import Settlement
from worker.postgres.engines import committing_engine
from worker.postgres.migrate import migrate
from worker.proving.verify import verify

ROOT = Path(__file__).parent.parent.parent
GOLDEN = sorted((ROOT / "tests" / "golden").glob("version_*.json"))

ANOTHER_PROCESS = """
import json, sys
from models.outcomes import encode
from tests.laws.stories import World
from worker.postgres.engines import committing_engine
from worker.engine.settle import Settlement

settle = Settlement(committing_engine(sys.argv[1]))
print(json.dumps([encode(outcome).hex() for outcome in settle(World.judged(json.load(sys.stdin)))]))
"""


def test_another_process_gives_the_same_bytes(settlement: Settlement, database_url: str) -> None:
    messages = World().named(MESSAGES)
    first = [encode(outcome).hex() for outcome in settlement(World.judged(messages))]

    other = subprocess.run(
        [sys.executable, "-c", ANOTHER_PROCESS, database_url],
        input=json.dumps(messages), capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip

    assert json.loads(other.stdout) == first


def test_a_command_redelivered_after_months_gets_its_first_outcome(settlement: Settlement, database_url: str) -> None:
    ledger, [account, bank] = open_books(settlement, [100])
    old, refused = post(account, bank, 30), post(account, bank, 71)
    first = [encode(outcome) for outcome in settlement([old, refused])]
    with psycopg.connect(libpq(database_url)) as connection:
        months_later = connection.execute(
            "UPDATE equipoise.ledgers SET decided_at = decided_at + %s WHERE name = %s RETURNING decided_at",
            [timedelta(days=90), ledger],
        ).fetchone()
    assert months_later is not None

    new, *again = settlement([post(bank, account, 1), old, refused])

    assert [encode(outcome) for outcome in again] == first
    # The clock of the database stands months behind the ledger's now, and the ledger's never goes back.
    assert new["decided_at"] == timestamp(months_later[0])


def test_a_batch_whose_member_nobody_knew_keeps_its_outcome_once_somebody_does(
    settlement: Settlement, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, [account, bank] = open_books(settlement, [100])

    class Blink(Command):
        type: Literal["eyes.blink"] = "eyes.blink"

    blinks = [{"type": "eyes.blink", "id": new_id()} for _ in range(3)]
    commands: list[Any] = [post(account, bank, 1).model_dump(exclude_unset=True) | {"type": "transfers.post"}]
    commands += [blinks[0], blinks[1:]]
    id = new_id()
    (first,) = settlement([batch_of(commands, id)])

    monkeypatch.setitem(COMMANDS, "eyes.blink", Blink)
    known = batch_of(commands, id)
    (again,) = settlement.known([known])

    assert again is not None
    assert encode(again) == encode(first)
    assert [type(member).__name__ for member in known.members] == ["PostTransfer", "Blink", "Blink", "Blink"]
    (other,) = settlement.known([batch_of([*commands, blinks[0]], id)])
    assert other is not None
    assert (other["status"], other["detail"]) == ("id_reused", "commands")


def test_a_clock_that_goes_back_does_not_take_a_ledger_with_it(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [100])
    noon = datetime(2100, 1, 1, 12, tzinfo=UTC)
    clock = iter([noon, noon - timedelta(hours=1), noon + timedelta(seconds=1)])
    turned = Settlement(settlement.engine, clock=lambda _: next(clock))

    told = [turned([post(account, bank, 1)])[0]["decided_at"] for _ in range(3)]

    assert [moment(it) - noon for it in told] == [timedelta(seconds=it) for it in (0, 0, 1)]


def test_every_contract_version_was_recorded() -> None:
    assert [path.stem for path in GOLDEN] == [f"version_{number}" for number in range(1, contract.VERSION + 1)]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_rows_of_an_old_release_give_the_outcomes_that_it_told(path: Path, empty_database_url: str) -> None:
    """Its rows are older than the chains, too: what an upgrade finds is sealed as it stands."""
    golden = json.loads(path.read_text())
    told = _told(golden)
    migrate(empty_database_url, "0002")
    with psycopg.connect(libpq(empty_database_url)) as connection:
        restore(connection, golden)

    migrate(empty_database_url)
    engine = committing_engine(empty_database_url)

    outcomes = Settlement(engine)(World.judged([message for message, _ in told]))

    engine.dispose()
    assert verify(empty_database_url).faults == []
    assert [encode(outcome).decode() for outcome in outcomes] == [outcome for _, outcome in told]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_what_an_old_release_decided_is_decided_so_again(path: Path, settlement: Settlement) -> None:
    golden = json.loads(path.read_text())

    for message, outcome in zip(golden["messages"], golden["outcomes"], strict=True):
        then = moment(json.loads(outcome)["decided_at"])
        [decided] = Settlement(settlement.engine, clock=lambda _, then=then: then)(World.judged([message]))

        assert encode(decided).decode() == outcome


def test_every_command_type_is_pinned_as_applied_and_as_refused() -> None:
    golden = json.loads(GOLDEN[-1].read_text())
    told = set(verdicts(golden["messages"], [json.loads(outcome) for outcome in golden["outcomes"]]))
    refused = {type for type, status in told if status not in ("applied", "chain_failed", "malformed", "id_reused")}

    assert {type for type, status in told if status == "applied"} == set(COMMANDS)
    assert refused >= set(COMMANDS) - {"accounts.freeze"}


def _told(golden: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """Give the messages with their outcomes, but for dry runs: nobody keeps what they were told."""
    told = zip(golden["messages"], golden["outcomes"], strict=True)
    return [(message, outcome) for message, outcome in told if not message.get("dry_run")]
