"""How commands end: an expected failure is one line and a status; Ctrl-C is quiet and leaves nothing."""

import os
import pty
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import COMMAND, call, environment
from tests.conftest import libpq
from tests.factories import new_id
from tests.waiting import wait_until
from worker.settings import Urls

AWAY = Urls("postgresql://nobody@127.0.0.1:1/nothing", "redis://127.0.0.1:1/0", "redis://127.0.0.1:1/0")


def failed(done: subprocess.CompletedProcess[bytes], status: int) -> str:
    """Give the one line of a failure."""
    assert (done.returncode, done.stdout) == (status, b""), done.stderr.decode()
    line = done.stderr.decode()
    assert line.startswith("equipoise: ")
    assert line.count("\n") == 1
    return line


READING = [
    ["account", "x"],
    ["statement", "x"],
    ["transfers", "--ledger", "x"],
    ["trace", "x"],
    ["verify"],
    ["dead", "list"],
    ["migrate"],
]


def test_without_servers_it_says_what_to_do(home: Path) -> None:
    assert "equipoise up" in failed(call("verify", urls=None, EQUIPOISE_HOME=str(home)), 69)


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_a_database_that_is_away_is_one_line(arguments: list[str]) -> None:
    assert "database" in failed(call(*arguments, urls=AWAY), 69)


@pytest.mark.parametrize(
    "arguments", [["send", "-"], ["send", "--wait", "-"], ["send", "--ordered", "-"]], ids=" ".join
)
def test_a_broker_that_is_away_is_one_line(arguments: list[str]) -> None:
    assert "broker" in failed(call(*arguments, urls=AWAY, stdin=b"{}\n"), 69)


@pytest.mark.parametrize("arguments", [["account", new_id()], ["verify"], ["dead", "list"]], ids=lambda it: it[0])
def test_a_database_that_is_not_migrated_is_one_line(arguments: list[str], empty_database_url: str) -> None:
    urls = AWAY._replace(database_url=libpq(empty_database_url))

    assert "equipoise migrate" in failed(call(*arguments, urls=urls), 78)


@pytest.mark.parametrize("url", ["nonsense", "sqlite://"])
def test_a_wrong_database_url_is_one_line(url: str) -> None:
    assert "EQUIPOISE_DATABASE_URL" in failed(call("verify", urls=AWAY._replace(database_url=url)), 78)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    assert "No such file" in failed(call("send", str(tmp_path / "none"), urls=AWAY), 66)
    assert "folder" in failed(call("send", str(tmp_path), urls=AWAY), 66)


@pytest.mark.parametrize("given", ["<&-", "0>/dev/null"], ids=["closed", "only written"])
@pytest.mark.parametrize("arguments", [["send"], ["send", "--ordered"], ["import"], ["account"]], ids=" ".join)
def test_standard_input_that_cannot_be_read_is_one_line(arguments: list[str], given: str, urls: Urls) -> None:
    command = ["sh", "-c", f'exec "$@" {given}', "sh", *COMMAND, *arguments, "-"]

    done = subprocess.run(command, env=environment(urls), capture_output=True, check=False, timeout=60)

    assert "cannot read standard input" in failed(done, 66)


@pytest.mark.parametrize("arguments", [["dead", "list"], ["transfers", "--ledger", "x"]], ids=" ".join)
def test_a_limit_beyond_all_numbers_is_not_understood(arguments: list[str], urls: Urls) -> None:
    assert call(*arguments, "--json", "--limit", str(2**63), urls=urls).returncode == 2


def test_what_is_not_understood_is_a_status_of_its_own() -> None:
    assert call("unheard-of", urls=None).returncode == 2
    assert call("statement", "x", "--at", "yesterday", urls=AWAY).returncode == 2
    assert call("statement", "x", "--at", "2026-11-23T12:00:00", urls=AWAY).returncode == 2


def test_migrating_twice_is_as_good_as_once(empty_database_url: str) -> None:
    urls = AWAY._replace(database_url=empty_database_url)

    first, second = call("migrate", urls=urls), call("migrate", urls=urls)

    assert (first.returncode, first.stdout) == (0, second.stdout)
    assert call("verify", urls=urls).returncode == 0


@pytest.mark.parametrize(("ending", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_is_ended_while_waiting_is_quiet(ending: signal.Signals, status: int, quiet_urls: Urls) -> None:
    sender = subprocess.Popen(
        [*COMMAND, "send", "--wait", "-"],
        env=environment(quiet_urls),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert sender.stdin is not None
    # The broker's connection is made once everything is imported, and after that it only waits.
    wait_until(lambda: bool(psutil.Process(sender.pid).net_connections("all")))

    sender.send_signal(ending)

    assert sender.communicate(timeout=60) == (b"", b"")
    assert sender.returncode == status


def in_a_terminal(*arguments: str, **more: str) -> bytes:
    """Run a command with a terminal for its output, and give what it wrote."""
    ours, theirs = pty.openpty()
    done = subprocess.Popen(
        [*COMMAND, *arguments], env=environment(None, TERM="xterm-256color", **more), stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    written = b""
    try:
        while chunk := os.read(ours, 65_536):
            written += chunk
    except OSError:
        pass  # Linux's way to say that nobody has the other end any more
    os.close(ours)
    done.wait()
    return written


def test_no_color_is_honoured() -> None:
    colour = b"\x1b[3"  # ESC [ 30 to 39: a colour

    assert colour in in_a_terminal("--help").replace(b"\x1b[1;3", b"\x1b[3")
    assert colour not in in_a_terminal("--help", NO_COLOR="1").replace(b"\x1b[1;3", b"\x1b[3")
