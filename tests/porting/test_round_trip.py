"""What is exported and imported is the same ledger again: its accounts row by row, and its export byte by byte."""

import io
from random import Random

import orjson
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from models.commands import (
    COMMANDS,
    CaptureTransfer,
    ExchangeTransfer,
    FreezeAccount,
    LimitAccount,
    OpenAccount,
    Part,
    ReverseTransfer,
    SplitTransfer,
)
from tests.factories import hold, new, new_id, open_books, post
from tests.laws.stories import BEGINNING, World, all_of, tell
from tests.ledger.looking import reserved, statuses
from tests.ledger.test_holds import NOON, at
from worker.engine.settle import Settlement
from worker.porting import exporting
from worker.porting.importing import Importer, Settled
from worker.porting.judging import Name, judged
from worker.porting.lines import lines
from worker.porting.opening import OpeningBalance
from worker.porting.rows import Header, Writer
from worker.proving.verify import verify
from worker.reading.trace import trace

UNABRIDGED = [phase for phase in Phase if phase not in (Phase.shrink, Phase.explain)]
MANY = pytest.param(1_000, marks=[pytest.mark.long, pytest.mark.timeout(1_200)])

ACCOUNTS = text(
    """
    SELECT account.id::text, version, debits_posted, credits_posted, debits_pending, credits_pending,
           min_balance, max_balance, state, owner_id, metadata
    FROM equipoise.accounts account JOIN equipoise.ledgers ledger ON ledger.number = account.ledger
    WHERE ledger.name = :ledger ORDER BY 1
    """
)


def accounts(engine: Engine, ledger: str) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(ACCOUNTS, {"ledger": ledger})]


def exported(engine: Engine, ledger: str, *, csv: bool = False) -> bytes:
    """Export a ledger as the command does; a ledger that is not there is empty."""
    writer = Writer(exporting.COLUMNS)
    with engine.connect() as connection:
        found = exporting.export(connection, ledger)
        if found is None:
            return b""
        if csv:
            return writer.header() + b"".join(map(writer.row, found.commands()))
        return b"".join(orjson.dumps(command) + b"\n" for command in found.commands())


def imported(settle: Settlement, file: bytes, *, csv: bool = False, name: str = "test") -> Settled:
    """Import a file as the command does, and give all that became of it."""
    found = lines(io.BytesIO(file))
    header = Header(next(found).content, [*COMMANDS.values(), OpeningBalance]) if csv else None
    whole = Settled(0)
    for part in Importer(settle).run(judged(line, Name(name, str), header) for line in found):
        whole.statuses.update(part.statuses)
        whole.known += part.known
        whole.refusals += part.refusals
        whole.ends_at = part.ends_at
    return whole


@pytest.mark.parametrize("examples", [25, MANY])
def test_an_exported_ledger_is_imported_as_it_was(
    settlement: Settlement, other: Settlement, database_url: str, other_url: str, examples: int
) -> None:
    @settings(max_examples=examples, phases=UNABRIDGED)
    @given(random=st.randoms(use_true_random=True), csv=st.booleans())
    def law(random: Random, csv: bool) -> None:
        world = World()
        settlement(world.items(BEGINNING))
        for item in world.items(all_of(tell(random, dry_runs=False))):
            settlement([item])
        for ledger in (world.named([{"ledger": name}])[0]["ledger"] for name in ("~m", "~n", "~o")):
            file = exported(settlement.engine, ledger, csv=csv)
            if not file:
                continue
            assert exported(settlement.engine, ledger, csv=csv) == file

            told = imported(other, file, csv=csv)

            assert told.refusals == []
            assert accounts(other.engine, ledger) == accounts(settlement.engine, ledger)
            assert exported(other.engine, ledger, csv=csv) == file
            again = imported(other, file, csv=csv)
            assert again.known == again.statuses.total() == told.statuses["applied"]
            assert accounts(other.engine, ledger) == accounts(settlement.engine, ledger)

    law()
    assert verify(database_url).sound
    assert verify(other_url).sound


ODD = [
    'a,b;"c"',
    "=1+1",
    "+1",
    "-1",
    "@x",
    '"',
    '"quoted"',
    "\\n \\u0041",
    "é \U0001f600 \u2028",
    " ",
    "null",
    "12",
    "'",
]


def test_odd_texts_come_back_from_both_formats(settlement: Settlement, other: Settlement) -> None:
    ledger, [account, bank] = open_books(settlement, [10], ledger="-odd")
    moves = [post(bank, account, 1, kind=odd, metadata={odd: [odd, None, True, {"": -1}]}) for odd in ODD]
    assert set(statuses(settlement, *moves)) == {"applied"}
    jsonl, csv = exported(settlement.engine, ledger), exported(settlement.engine, ledger, csv=True)

    assert imported(other, csv, csv=True).refusals == []

    assert exported(other.engine, ledger) == jsonl
    assert exported(other.engine, ledger, csv=True) == csv
    assert imported(other, jsonl).known == jsonl.count(b"\n")


def test_no_cell_begins_as_a_formula_does(settlement: Settlement) -> None:
    ledger, [account, bank] = open_books(settlement, [10], ledger="-odd")
    settlement([post(bank, account, 1, kind=odd) for odd in ODD])

    shown = [row.split(b",") for row in exported(settlement.engine, ledger, csv=True).splitlines()]

    cells = [cell.removeprefix(b'"') for row in shown for cell in row]
    assert not [cell for cell in cells if cell[:1] in (b"=", b"+", b"-", b"@")]


def test_a_transfer_keeps_its_moment_and_what_it_was(settlement: Settlement, other: Settlement) -> None:
    ledger, [account, payee, bank] = open_books(settlement, [100, 0])
    dated = post(account, bank, 1, effective_at="0999-12-31T00:00:00.000000Z")
    split = new(
        SplitTransfer,
        source_id=account,
        destinations=[Part(account_id=payee, share="1/3"), Part(account_id=bank, rest=True)],
        amount=10,
        kind="fee",
    )
    gathered = new(
        SplitTransfer,
        sources=[Part(account_id=it, share="1/2") for it in (account, payee)],
        destination_id=bank,
        amount=2,
    )
    plain = post(account, payee, 5)
    refund = new(ReverseTransfer, transfer_id=plain.id, amount=2)
    held = hold(account, bank, 10, kind="rent")
    captured = new(CaptureTransfer, hold_id=held.id, amount=4, final=False)
    told = settlement([dated, split, gathered, plain, refund, held, captured])
    assert {it["status"] for it in told} == {"applied"}

    imported(other, exported(settlement.engine, ledger))

    with other.engine.connect() as connection:
        assert [it.effective_at for it in trace(connection, dated.id).transfers] == [dated.effective_at]
        [moved] = trace(connection, plain.id).transfers
        assert moved.effective_at is not None
        assert moved.as_json()["effective_at"] == told[3]["decided_at"]
        assert moved.reversed_by == [refund.id]
        assert trace(connection, refund.id).transfers[0].as_json()["effective_at"] == told[4]["decided_at"]
        assert [it.amount for it in trace(connection, split.id).transfers] == [3, 7]
        assert [it.kind for it in trace(connection, split.id).transfers] == ["fee", "fee"]
        assert [it.amount for it in trace(connection, gathered.id).transfers] == [1, 1]
        assert [it.kind for it in trace(connection, captured.id).transfers] == ["rent"]
        assert [(it.state, it.remaining) for it in trace(connection, held.id).holds] == [("pending", 6)]


def test_a_refund_before_the_export_counts_after_the_import(settlement: Settlement, other: Settlement) -> None:
    ledger, [account, bank] = open_books(settlement, [100])
    paid = post(account, bank, 50)
    settlement([paid, new(ReverseTransfer, transfer_id=paid.id, amount=30)])

    imported(other, exported(settlement.engine, ledger))

    assert statuses(other, new(ReverseTransfer, transfer_id=paid.id, amount=21)) == ["exceeds_original"]
    assert statuses(other, new(ReverseTransfer, transfer_id=paid.id, amount=20)) == ["applied"]


def test_a_hold_keeps_its_deadline(settlement: Settlement, other: Settlement) -> None:
    ledger, [account, bank] = open_books(settlement, [100])
    held = hold(account, bank, 10, expires_at=NOON)
    settlement([held, hold(account, bank, 5)])

    imported(other, exported(settlement.engine, ledger))

    with other.engine.connect() as connection:
        assert [it.expires_at for it in trace(connection, held.id).holds] == [NOON]
    assert statuses(at(other, NOON), new(CaptureTransfer, hold_id=held.id)) == ["hold_expired"]


def test_what_a_hold_no_longer_reserves_is_not_exported(settlement: Settlement, other: Settlement) -> None:
    """One that is overdue has ended, though nobody has touched its accounts since."""
    long_ago = at(settlement, NOON.replace(year=2020))
    ledger, [account, bank] = open_books(long_ago, [100])
    assert statuses(long_ago, hold(account, bank, 10, expires_in_s=60)) == ["applied"]

    told = imported(other, exported(settlement.engine, ledger))

    assert told.refusals == []
    assert reserved(other, account) == (100, 0, 0)


def test_a_hold_that_has_ended_by_its_ledgers_time_is_not_exported(settlement: Settlement, other: Settlement) -> None:
    """That time may be ahead of the clock, by which the hold would still be pending."""
    ledger, [account, payee, *others, _] = open_books(settlement, [100, 0, 1, 0])
    assert statuses(settlement, hold(account, payee, 10, expires_in_s=60)) == ["applied"]
    assert statuses(at(settlement, NOON), post(*others, 1)) == ["applied"]

    imported(other, exported(settlement.engine, ledger))

    assert reserved(other, account) == (100, 0, 0)


def test_limits_and_states_are_those_of_the_present(settlement: Settlement, other: Settlement) -> None:
    """In their own time the transfers were within limits that are others now."""
    ledger, [account, frozen, bank] = open_books(settlement, [100, 0])
    owed = new_id()
    limits = [
        new(OpenAccount, account_id=owed, ledger=ledger, min_balance=-50, owner_id=new_id(), metadata={}),
        post(owed, bank, 50),
        new(LimitAccount, account_id=owed, min_balance=None, max_balance=-50),
        new(LimitAccount, account_id=account, min_balance=100, max_balance=100),
        new(FreezeAccount, account_id=frozen),
    ]
    assert set(statuses(settlement, *limits)) == {"applied"}

    told = imported(other, exported(settlement.engine, ledger))

    assert told.refusals == []
    assert accounts(other.engine, ledger) == accounts(settlement.engine, ledger)


def test_a_split_that_its_amounts_make_too_long_comes_as_its_transfers(
    settlement: Settlement, other: Settlement
) -> None:
    ledger, [account, *payees, _] = open_books(settlement, [0] * 231, min_balance=None)
    parts = [Part(account_id=payee, share="1/230") for payee in payees]
    split = new(SplitTransfer, source_id=account, destinations=parts, amount=10**15)
    assert statuses(settlement, split) == ["applied"]

    file = exported(settlement.engine, ledger)

    assert b"transfers.split" not in file
    assert imported(other, file).refusals == []
    assert accounts(other.engine, ledger) == accounts(settlement.engine, ledger)


def test_each_half_of_an_exchange_is_exported_with_its_ledger(settlement: Settlement, other: Settlement) -> None:
    one, [payer, bank] = open_books(settlement, [100])
    two, [payee, abroad] = open_books(settlement, [0])
    exchange = new(
        ExchangeTransfer, source_id=payer, source_liquidity_id=bank, source_amount=10,
        destination_liquidity_id=abroad, destination_id=payee, destination_amount=7,
    )  # fmt: skip
    assert statuses(settlement, exchange) == ["applied"]

    for ledger in (one, two):
        imported(other, exported(settlement.engine, ledger))

    for ledger in (one, two):
        assert accounts(other.engine, ledger) == accounts(settlement.engine, ledger)
