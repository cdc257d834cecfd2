"""The command `export`: what it writes where, and what it says of a ledger that is not there."""

import json
from time import sleep

from sqlalchemy import text

from tests.cli.test_endings import failed, in_a_terminal
from tests.conftest import libpq
from tests.factories import open_books
from tests.porting.conftest import Run, runner
from tests.porting.test_round_trip import accounts, exported
from worker.engine.settle import Settlement
from worker.porting import exporting
from worker.reading.reader import reader


def test_a_ledger_is_exported_and_imported_by_the_command_line(
    run: Run, other_url: str, settlement: Settlement, other: Settlement
) -> None:
    ledger, _ = open_books(settlement, [5, 6])

    for written in ("jsonl", "csv"):
        done = run("export", ledger, "--format", written)
        back = runner(other_url)("import", "--json", "--format", written, "-", stdin=done.stdout)

        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == exported(settlement.engine, ledger, csv=written == "csv")
        assert back.returncode == 0, back.stderr
        told = json.loads(back.stdout)
        assert (told["statuses"], told["refused"], told["name"]) == ({"applied": 8}, 0, None)
    assert accounts(other.engine, ledger) == accounts(settlement.engine, ledger)


def test_a_ledger_that_is_not_there_is_one_line(run: Run) -> None:
    assert "there is no ledger 'wallets'" in failed(run("export", "wallets"), 1)
    assert r"there is no ledger '\\xff'" in failed(run("export", "\udcff"), 1)
    assert run("export", "wallets", "--format", "xml").returncode == 2


def test_who_takes_the_rows_may_pause_longer_than_a_reader(settlement: Settlement, database_url: str) -> None:
    ledger, _ = open_books(settlement, [5])
    with reader(database_url) as engine, engine.connect() as connection:
        connection.execute(text("SET idle_in_transaction_session_timeout = '100ms'"))
        connection.commit()
        found = exporting.export(connection, ledger)
        assert found is not None

        sleep(0.5)

        assert [command["type"] for command in found.commands()][:2] == ["ledgers.open", "accounts.open"]


def test_on_a_terminal_both_show_how_far_they_are(settlement: Settlement, database_url: str) -> None:
    ledger, _ = open_books(settlement, [5])
    about = {"EQUIPOISE_DATABASE_URL": libpq(database_url), "EQUIPOISE_BROKER_URL": "redis://127.0.0.1:1/0"}

    shown = in_a_terminal("export", ledger, **about)

    assert b"exporting" in shown
    assert b"accounts.open" in shown
    assert b"importing" in in_a_terminal("import", "/dev/null", **about)
