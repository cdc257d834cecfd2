"""Outcomes: the verdict on a command, as the JSON object that its sender gets, for ever the same bytes.

An outcome is a plain dict whose keys stand in the contract's order; `encode` is the one way it becomes
bytes. Whether an outcome was just decided or is rebuilt from its rows, it is made by the same functions
here, which is why a redelivery cannot tell the difference.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypedDict

import orjson

from models.commands import Batch, Command
from models.dead_letters import DeadLetter
from models.statuses import Status


class Balance(TypedDict):
    """An account's balance after a command, in minor units; `available` is what no hold reserves."""

    balance: int
    available: int
    version: int


class HoldState(TypedDict):
    """What a hold is after a command, how much it still reserves, and until when (None: for ever)."""

    state: str
    remaining: int
    expires_at: str | None


class Outcome(TypedDict, total=False):
    """The verdict; which optional fields are there depends on type and status."""

    id: str
    type: str
    status: str
    decided_at: str
    sequence: int
    amount: int
    transfers: list[dict[str, Any]]
    hold: HoldState
    balances: dict[str, Balance]
    outcomes: list[Any]
    detail: str


class Moved(NamedTuple):
    """What one transfer did: all that its outcome tells, and all that its row stores of it."""

    id: str
    sequence: int
    source_id: str
    destination_id: str
    amount: int
    source: Balance
    destination: Balance


def encode(outcome: Outcome) -> bytes:
    """Give the outcome's bytes: compact JSON in the contract's order of fields."""
    return orjson.dumps(outcome)


def timestamp(moment: datetime) -> str:
    """Write a moment as RFC 3339 in UTC with six decimals, whatever they are."""
    # Not strftime, whose %Y leaves out a year's leading zeros.
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def moment(timestamp: str) -> datetime:
    """Read what `timestamp` has written."""
    return datetime.fromisoformat(timestamp)


def said(**fields: Any) -> dict[str, Any]:
    """Leave out what was not said: what is None has no key in what programs read."""
    return {name: value for name, value in fields.items() if value is not None}


def transferred(id: str, type: str, decided_at: str, moved: Moved, hold: HoldState | None = None) -> Outcome:
    """Tell of one applied transfer, and of the hold that it has captured."""
    outcome: Outcome = {
        "id": id,
        "type": type,
        "status": Status.APPLIED.value,
        "decided_at": decided_at,
        "sequence": moved.sequence,
        "amount": moved.amount,
        "transfers": [_transfer(moved)],
    }
    if hold is not None:
        outcome["hold"] = hold
    outcome["balances"] = {moved.source_id: moved.source, moved.destination_id: moved.destination}
    return outcome


def transferred_all(id: str, type: str, decided_at: str, moved: Sequence[Moved], amount: int | None) -> Outcome:
    """Tell of several applied transfers of one command; `amount` is all of them together, if they share a currency."""
    balances: dict[str, Balance] = {}
    for one in moved:
        balances |= {one.source_id: one.source, one.destination_id: one.destination}
    whole: dict[str, Any] = {} if amount is None else {"amount": amount}
    transfers = {"transfers": [_transfer(one) for one in moved], "balances": balances}
    return decided(id, type, Status.APPLIED.value, decided_at, whole | transfers)


def _transfer(moved: Moved) -> dict[str, Any]:
    return {
        "id": moved.id,
        "source_id": moved.source_id,
        "destination_id": moved.destination_id,
        "amount": moved.amount,
    }


def decided(id: str, type: str, status: str, decided_at: str, answer: dict[str, Any] | None = None) -> Outcome:
    """Tell of a refusal, or of a change whose whole answer is `answer` (fields in the contract's order)."""
    outcome: Outcome = {"id": id, "type": type, "status": status, "decided_at": decided_at}
    if answer:
        outcome.update(answer)  # type: ignore[typeddict-item]
    return outcome


def refused(command: Command, status: Status, decided_at: str) -> Outcome:
    """Tell of a refusal."""
    return decided(command.id, command.type, status.value, decided_at)


def id_reused(command: Command | Batch, field: str, first_decided_at: str) -> Outcome:
    """Tell that the id was used for other content; `field` is the first that differs."""
    return decided(command.id, command.type, Status.ID_REUSED.value, first_decided_at, {"detail": field})


def malformed(letter: DeadLetter) -> Outcome:
    """Tell what stands in a batch where a malformed member stood."""
    outcome: Outcome = {"id": letter.command_id} if letter.command_id else {}
    outcome["status"] = Status.MALFORMED.value
    outcome["detail"] = letter.detail
    return outcome
