"""The ledger's rows: read into books before a group is decided, written from their log after it.

Set-based throughout: a group costs a fixed number of statements, however many its commands. COPY writes
the journal, about twice as fast as an array INSERT from a hundred rows on. What only some groups need (holds, limits,
originals) costs the others nothing. `reservations` reads and writes the holds.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, text

from models.books import Account, Books, Change, Entry, Hold, Ledger, Original, Transfer
from models.commands import (
    CaptureTransfer,
    CloseAccount,
    Command,
    ExchangeTransfer,
    ExtendHold,
    FreezeAccount,
    HoldTransfer,
    LimitAccount,
    OpenAccount,
    OpenLedger,
    PostTransfer,
    ReverseTransfer,
    SplitTransfer,
    UnfreezeAccount,
    VoidTransfer,
)
from models.outcomes import Outcome, id_reused
from models.rules import accounts, holds, splits, transfers
from worker.engine import reservations, sealing
from worker.engine.directory import accounts_of, holds_of, ledgers_of, made_by, transfers_of
from worker.postgres.engines import array, copy_lines, copy_rows, json_text

_ACCOUNTS = text(
    """
    SELECT id::text, ledger, min_balance, max_balance,
           debits_posted, credits_posted, debits_pending, credits_pending, state, version
    FROM equipoise.accounts
    WHERE id = ANY (cast(:ids AS uuid[]))
    """
)
_LEDGERS = text(
    """
    SELECT name, currency, scale, sequence, decided_at, number, head, commands, commands_head
    FROM equipoise.ledgers
    WHERE number = ANY (cast(:numbers AS integer[])) OR name = ANY (cast(:names AS text[]))
    """
)
_ORIGINALS = text(
    """
    SELECT id::text, ledger, source_id::text, destination_id::text, amount, (
        SELECT coalesce(sum(amount), 0)::bigint FROM equipoise.transfers back WHERE back.reverses = original.id
    ) AS reversed
    FROM equipoise.transfers original
    WHERE id = ANY (cast(:ids AS uuid[]))
    """
)
_TAKEN = text("SELECT id::text FROM equipoise.transfers WHERE id = ANY (cast(:ids AS uuid[]))")
_NEW_LEDGER = text(
    """
    INSERT INTO equipoise.ledgers (name, currency, scale, decided_at, created_at, head, commands_head)
    VALUES (:name, :currency, :scale, :decided_at, :decided_at, :head, :head)
    RETURNING number
    """
)
_COPY_ACCOUNTS = """
    COPY equipoise.accounts (id, ledger, min_balance, max_balance, created_at, owner_id, metadata) FROM STDIN
"""
_COPY_TRANSFERS = f"COPY equipoise.transfers ({', '.join(sealing.TRANSFER)}, seal) FROM STDIN"
_COUNTERS = ("version", "debits_posted", "credits_posted")
"""What a transfer changes in an account."""

_ALL_COLUMNS = (*_COUNTERS, "debits_pending", "credits_pending", "min_balance", "max_balance", "state")
"""What anything may change in an account."""


def _update_statement(columns: Iterable[str]) -> Any:
    """Write the UPDATE of these columns of many accounts, given as one array a column."""
    columns = tuple(columns)
    sets = ", ".join(f"{column} = changed.{column}" for column in columns)
    arrays = ", ".join(f"cast(:{column} AS {'text' if column == 'state' else 'bigint'}[])" for column in columns)
    return text(
        f"""
        UPDATE equipoise.accounts AS account SET {sets}
        FROM unnest(cast(:id AS uuid[]), {arrays}) AS changed (id, {", ".join(columns)})
        WHERE account.id = changed.id
        """  # noqa: S608  # our own columns
    )


_UPDATE_COUNTERS = _update_statement(_COUNTERS)
_UPDATE_ACCOUNTS = _update_statement(_ALL_COLUMNS)
_UPDATE_LEDGERS = text(
    """
    UPDATE equipoise.ledgers AS ledger
    SET sequence = changed.sequence, decided_at = cast(:decided_at AS timestamptz), head = changed.head,
        commands = changed.commands, commands_head = changed.commands_head
    FROM unnest(
        cast(:numbers AS integer[]), cast(:sequences AS bigint[]), cast(:heads AS bytea[]),
        cast(:commands AS bigint[]), cast(:commands_heads AS bytea[])
    ) AS changed (number, sequence, head, commands, commands_head)
    WHERE ledger.number = changed.number
    """
)


_RULES: dict[type[Command], Callable[[Any, Books, str], Outcome]] = {
    OpenLedger: accounts.open_ledger,
    OpenAccount: accounts.open_account,
    LimitAccount: accounts.limit_account,
    FreezeAccount: accounts.freeze_account,
    UnfreezeAccount: accounts.unfreeze_account,
    CloseAccount: accounts.close_account,
    PostTransfer: transfers.post_transfer,
    SplitTransfer: splits.split_transfer,
    ExchangeTransfer: transfers.exchange_transfer,
    ReverseTransfer: transfers.reverse_transfer,
    HoldTransfer: holds.hold_transfer,
    CaptureTransfer: holds.capture_transfer,
    VoidTransfer: holds.void_transfer,
    ExtendHold: holds.extend_hold,
    holds.ExpireHolds: holds.expire_holds,
}


class Journal:
    """The family of commands that open ledgers and accounts, move money between them, and reserve it."""

    commands: tuple[type[Command], ...] = tuple(_RULES)

    def load(self, connection: Connection, commands: Sequence[Command]) -> Books:
        """Read what the commands name: holds and originals, the accounts of all, and the ledgers of those."""
        called_holds = holds_of(commands)
        hold_rows = reservations.find(connection, called_holds)
        # What is called a hold and is none may be a transfer, which is another answer than none at all.
        named = transfers_of(commands) | (called_holds - {row.id for row in hold_rows})
        original_rows = connection.execute(_ORIGINALS, {"ids": array(named)}).all() if named else []
        watched = made_by(commands)
        taken = connection.execute(_TAKEN, {"ids": array(watched)}).scalars() if watched else ()
        sides = {id for row in [*hold_rows, *original_rows] for id in (row.source_id, row.destination_id)}
        rows = connection.execute(_ACCOUNTS, {"ids": array(accounts_of(commands) | sides)}).all()
        numbers = {number for _, number, *_ in rows}
        ledgers = [
            Ledger(*row)
            for row in connection.execute(_LEDGERS, {"numbers": list(numbers), "names": list(ledgers_of(commands))})
        ]
        by_number = {ledger.number: ledger for ledger in ledgers}
        originals = {id: Original(id, by_number[number], *rest) for id, number, *rest in original_rows}
        return Books(
            ledgers={ledger.name: ledger for ledger in ledgers},
            accounts={id: Account(id, by_number[number], *counters) for id, number, *counters in rows},
            holds={row.id: reservations.hold(row, by_number[row.ledger]) for row in hold_rows},
            originals=originals,
            awaited=frozenset(named - originals.keys()),
            watched=frozenset(watched),
            taken=set(taken),
        )

    def catch_up(self, connection: Connection, state: Books, now: datetime) -> None:
        """Let the overdue holds on these accounts expire, before anything is decided."""
        touched = [
            account.id for account in state.accounts.values() if account.debits_pending or account.credits_pending
        ]
        if not touched:
            return
        overdue = [row for row in reservations.overdue(connection, touched, now) if row.id not in state.holds]
        sides = {id for row in overdue for id in (row.source_id, row.destination_id)} - state.accounts.keys()
        by_number = {ledger.number: ledger for ledger in state.ledgers.values()}
        if sides:
            for id, number, *counters in connection.execute(_ACCOUNTS, {"ids": array(sides)}):
                state.accounts[id] = Account(id, by_number[number], *counters)
        for row in overdue:
            state.holds[row.id] = reservations.hold(row, by_number[row.ledger])
        holds.expire(state, now)

    def decide(self, command: Command, state: Books, decided_at: str) -> Outcome:
        """Apply the rules of the command's type."""
        state.command_id = command.id
        if state.taken and not state.taken.isdisjoint(command.makes()):
            return id_reused(command, "id", decided_at)
        return _RULES[type(command)](command, state, decided_at)

    def write(self, connection: Connection, state: Books, decided_at: str) -> None:
        """Write the log: what was opened or reserved, then the transfers, then the rows as they are now."""
        log = _Log(state.log)
        for ledger in log.ledgers:
            _open_ledger(connection, ledger, decided_at)
        if log.accounts:
            rows = (_account_row(account, log.changed_accounts, decided_at) for account in log.accounts)
            copy_rows(connection, _COPY_ACCOUNTS, rows)
        reservations.place(connection, log.holds, decided_at)
        if log.transfers:
            copy_lines(connection, _COPY_TRANSFERS, sealing.sealed(log.transfers, decided_at))
        _update_accounts(connection, state, log.transfers, log.changed_accounts)
        reservations.update(connection, log.changed_holds, decided_at)
        _record_changes(connection, log.changes, decided_at)
        if state.ledgers:
            _update_ledgers(connection, list(state.ledgers.values()), decided_at)


class _Log:
    """The books' log by kind of entry, in its order."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.transfers = [entry for entry in entries if isinstance(entry, Transfer)]
        others = [entry for entry in entries if not isinstance(entry, Transfer)]
        self.ledgers = [entry for entry in others if isinstance(entry, Ledger)]
        self.accounts = [entry for entry in others if isinstance(entry, Account)]
        self.holds = [entry for entry in others if isinstance(entry, Hold)]
        self.changes = [entry for entry in others if isinstance(entry, Change)]
        self.changed_accounts = {change.row.id for change in self.changes if isinstance(change.row, Account)}
        new = {hold.id for hold in self.holds}
        changed = {change.row.id: change.row for change in self.changes if isinstance(change.row, Hold)}
        self.changed_holds = [hold for id, hold in changed.items() if id not in new]


def _open_ledger(connection: Connection, ledger: Ledger, decided_at: str) -> None:
    values = {name: getattr(ledger, name) for name in ("name", "currency", "scale", "head")}
    ledger.number = connection.execute(_NEW_LEDGER, values | {"decided_at": decided_at}).scalar_one()


def _account_row(account: Account, changed: Collection[str], decided_at: str) -> tuple[Any, ...]:
    # Other limits than it was opened with need not hold of an empty account: they are written with its counters.
    limits = (None, None) if account.id in changed else (account.min_balance, account.max_balance)
    return (
        account.id,
        account.ledger.number,
        *limits,
        decided_at,
        account.owner_id,
        json_text(account.metadata),
    )


def _update_accounts(connection: Connection, books: Books, moves: Sequence[Transfer], changed: Collection[str]) -> None:
    ids = {id for move in moves for id in (move.moved.source_id, move.moved.destination_id)}
    # In one order for every group, so that groups without the ledger's lock wait rather than deadlock.
    accounts = [books.accounts[id] for id in sorted(ids.union(changed))]
    if not accounts:
        return
    statement, columns = (_UPDATE_ACCOUNTS, _ALL_COLUMNS) if changed else (_UPDATE_COUNTERS, _COUNTERS)
    values = {column: _column(accounts, column) for column in ("id", *columns)}
    updated = connection.execute(statement, values)
    assert updated.rowcount == len(accounts)


def _column(accounts: Sequence[Account], column: str) -> str:
    """Write one column of many accounts as an array."""
    values = map(attrgetter(column), accounts)
    if column.endswith("_balance"):
        return array("NULL" if value is None else value for value in values)
    return array(values)


def _update_ledgers(connection: Connection, ledgers: Sequence[Ledger], decided_at: str) -> None:
    connection.execute(
        _UPDATE_LEDGERS,
        {
            "numbers": [ledger.number for ledger in ledgers],
            "sequences": [ledger.sequence for ledger in ledgers],
            "heads": [ledger.head for ledger in ledgers],
            "commands": [ledger.commands for ledger in ledgers],
            "commands_heads": [ledger.commands_head for ledger in ledgers],
            "decided_at": decided_at,
        },
    )


_AUDITED: dict[type, tuple[str, frozenset[str]]] = {
    Account: ("accounts", frozenset({"min_balance", "max_balance", "state"})),
    Hold: ("holds", frozenset({"amount", "expires_at"})),
}
"""Fields whose earlier values would be lost; of the others the journal itself is the history."""

_COPY_CHANGES = """
    COPY equipoise.changes (command_id, changed_at, table_name, row_id, before, after) FROM STDIN
"""


def _record_changes(connection: Connection, changes: Sequence[Change], decided_at: str) -> None:
    """Write one row for each row that a command has changed."""
    recorded: dict[tuple[str | None, str], tuple[str, dict[str, Any], dict[str, Any]]] = {}
    for change in changes:
        table, fields = _AUDITED.get(type(change.row), ("", frozenset()))
        names = [name for name in change.after if name in fields]
        if names:
            _, before, after = recorded.setdefault((change.command_id, change.row.id), (table, {}, {}))
            before |= {name: change.before[name] for name in names if name not in before}
            after |= {name: change.after[name] for name in names}
    if recorded:
        rows = (
            (command_id, decided_at, table, row_id, json_text(before), json_text(after))
            for (command_id, row_id), (table, before, after) in recorded.items()
        )
        copy_rows(connection, _COPY_CHANGES, rows)
