"""What the command `import` says of lines that were not applied, and of files that are none."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_endings import failed
from tests.factories import new_id
from tests.porting.conftest import Run, rows
from tests.porting.files import books, file_of, told, transfers
from worker.cli.endings import Failed, Status
from worker.cli.porting import import_
from worker.engine.settle import Settlement


def test_what_is_refused_or_malformed_is_named_with_its_line(run: Run, database_url: str) -> None:
    source, destination, id = new_id(), new_id(), new_id()
    lines = file_of(*books("a", source, destination)).splitlines()
    lines += [
        b"",
        b"{",
        b'{"type": "transfers.post", "id": "%s", "amount": 1.5}' % id.encode(),
        b'{"type": "nothing"}',
        *file_of(*transfers(source, destination, 1)).splitlines(),
    ]

    done = run("import", "--json", "--name", "x", "-", stdin=b"\r\n".join(lines))
    dead = rows(database_url, "SELECT count(*) FROM equipoise.dead_letters")

    *refused, summary = told(done)
    assert [(it["line"], it["status"]) for it in refused] == [
        (5, "malformed"),
        (6, "malformed"),
        (7, "malformed"),
        (8, "insufficient_funds"),
    ]
    assert refused[1] == {
        "line": 6, "id": id, "type": "transfers.post", "status": "malformed",
        "detail": "amount: a number with a fraction or exponent (1.5)",
    }  # fmt: skip
    assert summary["statuses"] == {"applied": 3, "insufficient_funds": 1, "malformed": 3}
    assert (summary["refused"], summary["name"], dead) == (4, "x", [(0,)])
    assert done.returncode == 1
    assert done.stderr == b"equipoise: not applied: 4\n"


def test_people_are_told_of_the_first_refusals_and_how_many_more(run: Run) -> None:
    done = run("import", "-", stdin=b'{"\x1b[2J\n' * 30)

    shown = done.stderr.decode().splitlines()
    assert [line.split(":")[1] for line in shown[:20]] == [f" line {number}" for number in range(1, 21)]
    assert shown[20] == "equipoise: and 10 more (--json names all)"
    assert shown[21] == "equipoise: not applied: 30"
    assert "\x1b" not in done.stderr.decode()
    assert len(told(run("import", "--json", "-", stdin=b"{\n" * 30))) == 31


def test_a_batch_is_counted_by_its_members(run: Run) -> None:
    first, second = books("a", new_id())
    wrong = second | {"id": new_id(), "ledger": "b", "account_id": new_id()}
    members: list[Any] = [first | {"id": new_id()}, [second | {"id": new_id()}], wrong, {"type": "x"}]

    done = run("import", "--json", "-", stdin=file_of({"type": "batch", "id": new_id(), "commands": members}))

    *refused, summary = told(done)
    assert summary["statuses"] == {"applied": 2, "ledger_not_found": 1, "malformed": 1}
    assert [(it["line"], it.get("id"), it["status"]) for it in refused] == [
        (1, wrong["id"], "ledger_not_found"),
        (1, None, "malformed"),
    ]


def test_a_pipe_needs_a_name_for_lines_without_ids(run: Run) -> None:
    done = run("import", "-", stdin=file_of(*books("a")))

    assert done.returncode == 1
    assert b"--name" in done.stderr


def test_a_dry_run_judges_and_stores_nothing(run: Run, database_url: str) -> None:
    lines = file_of(*books("a", new_id())) + b"{\n"

    done = run("import", "--dry-run", "--json", "--name", "x", "-", stdin=lines)

    assert done.returncode == 1
    assert told(done)[-1]["statuses"] == {"malformed": 1, "sound": 2}
    assert rows(database_url, "SELECT count(*) FROM equipoise.inbox") == [(0,)]


@pytest.mark.parametrize("content", [b"", b"\n\r\n \n", b"\xef\xbb\xbf"], ids=["empty", "blank", "a mark"])
@pytest.mark.parametrize("written", ["jsonl", "csv"])
def test_a_file_of_nothing_is_imported(content: bytes, written: str, run: Run) -> None:
    done = run("import", "--json", "--format", written, "-", stdin=content)

    assert (done.returncode, told(done)[-1]["statuses"]) == (0, {})


@pytest.mark.parametrize("arguments", [[], ["--dry-run"]], ids=["malformed", "dry run"])
def test_where_nothing_was_settled_nothing_is_said_of_doing_it_again(
    arguments: list[str], run: Run, tmp_path: Path
) -> None:
    lines = [b'{"type": "ledgers.open", "ledger": 1}\n', *(file_of(*books("a")) for _ in arguments)]
    (tmp_path / "a").write_bytes(b"".join(lines))

    assert run("import", *arguments, tmp_path / "a").stderr.endswith(b"equipoise: not applied: 1\n")


def test_a_table_by_another_name_is_told_of_the_format(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"type,ledger,currency,scale\nledgers.open,a,EUR,2\n")

    first, second, _ = run("import", tmp_path / "a.txt").stderr.splitlines()

    assert b"a table needs --format csv" in first
    assert b"--format" not in second


def test_what_is_no_file_of_commands_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(os.urandom(1000).replace(b"\n", b""))

    assert "column" in failed(run("import", tmp_path / "a.csv"), 65)
    assert "column" in failed(run("import", "--format", "csv", "-", stdin=b"type,amuont\n"), 65)
    assert "No such file" in failed(run("import", tmp_path / "none"), 66)
    assert "directory" in failed(run("import", tmp_path), 66)
    assert run("import", "--format", "xlsx", "-").returncode == 2
    assert run("import", "--name", "", "-").returncode == 2
    assert "Input/output error" in failed(run("import", "/proc/self/mem"), 66)


def test_a_type_that_utf_8_cannot_write_is_told_to_programs(run: Run) -> None:
    done = run("import", "--json", "-", stdin=b'{"type":"\\ud800"}')

    assert (done.returncode, told(done)[0]["type"]) == (1, "\\ud800")


def test_a_file_that_grows_while_it_is_read_is_told_of(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], database_url: str, tmp_path: Path
) -> None:
    """Its ids are of what it held before: imported as it is now, it would be another import."""
    monkeypatch.setenv("EQUIPOISE_DATABASE_URL", database_url)
    file = tmp_path / "a"
    file.write_bytes(file_of(*books("a", new_id())))
    settle = Settlement.__call__

    def grow(self: Settlement, items: Any) -> Any:
        with file.open("ab") as more:
            more.write(b"\n")
        return settle(self, items)

    monkeypatch.setattr(Settlement, "__call__", grow)
    name = hashlib.sha256(file.read_bytes()).hexdigest()

    with pytest.raises(Failed) as ended:
        import_(str(file), json=True)

    assert ended.value.status == Status.DATA
    assert f"the file changed while it was read; import it again with --name {name}: " in str(ended.value)
    assert json.loads(capfd.readouterr().out)["statuses"] == {"applied": 2}
