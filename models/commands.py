"""Commands as they travel: one frozen model a type, validated strictly, field by field.

A command asks for one change and carries the id that its sender chose. What a model accepts is exactly
the wire contract; whether the change can be made is decided later, by `rules`. The order of a model's
fields is the order in which `id_reused` compares them.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from models import contract
from models.dead_letters import DeadLetter

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_ID = re.compile(contract.ID_PATTERN)


def is_id(text: str) -> bool:
    """Whether a text is an id as the contract spells one; anything else cannot be anybody's."""
    return _ID.fullmatch(text) is not None


def _from_rfc_3339(value: object) -> object:
    """Read a timestamp from its text; numbers and other types are left for pydantic to refuse."""
    if not isinstance(value, str):
        return value
    if not _RFC_3339.fullmatch(value):
        raise ValueError("not a timestamp with a time zone, such as 2026-11-23T12:00:00Z")
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"no such moment: {error}") from error


Id = Annotated[str, StringConstraints(pattern=contract.ID_PATTERN)]
LedgerName = Annotated[str, StringConstraints(pattern=contract.LEDGER_PATTERN)]
Amount = Annotated[int, Field(ge=1, le=contract.MAX_AMOUNT)]
Limit = Annotated[int, Field(ge=-contract.MAX_COUNTER, le=contract.MAX_COUNTER)]
Kind = Annotated[str, StringConstraints(min_length=1, max_length=contract.MAX_KIND_CHARACTERS)]
Metadata = dict[str, Any]
Timestamp = Annotated[AwareDatetime, BeforeValidator(_from_rfc_3339)]


class Command(BaseModel):
    """What every command has: an id of the sender's choice, and a type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    type: str
    id: Id

    @classmethod
    def type_name(cls) -> str:
        """Give the type's name on the wire, which is also that of its Celery task: the default of `type`."""
        name: str = cls.model_fields["type"].default
        return name

    def accounts(self) -> tuple[str, ...]:
        """Name the accounts that deciding needs; which ledger a group works on follows from them."""
        return ()

    def ledgers(self) -> tuple[str, ...]:
        """Name the ledgers that the command itself names."""
        return ()


class OpenLedger(Command):
    """Open a book of accounts that share one currency and scale."""

    type: Literal["ledgers.open"] = "ledgers.open"
    ledger: LedgerName
    currency: Annotated[str, StringConstraints(pattern=contract.CURRENCY_PATTERN)]
    scale: Annotated[int, Field(ge=0, le=contract.MAX_SCALE)]

    def ledgers(self) -> tuple[str, ...]:
        """Name the ledger to open."""
        return (self.ledger,)


class OpenAccount(Command):
    """Open an account in a ledger, with the limits of its balance (null: none)."""

    type: Literal["accounts.open"] = "accounts.open"
    account_id: Id
    ledger: LedgerName
    min_balance: Limit | None = 0
    max_balance: Limit | None = None
    owner_id: Id | None = None
    metadata: Metadata | None = None

    def accounts(self) -> tuple[str, ...]:
        """Name the account to open, which may be there already."""
        return (self.account_id,)

    def ledgers(self) -> tuple[str, ...]:
        """Name the ledger that the account joins."""
        return (self.ledger,)


class PostTransfer(Command):
    """Move money from a source to a destination; with `up_to`, what is available, at most `amount`."""

    type: Literal["transfers.post"] = "transfers.post"
    source_id: Id
    destination_id: Id
    amount: Amount
    up_to: bool = False
    kind: Kind | None = None
    effective_at: Timestamp | None = None
    metadata: Metadata | None = None

    def accounts(self) -> tuple[str, ...]:
        """Name both sides."""
        return (self.source_id, self.destination_id)


Member: TypeAlias = Command | DeadLetter
"""One place in a batch: a command, or what stands where a malformed one stood."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Several commands in one message and one transaction; a tuple among them is a chain.

    `members` are all of them in decision order, those of chains in their place. `commands_digest` is the
    SHA-256 of the canonical `commands`, hexadecimal: what `id_reused` compares. `digest_with` gives what it would be if
    the members at some places (`3`, or `3.1` in a chain) were malformed: they were, to a release that knew less.
    """

    id: str
    commands: tuple["Member | tuple[Member, ...]", ...]
    members: tuple[Member, ...]
    commands_digest: str
    digest_with: Callable[[Collection[str]], str] = field(repr=False, compare=False)
    type: Literal["batch"] = "batch"


COMMANDS: dict[str, type[Command]] = {model.type_name(): model for model in (OpenLedger, OpenAccount, PostTransfer)}
"""The command types by wire name. A team's own types join here (`register`)."""


def register(model: type[Command]) -> type[Command]:
    """Add a command type; usable as a class decorator. Raises ValueError where the name is taken."""
    holder = COMMANDS.setdefault(model.type_name(), model)
    if holder is not model:
        raise ValueError(f"the command type {model.type_name()!r} is taken by {holder.__name__}")
    return model
