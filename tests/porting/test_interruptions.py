"""What ends an import before its file ends, and how it is told."""

import json
import signal
import subprocess

import psycopg
import pytest

from models.commands import SplitTransfer
from tests.cli.conftest import COMMAND, call, environment
from tests.cli.test_endings import AWAY, failed
from tests.conftest import libpq
from tests.factories import new, new_id, open_books
from tests.porting.conftest import Run, rows
from tests.porting.files import books, file_of, transfers
from tests.waiting import wait_until
from worker.engine.settle import Settlement
from worker.porting.importing import Importer, Unstorable
from worker.porting.judging import Name, judged
from worker.porting.lines import Line
from worker.postgres.failures import LedgerBusy
from worker.proving.verify import verify
from worker.settings import Urls


def wait_until_it_has_begun(database_url: str) -> None:
    """Wait for the first thing that an import does with its database, before it reads its file."""
    begun = "SELECT FROM pg_stat_activity WHERE application_name = 'equipoise worker' AND query LIKE '%inbox%'"
    with psycopg.connect(libpq(database_url), autocommit=True) as looking:
        wait_until(lambda: looking.execute(begun).fetchone() is not None)


def test_a_database_that_is_away_is_told_of_before_anything_is_read(empty_database_url: str) -> None:
    assert "database" in failed(call("import", "-", urls=AWAY), 69)
    assert "equipoise migrate" in failed(call("import", "-", urls=AWAY._replace(database_url=empty_database_url)), 78)
    assert "database" in failed(call("export", "a", urls=AWAY), 69)


@pytest.mark.parametrize(("ending", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_ends_an_import_is_told_in_one_line_how_to_go_on(
    ending: signal.Signals, status: int, database_url: str
) -> None:
    urls = Urls(database_url, "redis://127.0.0.1:1/0", "redis://127.0.0.1:1/0")
    importing = subprocess.Popen(
        [*COMMAND, "import", "-"],
        env=environment(urls),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_until_it_has_begun(database_url)

    importing.send_signal(ending)

    out, error = importing.communicate(timeout=60)
    assert (importing.returncode, out) == (status, b"")
    assert error == b"equipoise: ended early; importing the same again goes on where it stopped\n"


def test_a_database_that_refuses_midway_is_one_line_that_says_how_to_go_on(database_url: str) -> None:
    urls = Urls(database_url, "redis://127.0.0.1:1/0", "redis://127.0.0.1:1/0")
    ledger = file_of(*books("a"))
    importing = subprocess.Popen(
        [*COMMAND, "import", "--name", "x", "-"],
        env=environment(urls),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_until_it_has_begun(database_url)
    with psycopg.connect(libpq(database_url), autocommit=True) as owner:
        owner.execute("REVOKE USAGE ON SCHEMA equipoise FROM equipoise_worker")

    out, error = importing.communicate(ledger, timeout=120)

    assert (importing.returncode, out) == (69, b"")
    assert error.count(b"\n") == 1
    assert b"importing the same again goes on where it stopped" in error


def test_a_ledger_that_is_kept_is_waited_for_and_then_told_of(settlement: Settlement, database_url: str) -> None:
    ledger, _ = open_books(settlement, [1])
    line = json.dumps({"type": "accounts.open", "id": new_id(), "account_id": new_id(), "ledger": ledger}).encode()
    what = [judged(Line(1, line, len(line)), Name("x", str), None)]
    key = f"SELECT pg_advisory_lock(hashtextextended('equipoise.ledger.{ledger}', 0))"
    with psycopg.connect(libpq(database_url)) as keeper:
        keeper.execute(key)

        with pytest.raises(LedgerBusy):
            list(Importer(settlement, patience_s=0).run(what))

    [settled] = Importer(settlement, patience_s=0).run(what)
    assert settled.statuses == {"applied": 1}


def test_a_line_that_cannot_be_committed_ends_the_import_after_those_before_it(run: Run, database_url: str) -> None:
    source, destination = new_id(), new_id()
    lines = [*books("a", source, destination, min_balance=None), *transfers(source, destination, 6)]
    lines[6] |= {"amount": 666}
    with psycopg.connect(libpq(database_url), autocommit=True) as owner:
        owner.execute("ALTER TABLE equipoise.transfers ADD CONSTRAINT unforeseen CHECK (amount <> 666)")

        ended = run("import", "--name", "x", "-", stdin=file_of(*lines))
        moved = rows(database_url, "SELECT count(*) FROM equipoise.transfers")
        owner.execute("ALTER TABLE equipoise.transfers DROP CONSTRAINT unforeseen")
    again = run("import", "--name", "x", "-", stdin=file_of(*lines))

    assert "line 7 cannot be committed" in failed(ended, 65)
    assert moved == [(3,)]
    assert again.returncode == 0
    assert verify(database_url).sound


def test_a_conflict_that_never_passes_names_its_line_at_once(settlement: Settlement, database_url: str) -> None:
    """A transfer under the id of one that a split has made: whoever was first has committed."""
    _, [account, bank] = open_books(settlement, [10])
    split = new(SplitTransfer, source_id=account, destinations=[{"account_id": bank, "rest": True}], amount=5)
    [made] = settlement([split])
    lines = [
        json.dumps({"type": "transfers.post", "id": id, "source_id": account, "destination_id": bank, "amount": 1})
        for id in (new_id(), made["transfers"][0]["id"])
    ]
    what = [judged(Line(n, line.encode(), n), Name("x", str), None) for n, line in enumerate(lines, 1)]
    before = settlement.retries["23505"]

    with pytest.raises(Unstorable, match="line 2 cannot be committed: UniqueViolation"):
        list(Importer(settlement).run(what))

    assert rows(database_url, "SELECT count(*) FROM equipoise.transfers") == [(3,)]
    assert settlement.retries["23505"] - before == 2  # one for the group, one for the line alone
