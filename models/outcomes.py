"""Outcomes: the verdict on a command, as the JSON object that its sender gets, for ever the same bytes.

An outcome is a plain dict whose keys stand in the contract's order; `encode` is the one way it becomes
bytes. Whether an outcome was just decided or is rebuilt from its rows, it is made by the same functions
here, which is why a redelivery cannot tell the difference.
"""

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


class Outcome(TypedDict, total=False):
    """The verdict; which optional fields are there depends on type and status."""

    id: str
    type: str
    status: str
    decided_at: str
    sequence: int
    amount: int
    transfers: list[dict[str, Any]]
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


def transferred(id: str, type: str, decided_at: str, moved: Moved) -> Outcome:
    """Tell of one applied transfer."""
    return {
        "id": id,
        "type": type,
        "status": Status.APPLIED.value,
        "decided_at": decided_at,
        "sequence": moved.sequence,
        "amount": moved.amount,
        "transfers": [
            {
                "id": moved.id,
                "source_id": moved.source_id,
                "destination_id": moved.destination_id,
                "amount": moved.amount,
            }
        ],
        "balances": {moved.source_id: moved.source, moved.destination_id: moved.destination},
    }


def decided(id: str, type: str, status: str, decided_at: str, answer: dict[str, Any] | None = None) -> Outcome:
    """Tell of a refusal, or of a change whose whole answer is `answer` (fields in the contract's order)."""
    outcome: Outcome = {"id": id, "type": type, "status": status, "decided_at": decided_at}
    if answer:
        outcome.update(answer)  # type: ignore[typeddict-item]
    return outcome


def id_reused(command: Command | Batch, field: str, first_decided_at: str) -> Outcome:
    """Tell that the id was used for other content; `field` is the first that differs."""
    return decided(command.id, command.type, Status.ID_REUSED.value, first_decided_at, {"detail": field})


def malformed(letter: DeadLetter) -> Outcome:
    """Tell what stands in a batch where a malformed member stood."""
    outcome: Outcome = {"id": letter.command_id} if letter.command_id else {}
    outcome["status"] = Status.MALFORMED.value
    outcome["detail"] = letter.detail
    return outcome
