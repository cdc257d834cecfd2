"""What nobody can handle, kept with its reason: a whole message, or one malformed member of a batch."""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a message became a dead letter."""

    MALFORMED = "malformed"
    REVOKED = "revoked"
    EXPIRED = "expired"
    UNFORESEEN = "unforeseen"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message, or a batch's member, that was taken off the queue without being decided.

    `id` is derived from the bytes that were read, so that a redelivery finds its first row. `body` holds
    those bytes unchanged. `command_id` is there where the sender's id could be read.
    """

    id: str
    reason: Reason
    detail: str
    task: str
    task_id: str
    queue: str
    body: bytes
    command_id: str | None = None
