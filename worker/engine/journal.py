"""The ledger's rows: read into books before a group is decided, written from their log after it.

Set-based throughout: a group costs a fixed number of statements, however many its commands. COPY writes
the journal, about twice as fast as an array INSERT from a hundred rows on.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, text

from models import rules
from models.books import Account, Books, Ledger, Transfer
from models.commands import Command, OpenAccount, OpenLedger, PostTransfer
from models.outcomes import Outcome
from worker.engine.directory import accounts_of, ledgers_of
from worker.postgres.engines import array, copy_rows, json_text

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
    SELECT name, currency, scale, sequence, decided_at, number
    FROM equipoise.ledgers
    WHERE number = ANY (cast(:numbers AS integer[])) OR name = ANY (cast(:names AS text[]))
    """
)
_NEW_LEDGER = text(
    """
    INSERT INTO equipoise.ledgers (name, currency, scale, decided_at, created_at)
    VALUES (:name, :currency, :scale, :decided_at, :decided_at)
    RETURNING number
    """
)
_COPY_ACCOUNTS = """
    COPY equipoise.accounts (id, ledger, min_balance, max_balance, created_at, owner_id, metadata) FROM STDIN
"""
_COPY_TRANSFERS = """
    COPY equipoise.transfers (
        ledger, sequence, id, source_id, destination_id, amount, source_version, destination_version,
        source_balance, destination_balance, created_at, source_pending, destination_pending,
        effective_at, kind, metadata
    ) FROM STDIN
"""
_UPDATE_ACCOUNTS = text(
    """
    UPDATE equipoise.accounts AS account
    SET version = changed.version, debits_posted = changed.debits_posted, credits_posted = changed.credits_posted
    FROM unnest(
        cast(:ids AS uuid[]), cast(:versions AS bigint[]), cast(:debits AS bigint[]), cast(:credits AS bigint[])
    ) AS changed (id, version, debits_posted, credits_posted)
    WHERE account.id = changed.id
    """
)
_UPDATE_LEDGERS = text(
    """
    UPDATE equipoise.ledgers AS ledger
    SET sequence = changed.sequence, decided_at = cast(:decided_at AS timestamptz)
    FROM unnest(cast(:numbers AS integer[]), cast(:sequences AS bigint[])) AS changed (number, sequence)
    WHERE ledger.number = changed.number
    """
)


_RULES: dict[type[Command], Callable[[Any, Books, str], Outcome]] = {
    OpenLedger: rules.open_ledger,
    OpenAccount: rules.open_account,
    PostTransfer: rules.post_transfer,
}


class Journal:
    """The family of commands that open ledgers and accounts and move money between them."""

    commands: tuple[type[Command], ...] = tuple(_RULES)

    def load(self, connection: Connection, commands: Sequence[Command]) -> Books:
        """Read the accounts and ledgers that the commands name, and the ledgers of those accounts."""
        rows = connection.execute(_ACCOUNTS, {"ids": array(accounts_of(commands))}).all()
        numbers = {number for _, number, *_ in rows}
        named = {"numbers": list(numbers), "names": list(ledgers_of(commands))}
        ledgers = [Ledger(*row) for row in connection.execute(_LEDGERS, named)]
        by_number = {ledger.number: ledger for ledger in ledgers}
        return Books(
            ledgers={ledger.name: ledger for ledger in ledgers},
            accounts={id: Account(id, by_number[number], *counters) for id, number, *counters in rows},
        )

    def decide(self, command: Command, state: Books, decided_at: str) -> Outcome:
        """Apply the rules of the command's type."""
        return _RULES[type(command)](command, state, decided_at)

    def write(self, connection: Connection, state: Books, decided_at: str) -> None:
        """Write the log: what was opened, then the transfers, then the counters as they are now."""
        opened = [change for change in state.log if isinstance(change, Account)]
        transfers = [change for change in state.log if isinstance(change, Transfer)]
        for change in state.log:
            if isinstance(change, Ledger):
                _open_ledger(connection, change, decided_at)
        if opened:
            copy_rows(connection, _COPY_ACCOUNTS, (_account_row(account, decided_at) for account in opened))
        if transfers:
            copy_rows(connection, _COPY_TRANSFERS, (_transfer_row(transfer, decided_at) for transfer in transfers))
            _update_accounts(connection, state, transfers)
        if state.ledgers:
            _update_ledgers(connection, list(state.ledgers.values()), decided_at)


def _open_ledger(connection: Connection, ledger: Ledger, decided_at: str) -> None:
    values = {"name": ledger.name, "currency": ledger.currency, "scale": ledger.scale, "decided_at": decided_at}
    ledger.number = connection.execute(_NEW_LEDGER, values).scalar_one()


def _account_row(account: Account, decided_at: str) -> tuple[Any, ...]:
    return (
        account.id,
        account.ledger.number,
        account.min_balance,
        account.max_balance,
        decided_at,
        account.owner_id,
        json_text(account.metadata),
    )


def _transfer_row(transfer: Transfer, decided_at: str) -> tuple[Any, ...]:
    moved = transfer.moved
    source, destination = moved.source, moved.destination
    return (
        transfer.ledger.number,
        moved.sequence,
        moved.id,
        moved.source_id,
        moved.destination_id,
        moved.amount,
        source["version"],
        destination["version"],
        source["balance"],
        destination["balance"],
        decided_at,
        source["balance"] - source["available"] or None,
        destination["balance"] - destination["available"] or None,
        transfer.effective_at,
        transfer.kind,
        json_text(transfer.metadata),
    )


def _update_accounts(connection: Connection, books: Books, transfers: Sequence[Transfer]) -> None:
    ids = {id for transfer in transfers for id in (transfer.moved.source_id, transfer.moved.destination_id)}
    # In one order for every group, so that groups without the ledger's lock wait rather than deadlock.
    accounts = [books.accounts[id] for id in sorted(ids)]
    updated = connection.execute(
        _UPDATE_ACCOUNTS,
        {
            "ids": array(account.id for account in accounts),
            "versions": array(account.version for account in accounts),
            "debits": array(account.debits_posted for account in accounts),
            "credits": array(account.credits_posted for account in accounts),
        },
    )
    assert updated.rowcount == len(accounts)


def _update_ledgers(connection: Connection, ledgers: Sequence[Ledger], decided_at: str) -> None:
    connection.execute(
        _UPDATE_LEDGERS,
        {
            "numbers": [ledger.number for ledger in ledgers],
            "sequences": [ledger.sequence for ledger in ledgers],
            "decided_at": decided_at,
        },
    )
