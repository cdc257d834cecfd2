"""The command `import`: opening balances and past transfers make the books, once, however often it is run."""

import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, environment
from tests.factories import new_id
from tests.porting.conftest import Run, rows, runner
from tests.porting.files import BALANCES, books, file_of, told, transfers
from worker.porting import opening
from worker.porting.importing import GROUP_COMMANDS
from worker.proving.verify import verify
from worker.settings import Urls

# -- Opening balances and past transfers -------------------------------------------------------------------------------


def test_opening_balances_and_past_transfers_make_the_books(run: Run, database_url: str, tmp_path: Path) -> None:
    rich, poor, new = new_id(), new_id(), new_id()
    lines = books("a", rich, poor, new, min_balance=None)
    lines += [
        {"type": "opening_balance", "account_id": rich, "amount": 1000, "effective_at": "2019-12-31T23:59:59Z"},
        {"type": "opening_balance", "account_id": poor, "amount": -300, "metadata": {"of": "2019"}},
        {"type": "opening_balance", "account_id": new, "amount": 0},
        *transfers(rich, poor, 5),
    ]
    (tmp_path / "a.jsonl").write_bytes(file_of(*lines))

    done = run("import", tmp_path / "a.jsonl")

    assert (done.returncode, done.stderr) == (0, b""), done.stderr
    assert b"12 commands" in done.stdout
    balances = {id: balance for id, balance, _ in rows(database_url, BALANCES)}
    assert balances == {rich: 995, poor: -295, new: 0, opening.account_of("a"): -700}
    moments = "SELECT effective_at::text, kind FROM equipoise.transfers ORDER BY sequence LIMIT 3"
    assert rows(database_url, moments) == [
        ("2019-12-31 23:59:59+00", "opening_balance"),
        (None, "opening_balance"),
        ("2020-01-01 00:00:00+00", None),
    ]
    assert verify(database_url).sound


def test_an_opening_balance_keeps_to_limits_and_needs_its_account(run: Run, database_url: str) -> None:
    account, nobody = new_id(), new_id()
    lines = [
        *books("a", account),
        {"type": "opening_balance", "account_id": account, "amount": -1},
        {"type": "opening_balance", "account_id": nobody, "amount": 1, "id": new_id()},
    ]

    first = run("import", "--json", "--name", "x", "-", stdin=file_of(*lines))
    opened = {"type": "accounts.open", "id": new_id(), "account_id": nobody, "ledger": "a"}
    second = run("import", "--json", "--name", "y", "-", stdin=file_of(opened, lines[-1]))

    assert first.returncode == 1
    assert [(it["line"], it["status"]) for it in told(first)[:-1]] == [
        (3, "insufficient_funds"),
        (4, "account_not_found"),
    ]
    assert second.returncode == 0, second.stderr
    assert (nobody, 1, 1) in rows(database_url, BALANCES)


def test_each_ledger_has_an_account_for_opening_balances(run: Run, database_url: str) -> None:
    one, two = new_id(), new_id()
    lines = [*books("a", one), *books("b", two)]
    lines += [{"type": "opening_balance", "account_id": it, "amount": 5} for it in (one, two, one)]

    done = run("import", "--name", "x", "-", stdin=file_of(*lines))

    assert done.returncode == 0, done.stderr
    expected = {one: 10, two: 5, opening.account_of("a"): -10, opening.account_of("b"): -5}
    assert {id: balance for id, balance, _ in rows(database_url, BALANCES)} == expected


def test_a_ledger_that_comes_late_gets_its_account_for_opening_balances(run: Run, database_url: str) -> None:
    account = new_id()
    ledger, opened = books("a", account)
    balance = {"type": "opening_balance", "account_id": account, "amount": 5}

    early = run("import", "--json", "--name", "x", "-", stdin=file_of(opened, balance))
    late = run("import", "--json", "--name", "y", "-", stdin=file_of(ledger, opened, balance))
    again = run("import", "--json", "--name", "y", "-", stdin=file_of(ledger, opened, balance))

    assert [it["status"] for it in told(early)[:-1]] == ["ledger_not_found", "account_not_found"]
    assert (late.returncode, told(again)[-1]["known"]) == (0, 3)
    assert rows(database_url, "SELECT count(*) FROM equipoise.inbox WHERE type = 'accounts.open'") == [(3,)]
    assert (account, 5, 1) in rows(database_url, BALANCES)


def test_an_opening_balance_waits_for_an_account_that_is_really_opened(run: Run, database_url: str) -> None:
    """Nothing is decided of it while its account is refused, tried or opened further on: its id is not used up."""
    late, tried, wrong, ready = new_id(), new_id(), new_id(), new_id()
    ledger, *opened = books("a", late, tried, wrong, ready)
    balances = [{"type": "opening_balance", "account_id": it, "amount": 5} for it in (late, tried, wrong, ready)]
    lines = [ledger, balances[0], opened[0], opened[1] | {"dry_run": True}, balances[1]]
    batch = {"type": "batch", "id": new_id(), "commands": [opened[3] | {"id": new_id()}]}
    lines += [opened[2] | {"ledger": "b"}, batch, *balances[2:]]

    first = run("import", "--json", "--name", "x", "-", stdin=file_of(*lines))
    run("import", "--name", "y", "-", stdin=file_of(ledger, *opened[1:3]))
    again = run("import", "--json", "--name", "x", "-", stdin=file_of(*lines))

    assert [(it["line"], it["status"]) for it in told(first)[:-1]] == [
        (2, "account_not_found"),
        (5, "account_not_found"),
        (6, "ledger_not_found"),
        (8, "account_not_found"),
    ]
    assert [(it["line"], it["status"]) for it in told(again)[:-1]] == [
        (4, "account_exists"),
        (6, "ledger_not_found"),
    ]
    found = {id: balance for id, balance, _ in rows(database_url, BALANCES)}
    assert [found[id] for id in (late, tried, wrong, ready)] == [5, 5, 5, 5]


def test_an_opening_balance_is_not_only_tried(run: Run, database_url: str) -> None:
    """It would open an account for it."""
    account = new_id()
    balance = {"type": "opening_balance", "account_id": account, "amount": 5, "dry_run": True}

    done = run("import", "--json", "--name", "x", "-", stdin=file_of(*books("a", account), balance))

    assert [(it["line"], it["status"], it["detail"]) for it in told(done)[:-1]] == [
        (3, "malformed", "dry_run: input should be False")
    ]
    assert rows(database_url, BALANCES) == [(account, 0, 0)]


def test_a_table_of_opening_balances_is_imported(run: Run, database_url: str, tmp_path: Path) -> None:
    ones = [new_id() for _ in range(3)]
    (tmp_path / "accounts.jsonl").write_bytes(file_of(*books("a", *ones)))
    table = ["type,account_id,amount", *(f"opening_balance,{id},{place}" for place, id in enumerate(ones, start=7))]
    (tmp_path / "opening.CSV").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(table).encode() + b"\r\n")

    assert run("import", tmp_path / "accounts.jsonl").returncode == 0
    assert run("import", tmp_path / "opening.CSV").returncode == 0

    found = {id: balance for id, balance, _ in rows(database_url, BALANCES)}
    assert [found[id] for id in ones] == [7, 8, 9]


# -- Once --------------------------------------------------------------------------------------------------------------


def test_a_file_that_is_imported_again_changes_nothing(run: Run, database_url: str, tmp_path: Path) -> None:
    source, destination = new_id(), new_id()
    file = tmp_path / "a"
    file.write_bytes(
        file_of(
            *books("a", source, destination, min_balance=None),
            {"type": "opening_balance", "account_id": source, "amount": 10},
            *transfers(source, destination, 10),
        )
    )
    [first] = told(run("import", "--json", file))
    before = rows(database_url, BALANCES)

    again = run("import", "--json", file)

    [second] = told(again)
    assert (first["statuses"], first["known"]) == ({"applied": 14}, 0)
    assert (again.returncode, second["statuses"], second["known"]) == (0, {"applied": 14}, 14)
    assert first["name"] == second["name"]
    assert rows(database_url, BALANCES) == before


@pytest.mark.parametrize("point", ["decided", "before_commit", "after_commit"])
def test_an_import_that_was_killed_is_run_again(
    point: str, run: Run, database_url: str, other_url: str, tmp_path: Path
) -> None:
    """Killed in its second group; what one run makes of another database is made by two of this."""
    source, destination = new_id(), new_id()
    file = tmp_path / "a"
    file.write_bytes(file_of(*books("a", source, destination, min_balance=None)))
    assert run("import", file).returncode == 0
    lines = transfers(source, destination, GROUP_COMMANDS + 50)
    more = tmp_path / "more"
    more.write_bytes(file_of(*lines, {"type": "opening_balance", "account_id": source, "amount": 7}))
    about = {"EQUIPOISE_TEST_CRASH_AT": point, "EQUIPOISE_TEST_CRASH_DIR": str(tmp_path)}

    killed = run("import", more, **about)
    committed = rows(database_url, "SELECT count(*) FROM equipoise.transfers")
    again = run("import", "--json", more, **about)
    other = runner(other_url)
    assert [other("import", one).returncode for one in (file, more)] == [0, 0]

    assert killed.returncode == -signal.SIGKILL
    assert committed == [(GROUP_COMMANDS if point == "after_commit" else 0,)]
    assert again.returncode == 0, again.stderr
    assert told(again)[-1]["known"] == committed[0][0]
    moves = "SELECT id, sequence, source_id, destination_id, amount, source_balance FROM equipoise.transfers ORDER BY 1"
    assert rows(database_url, moves) == rows(other_url, moves)
    assert rows(database_url, BALANCES) == rows(other_url, BALANCES)
    assert verify(database_url).sound


def test_a_file_that_two_import_at_once_is_applied_once(database_url: str, tmp_path: Path) -> None:
    source, destination = new_id(), new_id()
    file = tmp_path / "a"
    lines = [*books("a", source, destination, min_balance=None), *transfers(source, destination, GROUP_COMMANDS + 9)]
    file.write_bytes(file_of(*lines))
    urls = Urls(database_url, "redis://127.0.0.1:1/0", "redis://127.0.0.1:1/0")

    both = [subprocess.Popen([*COMMAND, "import", str(file)], env=environment(urls)) for _ in range(2)]

    assert [one.wait(timeout=120) for one in both] == [0, 0]
    assert (destination, GROUP_COMMANDS + 9, GROUP_COMMANDS + 9) in rows(database_url, BALANCES)
    assert verify(database_url).sound


def test_a_line_that_has_changed_since_is_refused(run: Run, database_url: str) -> None:
    source, destination = new_id(), new_id()
    lines = [*books("a", source, destination, min_balance=None), *transfers(source, destination, 2)]
    changed = [*lines[:-1], lines[-1] | {"amount": 2}]
    assert run("import", "--name", "x", "-", stdin=file_of(*lines)).returncode == 0

    done = run("import", "--name", "x", "-", stdin=file_of(*changed))

    assert done.returncode == 1
    assert b"line 5" in done.stderr
    assert b"id_reused: amount" in done.stderr


def test_a_corrected_file_under_its_first_name_applies_what_is_new(run: Run, database_url: str, tmp_path: Path) -> None:
    """What was malformed is corrected where it stands, what was refused at the end."""
    source, destination = new_id(), new_id()
    file = tmp_path / "a"
    good = [*books("a", source, destination), {"type": "opening_balance", "account_id": source, "amount": 3}]
    *wrong, last = transfers(source, destination, 4)
    lines = [*good, wrong[0] | {"amount": "1"}, *wrong[1:], last | {"amount": 2}]
    file.write_bytes(file_of(*lines))

    first = run("import", file)
    advice, _, named = first.stderr.decode().partition("--name ")
    name = named.partition(":")[0]
    lines[len(good)] = wrong[0]
    file.write_bytes(file_of(*lines, {"type": "opening_balance", "account_id": source, "amount": 1}))
    second = run("import", "--json", "--name", name, file)

    assert first.returncode == 1
    assert "line 5" in advice
    assert "line 8" in advice
    assert "insufficient_funds" in advice
    assert "correct a malformed line where it stands, put what was refused right at the file's end" in advice
    assert "money moves twice" in named
    assert (told(second)[-1]["statuses"], told(second)[-1]["known"]) == ({"applied": 8, "insufficient_funds": 1}, 7)
    assert (source, 1, 5) in rows(database_url, BALANCES)
