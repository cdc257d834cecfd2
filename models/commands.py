"""Commands as they travel: one frozen model a type, validated strictly, field by field.

A command asks for one change and carries the id that its sender chose. What a model accepts is exactly
the wire contract; whether the change can be made is decided later, by `rules`. The order of a model's
fields is the order in which `id_reused` compares them.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field

from models.dead_letters import DeadLetter
from models.fields import Amount, Currency, Id, Kind, LedgerName, Limit, Metadata, Scale, Seconds, Share, Timestamp


class Command(BaseModel):
    """What every command has: an id of the sender's choice, and a type. `dry_run`: tell the outcome, store nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    type: str
    id: Id
    dry_run: bool = False

    @classmethod
    def type_name(cls) -> str:
        """Give the type's name on the wire, which is also that of its Celery task: the default of `type`."""
        name: str = cls.model_fields["type"].default
        return name

    # What deciding needs, by kind and id; which ledger a group works on follows from it.

    def ledgers(self) -> tuple[str, ...]:
        """Name the ledgers that the command itself names."""
        return ()

    def accounts(self) -> tuple[str, ...]:
        """Name the accounts, those included that may not be there."""
        return ()

    def holds(self) -> tuple[str, ...]:
        """Name the holds."""
        return ()

    def transfers(self) -> tuple[str, ...]:
        """Name the transfers that were made before."""
        return ()

    def makes(self) -> tuple[str, ...]:
        """Name the transfers that it may make under ids that are not its own: another command may have made them."""
        return ()

    def _legs(self, count: int) -> tuple[str, ...]:
        return tuple(leg_id(self.id, place) for place in range(1, count + 1))


def leg_id(command_id: str, place: int) -> str:
    """Give the id of a command's transfer at a place, counted from 1: the UUIDv5 of the place in the command's id."""
    return str(uuid5(UUID(command_id), str(place)))


# -- Ledgers and accounts ----------------------------------------------------------------------------------------------


class OpenLedger(Command):
    """Open a book of accounts that share one currency and scale."""

    type: Literal["ledgers.open"] = "ledgers.open"
    ledger: LedgerName
    currency: Currency
    scale: Scale

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

    def ledgers(self) -> tuple[str, ...]:
        """Name the ledger that the account joins."""
        return (self.ledger,)

    def accounts(self) -> tuple[str, ...]:
        """Name the account to open, which may be there already."""
        return (self.account_id,)


class _OfAccount(Command):
    account_id: Id

    def accounts(self) -> tuple[str, ...]:
        """Name the account."""
        return (self.account_id,)


class LimitAccount(_OfAccount):
    """Give an account other limits, both of them (null: none)."""

    type: Literal["accounts.limit"] = "accounts.limit"
    min_balance: Limit | None
    max_balance: Limit | None


class FreezeAccount(_OfAccount):
    """Let an account take no new transfers, holds or captures."""

    type: Literal["accounts.freeze"] = "accounts.freeze"


class UnfreezeAccount(_OfAccount):
    """Let a frozen account take them again."""

    type: Literal["accounts.unfreeze"] = "accounts.unfreeze"


class CloseAccount(_OfAccount):
    """Close an account for ever; what it holds, or owes, goes to `remainder_to`."""

    type: Literal["accounts.close"] = "accounts.close"
    remainder_to: Id | None = None

    def accounts(self) -> tuple[str, ...]:
        """Name the account, and the one that its balance goes to."""
        return (self.account_id,) if self.remainder_to is None else (self.account_id, self.remainder_to)


# -- Transfers ---------------------------------------------------------------------------------------------------------


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


class Part(BaseModel):
    """One account's part of a split: so much, such a share of the whole, or the rest. Exactly one of the three."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    account_id: Id
    amount: Amount | None = None
    share: Share | None = None
    rest: bool = False


Parts = Annotated[list[Part], Field(min_length=1)]
"""As many as fit into a command's 16 KiB, about 200."""


class SplitTransfer(Command):
    """Move `amount` from one source to many destinations, or from many sources to one destination."""

    type: Literal["transfers.split"] = "transfers.split"
    source_id: Id | None = None
    destinations: Parts | None = None
    sources: Parts | None = None
    destination_id: Id | None = None
    amount: Amount
    kind: Kind | None = None
    effective_at: Timestamp | None = None
    metadata: Metadata | None = None

    def accounts(self) -> tuple[str, ...]:
        """Name all sides."""
        one = [id for id in (self.source_id, self.destination_id) if id is not None]
        return (*one, *(part.account_id for part in (self.sources or []) + (self.destinations or [])))

    def makes(self) -> tuple[str, ...]:
        """Name one for each part."""
        return self._legs(len(self.sources or []) + len(self.destinations or []))


class ExchangeTransfer(Command):
    """Give up an amount in one ledger and get another in a second one, through a liquidity account in each."""

    type: Literal["transfers.exchange"] = "transfers.exchange"
    source_id: Id
    source_liquidity_id: Id
    source_amount: Amount
    destination_liquidity_id: Id
    destination_id: Id
    destination_amount: Amount
    kind: Kind | None = None
    effective_at: Timestamp | None = None
    metadata: Metadata | None = None

    def accounts(self) -> tuple[str, ...]:
        """Name both sides in both ledgers."""
        return (self.source_id, self.source_liquidity_id, self.destination_liquidity_id, self.destination_id)

    def makes(self) -> tuple[str, ...]:
        """Name both."""
        return self._legs(2)


class ReverseTransfer(Command):
    """Move a transfer's money back, all that is left of it, or `amount`."""

    type: Literal["transfers.reverse"] = "transfers.reverse"
    transfer_id: Id
    amount: Amount | None = None
    effective_at: Timestamp | None = None

    def transfers(self) -> tuple[str, ...]:
        """Name the original."""
        return (self.transfer_id,)


# -- Holds -------------------------------------------------------------------------------------------------------------


class HoldTransfer(Command):
    """Reserve money for a transfer that may come later, until `expires_at` or for `expires_in_s`; neither: for ever."""

    type: Literal["transfers.hold"] = "transfers.hold"
    source_id: Id
    destination_id: Id
    amount: Amount
    up_to: bool = False
    kind: Kind | None = None
    effective_at: Timestamp | None = None
    metadata: Metadata | None = None
    expires_in_s: Seconds | None = None
    expires_at: Timestamp | None = None

    def accounts(self) -> tuple[str, ...]:
        """Name both sides."""
        return (self.source_id, self.destination_id)


class _OfHold(Command):
    hold_id: Id

    def holds(self) -> tuple[str, ...]:
        """Name the hold."""
        return (self.hold_id,)


class CaptureTransfer(_OfHold):
    """Move what a hold reserves, or `amount` of it; the remainder is released unless the capture is not `final`."""

    type: Literal["transfers.capture"] = "transfers.capture"
    amount: Amount | None = None
    final: bool = True


class VoidTransfer(_OfHold):
    """Release what a hold reserves."""

    type: Literal["transfers.void"] = "transfers.void"


class ExtendHold(_OfHold):
    """Give a hold another deadline, counted from now, another amount to reserve, or both."""

    type: Literal["transfers.extend"] = "transfers.extend"
    expires_in_s: Seconds | None = None
    amount: Amount | None = None


# -- Batches -----------------------------------------------------------------------------------------------------------

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
    dry_run: bool = False


COMMANDS: dict[str, type[Command]] = {
    model.type_name(): model
    for model in (
        OpenLedger,
        OpenAccount,
        LimitAccount,
        FreezeAccount,
        UnfreezeAccount,
        CloseAccount,
        PostTransfer,
        SplitTransfer,
        ExchangeTransfer,
        HoldTransfer,
        CaptureTransfer,
        VoidTransfer,
        ExtendHold,
        ReverseTransfer,
    )
}
"""The command types by wire name. A team's own types join here (`register`)."""


def register(model: type[Command]) -> type[Command]:
    """Add a command type; usable as a class decorator. Raises ValueError where the name is taken."""
    holder = COMMANDS.setdefault(model.type_name(), model)
    if holder is not model:
        raise ValueError(f"the command type {model.type_name()!r} is taken by {holder.__name__}")
    return model
