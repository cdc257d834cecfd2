"""Holds: what they reserve, how they end, and when; statuses in order, each row mending a fault of the one before."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from psycopg import Connection, errors

from models.commands import CaptureTransfer, CloseAccount, Command, ExtendHold, FreezeAccount, VoidTransfer
from tests.concurrency.threads import at_once, deliver, settlements
from tests.factories import batch, hold, new, new_id, open_books, post
from tests.ledger.looking import left_by_hold, one, reserved, statuses
from worker.engine.settle import Settlement

NOON = datetime(2100, 1, 1, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

Ending = Callable[[str], Command]


def capture(hold_id: str, amount: int | None = None, *, final: bool = True) -> CaptureTransfer:
    return new(CaptureTransfer, hold_id=hold_id, amount=amount, final=final)


def void(hold_id: str) -> VoidTransfer:
    return new(VoidTransfer, hold_id=hold_id)


def extend(hold_id: str, amount: int | None = None, expires_in_s: int | None = None) -> ExtendHold:
    return new(ExtendHold, hold_id=hold_id, amount=amount, expires_in_s=expires_in_s)


def at(settlement: Settlement, moment: datetime) -> Settlement:
    """A settlement whose clock stands still."""
    return Settlement(settlement.engine, clock=lambda _: moment)


# -- What a hold reserves ----------------------------------------------------------------------------------------------


def test_a_hold_gets_the_first_status_that_holds(settlement: Settlement) -> None:
    _, [account, frozen, closed, bank] = open_books(settlement, [10, 0, 0], max_balance=14)
    _, [abroad, _] = open_books(settlement, [0])
    settlement([new(FreezeAccount, account_id=frozen), new(CloseAccount, account_id=closed)])
    nobody = new_id()

    told = statuses(
        settlement,
        hold(nobody, nobody, 15),
        hold(nobody, new_id(), 15),
        hold(frozen, nobody, 15),
        hold(frozen, abroad, 15),
        hold(frozen, closed, 15),
        hold(account, closed, 15),
        hold(account, bank, 11),
        hold(bank, account, 5),
        hold(bank, account, 4),
        hold(account, bank, 10),
        hold(account, bank, 1, up_to=True),
    )

    assert told == [
        "accounts_must_differ", "source_not_found", "destination_not_found", "ledgers_must_match", "account_frozen",
        "account_closed", "insufficient_funds", "limit_exceeded", "applied", "applied", "insufficient_funds",
    ]  # fmt: skip


def test_a_hold_reserves_on_both_sides_and_moves_nothing(settlement: Settlement) -> None:
    _, [source, destination, _] = open_books(settlement, [10, 0])

    outcome = one(settlement, hold(source, destination, 4))

    assert list(outcome) == ["id", "type", "status", "decided_at", "amount", "hold", "balances"]
    assert outcome["hold"] == {"state": "pending", "remaining": 4, "expires_at": None}
    assert outcome["balances"] == {
        source: {"balance": 10, "available": 6, "version": 1},
        destination: {"balance": 0, "available": 0, "version": 0},
    }
    assert reserved(settlement, source) == (10, 4, 0)
    assert reserved(settlement, destination) == (0, 0, 4)


def test_what_is_reserved_is_kept_from_the_floor_and_from_the_ceiling(settlement: Settlement) -> None:
    _, [source, destination, bank] = open_books(settlement, [10, 0], max_balance=10)
    settlement([hold(source, destination, 6)])

    told = statuses(
        settlement,
        post(source, bank, 5),
        hold(source, bank, 5),
        post(bank, destination, 5),
        hold(bank, destination, 5),
        post(source, bank, 4),
        post(bank, destination, 4),
    )

    assert told == ["insufficient_funds"] * 2 + ["limit_exceeded"] * 2 + ["applied"] * 2


def test_what_will_come_cannot_be_spent(settlement: Settlement) -> None:
    _, [source, destination, bank] = open_books(settlement, [10, 0])
    settlement([hold(source, destination, 10)])

    assert statuses(settlement, post(destination, bank, 1)) == ["insufficient_funds"]


def test_a_hold_up_to_its_amount_reserves_what_is_available(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [10])
    settlement([hold(account, bank, 3)])

    outcome = one(settlement, hold(account, bank, 100, up_to=True))

    assert outcome["amount"] == 7
    assert outcome["hold"]["remaining"] == 7


# -- How it ends -------------------------------------------------------------------------------------------------------


def test_a_capture_moves_what_was_reserved_under_its_own_id(settlement: Settlement) -> None:
    _, [source, destination, _] = open_books(settlement, [10, 0])
    held = hold(source, destination, 4)
    command = capture(held.id)
    settlement([held])

    outcome = one(settlement, command)

    assert outcome["transfers"] == [{"id": command.id, "source_id": source, "destination_id": destination, "amount": 4}]
    assert list(outcome)[-3:] == ["transfers", "hold", "balances"]
    assert outcome["hold"] == {"state": "captured", "remaining": 0, "expires_at": None}
    assert reserved(settlement, source) == (6, 0, 0)
    assert reserved(settlement, destination) == (4, 0, 0)


def test_captures_in_parts_leave_the_rest_reserved_until_the_last(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [10])
    held = hold(account, bank, 10)
    settlement([held])

    told = [one(settlement, capture(held.id, amount, final=False))["hold"] for amount in (3, 3, 4)]

    assert [(it["state"], it["remaining"]) for it in told] == [("pending", 7), ("pending", 4), ("captured", 0)]
    assert left_by_hold(settlement, held.id) == ("captured", 10, 10, 0)


def test_a_final_capture_of_a_part_releases_the_rest(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [10])
    held = hold(account, bank, 10)
    settlement([held, capture(held.id, 3)])

    assert left_by_hold(settlement, held.id) == ("captured", 10, 3, 0)
    assert reserved(settlement, account) == (7, 0, 0)


def test_a_void_after_a_part_was_captured_releases_the_rest_and_keeps_the_part(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [10])
    held = hold(account, bank, 10)
    settlement([held, capture(held.id, 3, final=False)])

    outcome = one(settlement, void(held.id))

    assert outcome["hold"] == {"state": "voided", "remaining": 0, "expires_at": None}
    assert left_by_hold(settlement, held.id) == ("voided", 10, 3, 0)
    assert reserved(settlement, account) == (7, 0, 0)
    assert reserved(settlement, bank) == (-7, 0, 0)


def test_a_capture_and_a_void_check_no_limits_again(settlement: Settlement) -> None:
    _, [account, full, bank] = open_books(settlement, [10, 0], max_balance=10)
    held = hold(account, full, 10)
    settlement([held])

    assert statuses(settlement, post(bank, full, 1), post(account, bank, 1)) == ["limit_exceeded", "insufficient_funds"]
    assert statuses(settlement, capture(held.id)) == ["applied"]
    assert reserved(settlement, full) == (10, 0, 0)


def test_a_capture_gets_the_first_status_that_holds(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [100])
    moved = post(account, bank, 1)
    captured, voided, expired, pending = (
        hold(account, bank, 10, **fields) for fields in ({}, {}, {"expires_in_s": 60}, {})
    )
    before, after = at(settlement, NOON), at(settlement, NOON + timedelta(seconds=60))
    before([moved, captured, voided, expired, pending, capture(captured.id), void(voided.id)])

    told = statuses(
        after,
        capture(new_id(), 11),
        capture(moved.id, 11),
        *(capture(it.id, 11) for it in (captured, voided, expired, pending)),
        *(capture(it.id, 10) for it in (captured, voided, expired)),
        new(FreezeAccount, account_id=account),
        *(capture(it.id, 10) for it in (captured, voided, expired, pending)),
    )

    assert told == [
        "hold_not_found", "not_a_hold", *["exceeds_hold"] * 4, "already_captured", "already_voided", "hold_expired",
        "applied", "already_captured", "already_voided", "hold_expired", "account_frozen",
    ]  # fmt: skip


def test_a_void_gets_the_first_status_that_holds(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [100])
    moved = post(account, bank, 1)
    captured, voided, expired, pending = (
        hold(account, bank, 10, **fields) for fields in ({}, {}, {"expires_in_s": 60}, {})
    )
    before, after = at(settlement, NOON), at(settlement, NOON + timedelta(seconds=60))
    before([moved, captured, voided, expired, pending, capture(captured.id), void(voided.id)])
    before([new(FreezeAccount, account_id=account)])

    told = statuses(after, *(void(it) for it in (new_id(), moved.id, captured.id, voided.id, expired.id, pending.id)))

    assert told == ["hold_not_found", "not_a_hold", "already_captured", "already_voided", "hold_expired", "applied"]


def test_captures_of_a_part_count_against_what_remains(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [10])
    held = hold(account, bank, 10)
    settlement([held])

    told = statuses(
        settlement, capture(held.id, 6, final=False), capture(held.id, 5), capture(held.id, 4), capture(held.id, 4)
    )

    assert told == ["applied", "exceeds_hold", "applied", "already_captured"]


# -- When it ends ------------------------------------------------------------------------------------------------------

ENDINGS = pytest.mark.parametrize(
    "ending", [capture, void, lambda id: extend(id, expires_in_s=60)], ids=["capture", "void", "extension"]
)


@ENDINGS
def test_a_microsecond_before_its_deadline_a_hold_has_not_expired(settlement: Settlement, ending: Ending) -> None:
    _, [account, bank] = open_books(settlement, [10])
    held = hold(account, bank, 10, expires_in_s=60)

    outcome = one(at(settlement, NOON), held)

    assert outcome["hold"]["expires_at"] == "2100-01-01T12:01:00.000000Z"
    assert statuses(at(settlement, NOON + timedelta(seconds=60) - MICROSECOND), ending(held.id)) == ["applied"]


@ENDINGS
def test_at_its_deadline_a_hold_has_expired(settlement: Settlement, ending: Ending) -> None:
    _, [account, bank] = open_books(settlement, [10])
    held = hold(account, bank, 10, expires_in_s=60)
    settlement = at(settlement, NOON)
    settlement([held])

    assert statuses(at(settlement, NOON + timedelta(seconds=60)), ending(held.id)) == ["hold_expired"]
    assert left_by_hold(settlement, held.id) == ("expired", 10, 0, 0)
    assert reserved(settlement, account) == (10, 0, 0)
    assert reserved(settlement, bank) == (-10, 0, 0)


def test_a_hold_may_name_its_deadline(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [10])
    held = hold(account, bank, 10, expires_at=NOON)
    late, twofold = hold(account, bank, 1, expires_at=NOON), hold(account, account, 1, expires_at=NOON, expires_in_s=1)

    told = one(at(settlement, NOON - MICROSECOND), held)

    assert told["hold"]["expires_at"] == "2100-01-01T12:00:00.000000Z"
    assert statuses(at(settlement, NOON - MICROSECOND), twofold, capture(held.id, 1, final=False)) == [
        "invalid",
        "applied",
    ]
    assert statuses(at(settlement, NOON), late, held, capture(held.id)) == ["hold_expired", "applied", "hold_expired"]
    assert reserved(settlement, account) == (9, 0, 0)


def test_a_deadline_that_has_come_is_told_before_what_the_accounts_hold(settlement: Settlement) -> None:
    _, [account, frozen, bank] = open_books(settlement, [10, 0])
    _, [abroad, _] = open_books(settlement, [0])
    settlement([new(FreezeAccount, account_id=frozen)])

    told = statuses(at(settlement, NOON), *(hold(account, to, 11, expires_at=NOON) for to in (abroad, frozen, bank)))

    assert told == ["ledgers_must_match", "hold_expired", "hold_expired"]


@pytest.mark.parametrize("late", [timedelta(), timedelta(days=9)], ids=["at the deadline", "days later"])
def test_what_an_overdue_hold_reserved_can_be_spent(settlement: Settlement, late: timedelta) -> None:
    _, [account, full, bank] = open_books(settlement, [10, 0], max_balance=10)
    at(settlement, NOON)([hold(account, full, 10, expires_in_s=60)])

    early = at(settlement, NOON + timedelta(seconds=60) - MICROSECOND)
    assert statuses(early, post(account, bank, 1), post(bank, full, 1)) == ["insufficient_funds", "limit_exceeded"]
    then = at(settlement, NOON + timedelta(seconds=60) + late)
    assert statuses(then, post(account, bank, 10), post(bank, full, 10)) == ["applied", "applied"]


def test_a_hold_of_which_a_part_was_captured_expires_with_the_rest(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [10])
    held = hold(account, bank, 10, expires_in_s=60)
    at(settlement, NOON)([held, capture(held.id, 3, final=False)])

    told = statuses(at(settlement, NOON + timedelta(seconds=60)), capture(held.id), post(account, bank, 7))

    assert told == ["hold_expired", "applied"]
    assert left_by_hold(settlement, held.id) == ("expired", 10, 3, 0)


def test_an_account_is_closed_when_its_last_hold_is_overdue(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [10])
    at(settlement, NOON)([hold(account, bank, 10, expires_in_s=60)])
    command = new(CloseAccount, account_id=account, remainder_to=bank)

    assert statuses(at(settlement, NOON + timedelta(seconds=60)), command) == ["applied"]


def test_an_outcome_of_a_hold_is_final_though_the_hold_expires(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [10])
    held = hold(account, bank, 10, expires_in_s=60)

    first = one(at(settlement, NOON), held)

    assert one(at(settlement, NOON + timedelta(days=1)), held) == first
    assert first["hold"]["state"] == "pending"


# -- Extensions --------------------------------------------------------------------------------------------------------


def test_an_extension_gets_the_first_status_that_holds(settlement: Settlement) -> None:
    _, [account, full, bank] = open_books(settlement, [100, 0], max_balance=100)
    moved = post(account, bank, 1)
    captured, voided, expired, pending, to_full = (
        hold(account, to, 10, **fields)
        for to, fields in ((bank, {}), (bank, {}), (bank, {"expires_in_s": 60}), (bank, {}), (full, {}))
    )
    before, after = at(settlement, NOON), at(settlement, NOON + timedelta(seconds=60))
    before([moved, captured, voided, expired, pending, to_full, capture(captured.id), void(voided.id)])
    before([post(bank, full, 85)])
    # Of 100 were moved 11, and 20 are reserved: 69 are available.

    told = statuses(
        after,
        extend(new_id()),
        *(extend(it, 80) for it in (new_id(), moved.id, captured.id, voided.id, expired.id)),
        extend(pending.id, 80),
        extend(to_full.id, 16),
        extend(to_full.id, 15),
        extend(pending.id, 74),
        new(FreezeAccount, account_id=account),
        extend(pending.id, 1_000),
        extend(pending.id, 1),
    )

    assert told == [
        "invalid", "hold_not_found", "not_a_hold", "already_captured", "already_voided", "hold_expired",
        "insufficient_funds", "limit_exceeded", "applied", "applied", "applied", "account_frozen", "account_frozen",
    ]  # fmt: skip


def test_an_extension_upwards_reserves_the_difference(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [10])
    held = hold(account, bank, 6)
    settlement([held])

    assert statuses(settlement, extend(held.id, 11), extend(held.id, 10)) == ["insufficient_funds", "applied"]
    assert reserved(settlement, account) == (10, 10, 0)
    assert reserved(settlement, bank) == (-10, 0, 10)
    assert statuses(settlement, capture(held.id, 10)) == ["applied"]


def test_an_extension_downwards_releases_the_difference(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [10])
    held = hold(account, bank, 10)
    settlement([held])

    assert statuses(settlement, extend(held.id, 4), post(account, bank, 7), post(account, bank, 6)) == [
        "applied", "insufficient_funds", "applied",
    ]  # fmt: skip
    assert statuses(settlement, capture(held.id, 5), capture(held.id, 4)) == ["exceeds_hold", "applied"]


def test_an_extension_is_in_place_of_what_remains_not_of_all(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [10])
    held = hold(account, bank, 10)
    settlement([held, capture(held.id, 7, final=False)])

    outcome = one(settlement, extend(held.id, 2))

    assert outcome["hold"]["remaining"] == 2
    assert reserved(settlement, account) == (3, 2, 0)


def test_a_hold_that_was_reduced_still_ever_reserved_what_it_did(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [10])
    held = hold(account, bank, 10)
    settlement([held, extend(held.id, 4), void(held.id)])

    assert statuses(settlement, capture(held.id, 11), capture(held.id, 10)) == ["exceeds_hold", "already_voided"]


def test_a_new_deadline_counts_from_the_extension(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [10])
    held, lasting = hold(account, bank, 5, expires_in_s=60), hold(account, bank, 5)
    at(settlement, NOON)([held, lasting])
    later = at(settlement, NOON + timedelta(seconds=59))

    told = [it["hold"]["expires_at"] for it in later([extend(it.id, expires_in_s=2) for it in (held, lasting)])]

    assert told == ["2100-01-01T12:01:01.000000Z"] * 2
    ends = NOON + timedelta(seconds=61)
    assert statuses(at(settlement, ends - MICROSECOND), capture(held.id, 1, final=False)) == ["applied"]
    assert statuses(at(settlement, ends), capture(held.id), void(lasting.id)) == ["hold_expired"] * 2


def test_an_extension_may_bring_the_deadline_forward(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [10])
    held = hold(account, bank, 5, expires_in_s=3_600)
    at(settlement, NOON)([held, extend(held.id, expires_in_s=1)])

    assert statuses(at(settlement, NOON + timedelta(seconds=1)), capture(held.id)) == ["hold_expired"]


def test_an_extension_of_the_amount_leaves_the_deadline(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [10])
    held = hold(account, bank, 5, expires_in_s=60)
    at(settlement, NOON)([held])

    outcome = one(at(settlement, NOON + timedelta(seconds=30)), extend(held.id, 6))

    assert outcome["hold"] == {"state": "pending", "remaining": 6, "expires_at": "2100-01-01T12:01:00.000000Z"}


# -- Many --------------------------------------------------------------------------------------------------------------

LOCKS = pytest.mark.parametrize("lock", [True, False], ids=["locked", "unlocked"])


@LOCKS
def test_of_50_holds_at_once_as_many_apply_as_the_balance_bears(
    settlement: Settlement, database_url: str, lock: bool
) -> None:
    _, [account, bank] = open_books(settlement, [1_000])
    with settlements(database_url, 50, lock=lock) as workers:
        told = at_once(*(lambda worker=worker: deliver(worker, [hold(account, bank, 100)]) for worker in workers))

    assert sorted(outcome["status"] for [outcome] in told) == ["applied"] * 10 + ["insufficient_funds"] * 40
    assert reserved(settlement, account) == (1_000, 1_000, 0)
    assert reserved(settlement, bank) == (-1_000, 0, 1_000)


@LOCKS
def test_of_20_captures_and_voids_at_once_one_ends_the_hold(
    settlement: Settlement, database_url: str, lock: bool
) -> None:
    _, [account, bank] = open_books(settlement, [10])
    held = hold(account, bank, 10)
    settlement([held])
    commands: list[Command] = [capture(held.id) if place % 2 else void(held.id) for place in range(20)]
    with settlements(database_url, 20, lock=lock) as workers:
        told = at_once(
            *(
                lambda worker=worker, command=command: deliver(worker, [command])
                for worker, command in zip(workers, commands, strict=True)
            )
        )

    [winner] = [outcome["type"] for [outcome] in told if outcome["status"] == "applied"]
    moved = 10 if winner == "transfers.capture" else 0
    ended = "already_captured" if moved else "already_voided"
    assert sorted(outcome["status"] for [outcome] in told) == sorted([ended] * 19 + ["applied"])
    assert reserved(settlement, account) == (10 - moved, 0, 0)


@pytest.mark.parametrize("end", [capture, void])
def test_a_whole_chain_of_holds_ends_as_one_chain(settlement: Settlement, end: Ending) -> None:
    _, [one_account, other, bank] = open_books(settlement, [10, 10])
    holds = [hold(one_account, other, 10), hold(other, bank, 10), hold(bank, one_account, 10)]
    ends = [end(held.id) for held in holds]

    [first, second] = settlement([batch(holds), batch(ends)])

    assert {it["status"] for it in first["outcomes"][0] + second["outcomes"][0]} == {"applied"}
    assert [reserved(settlement, it) for it in (one_account, other, bank)] == [(10, 0, 0), (10, 0, 0), (-20, 0, 0)]


def test_a_chain_of_captures_of_which_one_is_refused_captures_nothing(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [30])
    holds = [hold(account, bank, 10) for _ in range(3)]
    settlement([batch(holds), void(holds[1].id)])

    [outcome] = settlement([batch([capture(held.id) for held in holds])])

    assert [it["status"] for it in outcome["outcomes"][0]] == ["chain_failed", "already_voided", "chain_failed"]
    assert reserved(settlement, account) == (30, 20, 0)
    assert left_by_hold(settlement, holds[0].id) == ("pending", 10, 0, 10)


def test_a_hold_can_be_made_and_captured_in_one_chain(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [10])
    held = hold(account, bank, 10)

    [outcome] = settlement([batch([held, capture(held.id, 4, final=False), extend(held.id, 2), capture(held.id)])])

    assert [it["status"] for it in outcome["outcomes"][0]] == ["applied"] * 4
    assert reserved(settlement, account) == (4, 0, 0)


# -- The database by itself --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "state = 'pending', remaining = 10, ended_at = NULL",
        "state = 'captured', captured = 10",
        "ended_at = ended_at + interval '1 day'",
        "amount = 11",
    ],
)
def test_the_database_lets_no_hold_turn_back(settlement: Settlement, worker: Connection, change: str) -> None:
    _, [account, bank] = open_books(settlement, [10])
    held = hold(account, bank, 10)
    settlement([held, void(held.id)])

    with pytest.raises(errors.IntegrityConstraintViolation, match="cannot change so"):
        worker.execute(f"UPDATE equipoise.holds SET {change} WHERE id = %s", [held.id])


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ("captured = 2", "cannot change so"),
        ("remaining = 8", "within_amount"),
        ("state = 'voided'", "reserves_while_pending|ended_unless_pending"),
        ("state = 'expired', remaining = 0, ended_at = now()", "expires_to_expire"),
        ("remaining = 0", "reserves_while_pending"),
    ],
)
def test_the_database_keeps_a_pending_hold_whole(
    settlement: Settlement, worker: Connection, change: str, refusal: str
) -> None:
    _, [account, bank] = open_books(settlement, [10])
    held = hold(account, bank, 10, expires_in_s=3_600)
    settlement([held, capture(held.id, 3, final=False)])

    with pytest.raises(errors.IntegrityError, match=refusal):
        worker.execute(f"UPDATE equipoise.holds SET {change} WHERE id = %s", [held.id])


@pytest.mark.parametrize("statement", ["DELETE FROM equipoise.holds", "UPDATE equipoise.holds SET source_id = id"])
def test_a_worker_may_not_make_a_hold_another_or_none(
    settlement: Settlement, worker: Connection, statement: str
) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        worker.execute(statement)
