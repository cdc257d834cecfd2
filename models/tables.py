"""The tables as SQLModel classes: what a team's own code reads the books with.

The migrations make the tables, with every constraint, trigger and grant; a test compares the two. These
classes do not validate (SQLModel tables never do): what comes from outside is validated by `commands`.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, Identity, Index, Integer, LargeBinary, SmallInteger, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

SCHEMA = "equipoise"


class Ledger(SQLModel, table=True):
    """A book of accounts that share one currency and scale."""

    __tablename__ = "ledgers"
    __table_args__ = {"schema": SCHEMA}

    number: int | None = Field(default=None, sa_column=Column(Integer, Identity(always=True), primary_key=True))
    name: str = Field(sa_type=Text, unique=True)
    currency: str = Field(sa_type=Text)
    scale: int = Field(sa_type=SmallInteger)
    sequence: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default=text("0")))
    decided_at: datetime = Field(sa_type=DateTime(timezone=True))
    created_at: datetime = Field(sa_type=DateTime(timezone=True))
    head: bytes = Field(sa_type=LargeBinary)
    commands: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default=text("0")))
    commands_head: bytes = Field(sa_type=LargeBinary)


class Account(SQLModel, table=True):
    """Who holds money: four counters, limits, state, and the number of its entries."""

    __tablename__ = "accounts"
    __table_args__ = {"schema": SCHEMA}

    id: UUID = Field(primary_key=True)
    ledger: int = Field(foreign_key=f"{SCHEMA}.ledgers.number")
    version: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default=text("0")))
    debits_posted: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default=text("0")))
    credits_posted: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default=text("0")))
    debits_pending: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default=text("0")))
    credits_pending: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default=text("0")))
    min_balance: int | None = Field(default=None, sa_type=BigInteger)
    max_balance: int | None = Field(default=None, sa_type=BigInteger)
    state: str = Field(default="open", sa_column=Column(Text, nullable=False, server_default=text("'open'")))
    created_at: datetime = Field(sa_type=DateTime(timezone=True))
    owner_id: UUID | None = None
    attributes: dict[str, Any] | None = Field(default=None, sa_column=Column("metadata", JSONB))


class Transfer(SQLModel, table=True):
    """Money that moved: one row with both its sides. Immutable."""

    __tablename__ = "transfers"
    __table_args__ = (
        Index("transfers_id", "id", unique=True),
        Index("transfers_source", "source_id", "source_version", unique=True),
        Index("transfers_destination", "destination_id", "destination_version", unique=True),
        Index("transfers_hold", "hold_id", postgresql_where=text("hold_id IS NOT NULL")),
        Index("transfers_reverses", "reverses", postgresql_where=text("reverses IS NOT NULL")),
        Index("transfers_command", "command_id", postgresql_where=text("command_id IS NOT NULL")),
        Index(
            "transfers_source_effective",
            "source_id",
            "effective_at",
            "source_version",
            postgresql_where=text("effective_at IS NOT NULL"),
        ),
        Index(
            "transfers_destination_effective",
            "destination_id",
            "effective_at",
            "destination_version",
            postgresql_where=text("effective_at IS NOT NULL"),
        ),
        Index("transfers_kind", "ledger", "kind", "sequence", postgresql_where=text("kind IS NOT NULL")),
        Index(
            "transfers_metadata",
            "metadata",
            postgresql_using="gin",
            postgresql_ops={"metadata": "jsonb_path_ops"},
            postgresql_where=text("metadata IS NOT NULL"),
        ),
        Index("transfers_amount", "ledger", "amount"),
        {"schema": SCHEMA},
    )

    ledger: int = Field(primary_key=True, sa_type=Integer)
    sequence: int = Field(primary_key=True, sa_type=BigInteger)
    id: UUID
    source_id: UUID
    destination_id: UUID
    amount: int = Field(sa_type=BigInteger)
    source_version: int = Field(sa_type=BigInteger)
    destination_version: int = Field(sa_type=BigInteger)
    source_balance: int = Field(sa_type=BigInteger)
    destination_balance: int = Field(sa_type=BigInteger)
    created_at: datetime = Field(sa_type=DateTime(timezone=True))
    source_pending: int | None = Field(default=None, sa_type=BigInteger)
    destination_pending: int | None = Field(default=None, sa_type=BigInteger)
    effective_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    kind: str | None = Field(default=None, sa_type=Text)
    attributes: dict[str, Any] | None = Field(default=None, sa_column=Column("metadata", JSONB))
    hold_id: UUID | None = None
    reverses: UUID | None = None
    command_id: UUID | None = None
    seal: int = Field(sa_type=BigInteger)


class Hold(SQLModel, table=True):
    """Money reserved and not yet moved. Ends once: captured, voided or expired."""

    __tablename__ = "holds"
    __table_args__ = (
        Index("holds_source", "source_id", "expires_at", postgresql_where=text("state = 'pending'")),
        Index("holds_destination", "destination_id", "expires_at", postgresql_where=text("state = 'pending'")),
        Index("holds_expiry", "expires_at", postgresql_where=text("state = 'pending'")),
        {"schema": SCHEMA},
    )

    id: UUID = Field(primary_key=True)
    ledger: int = Field(foreign_key=f"{SCHEMA}.ledgers.number")
    source_id: UUID = Field(foreign_key=f"{SCHEMA}.accounts.id")
    destination_id: UUID = Field(foreign_key=f"{SCHEMA}.accounts.id")
    amount: int = Field(sa_type=BigInteger)
    remaining: int = Field(sa_type=BigInteger)
    captured: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default=text("0")))
    state: str = Field(sa_type=Text)
    expires_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    created_at: datetime = Field(sa_type=DateTime(timezone=True))
    ended_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    kind: str | None = Field(default=None, sa_type=Text)
    effective_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    attributes: dict[str, Any] | None = Field(default=None, sa_column=Column("metadata", JSONB))


class Change(SQLModel, table=True):
    """Which command changed which row, from what to what. Immutable."""

    __tablename__ = "changes"
    __table_args__ = (Index("changes_command", "command_id"), {"schema": SCHEMA})

    row_id: UUID = Field(primary_key=True)
    command_id: UUID = Field(primary_key=True)
    changed_at: datetime = Field(sa_type=DateTime(timezone=True))
    table_name: str = Field(sa_type=Text)
    before: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    after: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))


class Decided(SQLModel, table=True):
    """A row of the inbox: a command that was decided, once. Immutable."""

    __tablename__ = "inbox"
    __table_args__ = (
        Index("inbox_chain", "ledger", "number", unique=True, postgresql_where=text("number IS NOT NULL")),
        {"schema": SCHEMA},
    )

    id: UUID = Field(primary_key=True)
    decided_at: datetime = Field(sa_type=DateTime(timezone=True))
    type: str = Field(sa_type=Text)
    status: str = Field(sa_type=Text)
    content: str | None = Field(default=None, sa_type=Text)
    answer: str | None = Field(default=None, sa_type=Text)
    ledger: int | None = None
    number: int | None = Field(default=None, sa_type=BigInteger)
    seal: int | None = Field(default=None, sa_type=BigInteger)


class DeadLetter(SQLModel, table=True):
    """A message, or a batch's member, that was taken off the queue without being decided."""

    __tablename__ = "dead_letters"
    __table_args__ = (
        Index("dead_letters_created_at", "created_at"),
        Index("dead_letters_command_id", "command_id", postgresql_where=text("command_id IS NOT NULL")),
        {"schema": SCHEMA},
    )

    id: UUID = Field(primary_key=True)
    created_at: datetime = Field(
        sa_column=Column(DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()"))
    )
    reason: str = Field(sa_type=Text)
    detail: str = Field(sa_type=Text)
    task: str = Field(sa_type=Text)
    task_id: str = Field(sa_type=Text)
    queue: str = Field(sa_type=Text)
    command_id: UUID | None = None
    body: bytes = Field(sa_type=LargeBinary)
