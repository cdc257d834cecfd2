"""The proof of the books finds each kind of fault, and nothing where there is none."""

import tracemalloc

import pytest

from models.commands import (
    CaptureTransfer,
    ExtendHold,
    FreezeAccount,
    HoldTransfer,
    LimitAccount,
    OpenAccount,
    ReverseTransfer,
    SplitTransfer,
    UnfreezeAccount,
    VoidTransfer,
)
from tests.conftest import Tamper
from tests.factories import batch, hold, new, new_id, open_books, post
from worker.engine.settle import Settlement
from worker.proving.verdicts import Kind, Verdict
from worker.proving.verify import verify

# The third transfer of the first ledger, in a month of a few: a hole in the middle is not an end that was cut off.
THIRD = "ledger = 1 AND sequence = 3"
LAST = "ledger = 1 AND sequence = (SELECT max(sequence) FROM equipoise.transfers WHERE ledger = 1)"
LAST_COMMAND = "ledger = 1 AND number = (SELECT max(number) FROM equipoise.inbox WHERE ledger = 1)"
FIRST_ACCOUNT = "id = (SELECT destination_id FROM equipoise.transfers WHERE ledger = 1 AND sequence = 1)"

FAULTS: dict[Kind, str] = {
    Kind.SEQUENCE_GAP: f"DELETE FROM equipoise.transfers WHERE {THIRD}",
    Kind.LEDGER_SEQUENCE: f"DELETE FROM equipoise.transfers WHERE {LAST}",
    Kind.TIME_WENT_BACK: f"UPDATE equipoise.transfers SET created_at = created_at - interval '1 day' WHERE {THIRD}",
    Kind.UNKNOWN_LEDGER: f"UPDATE equipoise.transfers SET ledger = 99 WHERE {THIRD}",
    Kind.UNKNOWN_ACCOUNT: f"DELETE FROM equipoise.accounts WHERE {FIRST_ACCOUNT}",
    Kind.VERSION_GAP: f"UPDATE equipoise.transfers SET source_version = source_version + 100 WHERE {THIRD}",
    Kind.BALANCE_BROKEN: f"UPDATE equipoise.transfers SET amount = amount + 1 WHERE {THIRD}",
    Kind.ACCOUNT_VERSION: f"UPDATE equipoise.accounts SET version = version + 1 WHERE {FIRST_ACCOUNT}",
    Kind.ACCOUNT_COUNTERS: f"UPDATE equipoise.accounts SET debits_posted = debits_posted + 1 WHERE {FIRST_ACCOUNT}",
    Kind.LIMIT_BROKEN: f"UPDATE equipoise.accounts SET max_balance = 1 WHERE {FIRST_ACCOUNT}",
    Kind.LEDGER_NOT_ZERO: f"UPDATE equipoise.accounts SET credits_posted = credits_posted + 1 WHERE {FIRST_ACCOUNT}",
    Kind.TRANSFER_MISSING: f"DELETE FROM equipoise.transfers WHERE {THIRD}",
    Kind.COMMAND_MISSING: f"DELETE FROM equipoise.inbox WHERE id = (SELECT id FROM equipoise.transfers WHERE {THIRD})",
    Kind.ACCOUNT_PENDING: f"UPDATE equipoise.accounts SET debits_pending = debits_pending + 1 WHERE {FIRST_ACCOUNT}",
    Kind.HOLD_CAPTURED: "UPDATE equipoise.holds SET captured = captured - 1",
    Kind.REVERSED_TOO_MUCH: "UPDATE equipoise.transfers SET amount = 6 WHERE reverses IS NOT NULL",
    Kind.TIME_DIFFERS: f"UPDATE equipoise.transfers SET created_at = created_at + interval '1 year' WHERE {LAST}",
    Kind.TRANSFER_SEAL: f"UPDATE equipoise.transfers SET kind = 'salary' WHERE {THIRD}",
    Kind.COMMAND_SEAL: "UPDATE equipoise.inbox SET status = 'account_frozen' WHERE status = 'insufficient_funds'",
    Kind.COMMAND_GAP: "DELETE FROM equipoise.inbox WHERE ledger = 1 AND number = 3",
    Kind.LEDGER_COMMANDS: f"DELETE FROM equipoise.inbox WHERE {LAST_COMMAND}",
    Kind.LEDGER_HEAD: "UPDATE equipoise.ledgers SET head = sha256('other') WHERE number = 1",
    Kind.ACCOUNT_DIFFERS: f"UPDATE equipoise.accounts SET max_balance = 5000000 WHERE {FIRST_ACCOUNT}",
    Kind.HOLD_DIFFERS: "UPDATE equipoise.holds SET expires_at = now()",
    Kind.CHANGE_DIFFERS: "UPDATE equipoise.changes SET after = jsonb_set(after, '{max_balance}', '7')",
}

COMMAND = f"id = (SELECT id FROM equipoise.transfers WHERE {THIRD})"
COUNTED = "debits_posted, credits_posted"
BALANCE = "credits_posted - debits_posted"

# The same kinds by other ways: the second half of a check, and the other end of a range.
OTHER_FAULTS: list[tuple[Kind, str]] = [
    (Kind.SEQUENCE_GAP, "DELETE FROM equipoise.transfers WHERE ledger = 1 AND sequence = 1"),
    (Kind.LEDGER_SEQUENCE, "UPDATE equipoise.ledgers SET sequence = sequence - 1 WHERE number = 1"),
    (Kind.UNKNOWN_LEDGER, f"UPDATE equipoise.transfers SET ledger = 0 WHERE {THIRD}"),
    (Kind.VERSION_GAP, f"UPDATE equipoise.transfers SET destination_version = 100 WHERE {THIRD}"),
    (Kind.BALANCE_BROKEN, f"UPDATE equipoise.transfers SET source_balance = 7 WHERE {THIRD}"),
    (Kind.BALANCE_BROKEN, f"UPDATE equipoise.transfers SET destination_balance = 7 WHERE {THIRD}"),
    (
        Kind.ACCOUNT_COUNTERS,
        f"UPDATE equipoise.accounts SET ({COUNTED}) = (debits_posted + 1, credits_posted + 1) WHERE {FIRST_ACCOUNT}",
    ),
    (Kind.LIMIT_BROKEN, f"UPDATE equipoise.accounts SET min_balance = {BALANCE} + 1 WHERE {FIRST_ACCOUNT}"),
    (Kind.LIMIT_BROKEN, f"UPDATE equipoise.accounts SET max_balance = {BALANCE} - 1 WHERE {FIRST_ACCOUNT}"),
    (
        Kind.LIMIT_BROKEN,
        f"UPDATE equipoise.accounts SET min_balance = {BALANCE}, debits_pending = 1 WHERE {FIRST_ACCOUNT}",
    ),
    (
        Kind.LIMIT_BROKEN,
        f"UPDATE equipoise.accounts SET max_balance = {BALANCE}, credits_pending = 1 WHERE {FIRST_ACCOUNT}",
    ),
    (Kind.TRANSFER_MISSING, f"UPDATE equipoise.transfers SET id = gen_random_uuid() WHERE {THIRD}"),
    (Kind.COMMAND_MISSING, f"UPDATE equipoise.inbox SET status = 'insufficient_funds' WHERE {COMMAND}"),
    (Kind.COMMAND_MISSING, f"UPDATE equipoise.inbox SET type = 'accounts.open' WHERE {COMMAND}"),
    (Kind.COMMAND_MISSING, "UPDATE equipoise.holds SET id = gen_random_uuid()"),
    # What is in the chain of no ledger that is there, or in none.
    (
        Kind.UNKNOWN_LEDGER,
        (
            "INSERT INTO equipoise.inbox SELECT gen_random_uuid(), decided_at, type, status, content, answer, 999, 7, 0"
            " FROM equipoise.inbox WHERE type = 'accounts.limit' LIMIT 1"
        ),
    ),
    (
        Kind.COMMAND_SEAL,
        (
            "INSERT INTO equipoise.inbox SELECT gen_random_uuid(), decided_at, type, status, content, answer"
            " FROM equipoise.inbox WHERE status = 'insufficient_funds' LIMIT 1"
        ),
    ),
    (
        Kind.COMMAND_SEAL,
        (
            "INSERT INTO equipoise.inbox SELECT gen_random_uuid(), decided_at, type, status FROM equipoise.inbox"
            " WHERE type = 'transfers.capture' LIMIT 1"
        ),
    ),
    (Kind.COMMAND_SEAL, f"UPDATE equipoise.inbox SET type = 'transfers.reverse' WHERE {COMMAND}"),
    (Kind.COMMAND_SEAL, "UPDATE equipoise.inbox SET ledger = NULL, number = NULL, seal = NULL WHERE number = 5"),
    # Each fact beside the money.
    (Kind.HOLD_DIFFERS, "UPDATE equipoise.holds SET state = 'expired', remaining = 0, ended_at = expires_at"),
    (Kind.HOLD_DIFFERS, "UPDATE equipoise.holds SET created_at = created_at - interval '1 s'"),
    (Kind.HOLD_DIFFERS, "UPDATE equipoise.holds SET amount = amount + 1"),
    (Kind.HOLD_DIFFERS, "UPDATE equipoise.holds SET kind = 'other'"),
    (Kind.ACCOUNT_DIFFERS, f"UPDATE equipoise.accounts SET state = 'frozen' WHERE {FIRST_ACCOUNT}"),
    (Kind.ACCOUNT_DIFFERS, f"UPDATE equipoise.accounts SET created_at = now() WHERE {FIRST_ACCOUNT}"),
    (Kind.ACCOUNT_DIFFERS, f"UPDATE equipoise.accounts SET owner_id = gen_random_uuid() WHERE {FIRST_ACCOUNT}"),
    (Kind.ACCOUNT_DIFFERS, f"""UPDATE equipoise.accounts SET metadata = '{{"a": 1}}' WHERE {FIRST_ACCOUNT}"""),
    (Kind.TIME_DIFFERS, "UPDATE equipoise.ledgers SET decided_at = '2999-01-01' WHERE number = 1"),
    (Kind.TIME_DIFFERS, "UPDATE equipoise.ledgers SET created_at = created_at - interval '1 s' WHERE number = 1"),
    (Kind.CHANGE_DIFFERS, "DELETE FROM equipoise.changes WHERE after ? 'min_balance'"),
    (Kind.CHANGE_DIFFERS, "DELETE FROM equipoise.changes WHERE after ? 'state'"),
    (Kind.CHANGE_DIFFERS, "DELETE FROM equipoise.changes WHERE table_name = 'holds'"),
    (Kind.CHANGE_DIFFERS, "UPDATE equipoise.changes SET after = '{}' WHERE after ? 'min_balance'"),
    (Kind.CHANGE_DIFFERS, """UPDATE equipoise.changes SET after = '{"state": "closed"}' WHERE after ? 'state'"""),
    (Kind.CHANGE_DIFFERS, "UPDATE equipoise.changes SET before = jsonb_set(before, '{min_balance}', '-3')"),
    (Kind.CHANGE_DIFFERS, "UPDATE equipoise.changes SET before = jsonb_set(before, '{amount}', '21')"),
    (Kind.CHANGE_DIFFERS, "UPDATE equipoise.changes SET after = jsonb_set(after, '{amount}', '24')"),
    (Kind.CHANGE_DIFFERS, "UPDATE equipoise.changes SET changed_at = changed_at + interval '1 s'"),
]


def live(settlement: Settlement) -> None:
    """Two ledgers, some money, a refusal, and in each a hold that is captured in part, and a refund."""
    for _ in range(2):
        _, (first, second, bank) = open_books(settlement, [1000, 500])
        settlement([post(first, second, 30), batch(post(second, first, 10), [post(first, bank, 5)])])
        settlement([post(first, second, 1_000_000)])
        settlement([hold := HoldTransfer(id=new_id(), source_id=first, destination_id=second, amount=20)])
        settlement([new(ExtendHold, hold_id=hold.id, amount=25, expires_in_s=10**6)])
        settlement([new(ExtendHold, hold_id=hold.id, amount=22)])
        settlement(
            [
                new(ExtendHold, hold_id=hold.id, amount=22),
                new(ExtendHold, hold_id=hold.id, amount=22, expires_in_s=9**6),
            ]
        )
        settlement([capture := CaptureTransfer(id=new_id(), hold_id=hold.id, amount=5, final=False)])
        settlement([ReverseTransfer(id=new_id(), transfer_id=capture.id, amount=3)])
        settlement([new(LimitAccount, account_id=second, min_balance=-5, max_balance=10_000)])
        settlement([new(LimitAccount, account_id=second, min_balance=0, max_balance=9_000)])
        settlement([new(FreezeAccount, account_id=second), new(UnfreezeAccount, account_id=second)])


def test_sound_books_are_sound(database_url: str, settlement: Settlement) -> None:
    live(settlement)

    verdict = verify(database_url)

    assert verdict == Verdict(True, 14, 6, 2, verdict.commands, verdict.seconds, [])
    assert verdict.commands == 2 * (1 + 3 + 2 + 1 + 3 + 1 + 3 + 4 + 4)


def test_empty_books_are_sound(database_url: str) -> None:
    assert verify(database_url).sound


@pytest.mark.parametrize("kind", FAULTS)
def test_a_broken_row_is_found(kind: Kind, database_url: str, settlement: Settlement, tamper: Tamper) -> None:
    live(settlement)

    tamper(FAULTS[kind])

    verdict = verify(database_url)
    assert not verdict.sound
    assert kind in {fault.kind for fault in verdict.faults}


@pytest.mark.parametrize("ledger", [-1, 9999])
def test_an_account_of_no_ledger_is_found(
    ledger: int, database_url: str, settlement: Settlement, tamper: Tamper
) -> None:
    live(settlement)
    _, (account, _) = open_books(settlement, [0])

    tamper(f"UPDATE equipoise.accounts SET ledger = {ledger}, credits_posted = 1000000 WHERE id = '{account}'")

    faults = verify(database_url).faults
    assert [(fault.kind, fault.row) for fault in faults] == [(Kind.UNKNOWN_LEDGER, f"account {account}")]


def test_a_verdict_that_names_nothing_is_in_no_chain(database_url: str, settlement: Settlement) -> None:
    _, (account, bank) = open_books(settlement, [100])
    parts = [{"account_id": new_id(), "rest": True}]
    split = new(SplitTransfer, source_id=new_id(), destinations=parts, amount=5, metadata={"account_id": account})

    opened = new(OpenAccount, account_id=new_id(), ledger="nowhere", owner_id=account)
    settlement([held := hold(account, bank, 1)])

    told = settlement(
        [
            post(new_id(), new_id(), 1),
            *(new(VoidTransfer, hold_id=id) for id in (new_id(), account)),
            *(new(ReverseTransfer, transfer_id=id) for id in (held.id, account)),
            new(FreezeAccount, account_id=held.id),
            split,
            opened,
        ]
    )

    assert all(it["status"].endswith("not_found") for it in told)
    assert verify(database_url).faults == []


def test_a_hold_may_have_the_id_of_an_account(database_url: str, settlement: Settlement) -> None:
    _, (first, _, _) = open_books(settlement, [100, 100])
    settlement([new(FreezeAccount, account_id=first)])
    _, (third, fourth, _) = open_books(settlement, [100, 100])
    settlement([hold(third, fourth, 5, id=first), new(ExtendHold, hold_id=first, amount=9)])
    settlement([new(UnfreezeAccount, account_id=first)])

    assert verify(database_url).faults == []


def test_an_account_that_nobody_opened_is_found(database_url: str, settlement: Settlement, tamper: Tamper) -> None:
    live(settlement)

    tamper("INSERT INTO equipoise.accounts (id, ledger, created_at) VALUES (gen_random_uuid(), 1, now())")

    (fault,) = verify(database_url).faults
    assert fault.kind is Kind.COMMAND_MISSING


@pytest.mark.parametrize(("kind", "statement"), OTHER_FAULTS)
def test_a_row_broken_another_way_is_found(
    kind: Kind, statement: str, database_url: str, settlement: Settlement, tamper: Tamper
) -> None:
    live(settlement)

    tamper(statement)

    assert kind in {fault.kind for fault in verify(database_url).faults}


def test_an_account_at_its_limits_keeps_them(database_url: str, settlement: Settlement, tamper: Tamper) -> None:
    live(settlement)

    floor = f"{BALANCE} - debits_pending"
    tamper(f"UPDATE equipoise.accounts SET min_balance = {floor}, max_balance = {BALANCE} WHERE {FIRST_ACCOUNT}")

    assert Kind.LIMIT_BROKEN not in {fault.kind for fault in verify(database_url).faults}


def test_the_fault_names_the_row(database_url: str, settlement: Settlement, tamper: Tamper) -> None:
    live(settlement)
    _, (account, _) = open_books(settlement, [7])

    tamper(f"UPDATE equipoise.accounts SET version = 5 WHERE id = '{account}'")

    (fault,) = verify(database_url).faults
    assert (fault.kind, fault.row) == (Kind.ACCOUNT_VERSION, f"account {account}")
    assert "5" in fault.detail


def test_rows_that_were_moved_to_another_account_are_found(
    database_url: str, settlement: Settlement, tamper: Tamper
) -> None:
    """What each table alone would call sound: a transfer and both counters agree, the chain does not."""
    _, (first, second, _) = open_books(settlement, [100, 100])

    tamper(
        f"UPDATE equipoise.transfers SET destination_id = '{second}', destination_version = 2,"
        f" destination_balance = 200 WHERE destination_id = '{first}'"
    )

    assert not verify(database_url).sound


def test_the_progress_ends_at_the_whole(database_url: str, settlement: Settlement) -> None:
    live(settlement)
    seen: dict[str, tuple[int, int]] = {}

    verify(database_url, lambda what, proved, total: seen.update({what: (proved, total)}))

    assert list(seen) == ["transfers", "commands", "comparing tables"]
    assert seen["transfers"] == (14, 14)
    assert all(proved == total > 0 for proved, total in seen.values())


def test_memory_is_of_the_accounts_and_not_of_the_transfers(database_url: str, settlement: Settlement) -> None:
    _, (first, second, _) = open_books(settlement, [10**9, 10**9])
    peaks = []

    for count in (2_000, 18_000):
        for _ in range(count // 2_000):
            settlement([post(first, second, 1) for _ in range(2_000)])
        tracemalloc.start()
        assert verify(database_url).sound
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert peaks[1] < 1.2 * peaks[0]
