"""Record a golden file, once a contract version: `python -m tests.golden.record DATABASE_URL > version_1.json`.

The database is migrated and empty. A file that was committed is never recorded anew: it is what senders were told.
"""

import json
import sys
from typing import Any

import psycopg
from psycopg.rows import dict_row

from models import contract
from models.outcomes import encode
from tests.laws.stories import BEGINNING, World
from worker.engine.settle import Settlement
from worker.postgres.engines import committing_engine

TABLES = ("ledgers", "accounts", "transfers", "inbox")


def post(id: str, source_id: str, destination_id: str, amount: int, **fields: Any) -> dict[str, Any]:
    sides = {"source_id": source_id, "destination_id": destination_id, "amount": amount}
    return {"type": "transfers.post", "id": id} | sides | fields


CHAIN_FAILS = [post("#10", "@00", "@02", 1), post("#11", "@02", "@00", 99), post("#12", "@00", "@02", 1)]
MESSAGES = [
    *BEGINNING,
    {"type": "ledgers.open", "id": "#01", "ledger": "~m", "currency": "EUR", "scale": 2},
    {"type": "accounts.open", "id": "#02", "account_id": "@04", "ledger": "~m", "min_balance": 1},
    {"type": "accounts.open", "id": "#03", "account_id": "@05", "ledger": "~m", "metadata": {"é": [1, True, None]}},
    post("#04", "@01", "@02", 5, kind="fee", effective_at="0999-01-02T03:04:05.6+01:00", metadata={"b": {"a": "\\"}}),
    post("#05", "@01", "@02", 10**15, up_to=True),
    post("#06", "@01", "@02", 1, up_to=True),
    post("#07", "@02", "@02", 1),
    {
        "type": "batch",
        "id": "#08",
        "commands": [
            post("#09", "@00", "@02", 7),
            CHAIN_FAILS,
            [post("#12", "@02", "@01", 1), post("#13", "@01", "@02", 1)],
            [post("#14", "@00", "@02", 1), {"type": "transfers.post", "id": "#15", "malformed": True}],
            {"type": "transfers.post", "id": "#16", "malformed": "\u202e"},
            post("#09", "@00", "@02", 8),
            post("#09", "@00", "@02", 7),
        ],
    },
    post("#08", "@00", "@02", 7),
]


def main(database_url: str) -> None:
    engine = committing_engine(database_url)
    messages = World().named(MESSAGES)
    settle = Settlement(engine)
    outcomes = [encode(settle(World.judged([message]))[0]).decode() for message in messages]
    golden: dict[str, Any] = {"contract": contract.VERSION, "messages": messages, "outcomes": outcomes}
    with psycopg.connect(database_url.replace("+psycopg", ""), row_factory=dict_row) as connection:
        for table in TABLES:
            rows = connection.execute(f"SELECT to_jsonb(t) AS row FROM equipoise.{table} t ORDER BY 1").fetchall()
            golden[table] = [row["row"] for row in rows]
    json.dump(golden, sys.stdout, indent=1, ensure_ascii=False)


if __name__ == "__main__":
    main(sys.argv[1])
