"""Files for tests to import: books and transfers by lines without ids; and what was told of them."""

import json
import subprocess
from typing import Any

Json = dict[str, Any]

BALANCES = "SELECT id::text, credits_posted - debits_posted, version FROM equipoise.accounts ORDER BY 1"


def file_of(*commands: Json) -> bytes:
    return b"".join(json.dumps(command).encode() + b"\n" for command in commands)


def books(ledger: str, *accounts: str, **limits: int | None) -> list[Json]:
    """Open a ledger and accounts, by lines without ids."""
    opened = [{"type": "accounts.open", "account_id": id, "ledger": ledger} | limits for id in accounts]
    return [{"type": "ledgers.open", "ledger": ledger, "currency": "EUR", "scale": 2}, *opened]


def transfers(source_id: str, destination_id: str, count: int) -> list[Json]:
    about = {"type": "transfers.post", "source_id": source_id, "destination_id": destination_id}
    return [about | {"amount": 1, "effective_at": f"2020-01-01T00:00:00.{n:06}Z"} for n in range(count)]


def told(done: subprocess.CompletedProcess[bytes]) -> list[Json]:
    """Read what was told to programs; the summary comes last."""
    return [json.loads(line) for line in done.stdout.splitlines()]
