"""A stack starts for everybody, with what it had before, closed to all others; and says why when it cannot."""

import os
import socket
import stat
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.stack.owners import NOBODY, ROOT, await_stack, connect, inhabitants, launch, release
from worker.stack.process import StackError
from worker.stack.stack import Stack, running_stack


def test_a_stack_starts_for_root_and_for_an_ordinary_user(owned_folder: Path, identity: str) -> None:
    owner = launch(owned_folder, identity)

    running, uid = await_stack(owner)

    assert uid == (os.geteuid() if identity == "ourselves" else NOBODY)
    assert os.stat(f"/proc/{running.postgres_pid}").st_uid == uid
    assert owned_folder.stat().st_uid == (owned_folder / "postgres").stat().st_uid == uid
    assert release(owner) == 0
    assert inhabitants(owned_folder) == []


def test_postgres_runs_with_the_settings_that_keep_its_promises(stack: Stack) -> None:
    with connect(stack.database_url) as connection:
        settings: dict[str, str] = dict(connection.execute("SELECT name, setting FROM pg_settings").fetchall())

    assert settings["fsync"] == settings["synchronous_commit"] == settings["full_page_writes"] == "on"
    assert settings["data_checksums"] == "on"
    assert settings["max_pred_locks_per_transaction"] == "256"
    assert settings["max_prepared_transactions"] == "1000"
    assert settings["server_encoding"] == "UTF8"
    assert settings["listen_addresses"] == ""
    assert settings["default_transaction_isolation"] == "read committed"


def test_valkey_runs_with_the_settings_that_keep_its_promises(folder: Path) -> None:
    with Stack(folder, appendfsync="always") as stack, redis.Redis.from_url(stack.valkey.client_url) as client:
        settings = client.config_get("*")

    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "always"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["save"] == ""
    assert settings["port"] == "0"


def test_a_second_start_keeps_the_data(folder: Path) -> None:
    with Stack(folder) as stack:
        first_url = stack.database_url
        with connect(stack.database_url) as connection, redis.Redis.from_url(stack.valkey.client_url) as client:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS amount")
            client.rpush("commands", "kept")

    with Stack(folder) as stack:
        with connect(stack.database_url) as connection, redis.Redis.from_url(stack.valkey.client_url) as client:
            amount = connection.execute("SELECT amount FROM kept").fetchone()
            commands = client.lrange("commands", 0, -1)

        assert (amount, commands) == ((7,), [b"kept"])
        assert stack.database_url == first_url


def test_nothing_listens_on_tcp(stack: Stack) -> None:
    sockets = sockets_of(stack.postgres.pid) + sockets_of(stack.valkey.pid)

    listening = [inode for inode in sockets if inode in tcp_listeners()]

    assert sockets
    assert listening == []


def test_a_tcp_port_is_on_loopback_and_wants_a_password(folder: Path) -> None:
    with Stack(folder, valkey_port=0) as stack:
        port = stack.valkey.port
        assert port is not None
        with redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        addresses = [tcp_listeners()[inode] for inode in sockets_of(stack.valkey.pid) if inode in tcp_listeners()]

    assert addresses == [f"0100007F:{port:04X}"]


def test_everything_in_the_folder_is_closed_to_others(folder: Path) -> None:
    with Stack(folder, valkey_port=0):
        folders = {path.name: mode(path) for path in [folder, *folder.iterdir()] if path.is_dir()}
        files = {path.name: mode(path) for path in folder.iterdir() if path.is_file()}
        sockets = {path.name: mode(path) for path in (folder / "sockets").iterdir() if path.is_socket()}

    assert folders == {"stack": 0o700, "postgres": 0o700, "valkey": 0o700, "sockets": 0o700}
    assert set(files.values()) == {0o600}
    assert {"stack.json", "postgres.password", "valkey.password", "valkey.conf", "postgres.log"} <= set(files)
    assert sockets == {".s.PGSQL.5432": 0o700, "valkey.sock": 0o700}


@pytest.mark.parametrize("name", ["long" * 40, "a, b"], ids=["long", "odd"])
def test_a_long_or_odd_folder_has_its_sockets_elsewhere_while_it_runs(folder: Path, name: str) -> None:
    with Stack(folder / name) as stack:
        sockets = stack.postgres.sockets
        with connect(stack.database_url) as connection, redis.Redis.from_url(stack.valkey.client_url) as client:
            assert connection.execute("SELECT 1").fetchone() == (1,)
            assert client.ping()
        assert not sockets.is_relative_to(folder)
        assert mode(sockets) == 0o700

    assert not sockets.exists()


def test_sockets_never_go_into_a_folder_that_others_can_enter(folder: Path) -> None:
    stack = Stack(folder / ("long" * 40))
    stack.postgres.sockets.mkdir(mode=0o755)

    with pytest.raises(StackError, match="nobody else can enter"), stack:
        pass

    stack.postgres.sockets.rmdir()


def test_a_folder_open_to_others_is_refused(folder: Path) -> None:
    folder.mkdir(mode=0o755)

    with pytest.raises(StackError, match="nobody else can enter"), Stack(folder):
        pass


def test_two_stacks_run_at_once_in_two_folders(stack: Stack, folder: Path) -> None:
    with Stack(folder) as other:
        with connect(stack.database_url) as connection:
            connection.execute("CREATE TABLE here ()")
        with connect(other.database_url) as connection:
            found = connection.execute("SELECT to_regclass('here')").fetchone()

    assert found == (None,)


def test_a_folder_in_use_is_refused_and_its_stack_goes_on(stack: Stack) -> None:
    second = launch(stack.folder, "ourselves")
    _, complaint = second.communicate()

    assert second.returncode == 1
    assert f"in use by the stack of process {os.getpid()}" in complaint
    with pytest.raises(StackError, match=f"in use by the stack of process {os.getpid()}"), Stack(stack.folder):
        pass
    assert running_stack(stack.folder) is not None
    with connect(stack.database_url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_others_find_a_running_stack_and_only_a_running_one(folder: Path) -> None:
    before = running_stack(folder)
    with Stack(folder) as stack:
        during = running_stack(folder)
        expected = (os.getpid(), stack.database_url, stack.broker_url, stack.result_url)
    after = running_stack(folder)

    assert before is after is None
    assert during is not None
    assert (during.owner_pid, during.database_url, during.broker_url, during.result_url) == expected


def test_settings_of_the_callers_postgres_clients_are_not_ours(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PGPORT": "6000", "PGHOST": "nowhere", "PGDATABASE": "other", "PGDATA": "/nowhere"}.items():
        monkeypatch.setenv(name, value)

    stack.postgres.restart()

    with connect(stack.database_url) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == ("equipoise",)


def test_a_server_that_does_not_start_says_why_and_leaves_nothing_running(folder: Path) -> None:
    with Stack(folder):
        pass
    (folder / "postgres" / "PG_VERSION").write_text("9.6\n")

    with pytest.raises(StackError, match=r"(?s)postgres ended with status 1; from .*not compatible"), Stack(folder):
        pass

    assert inhabitants(folder) == []
    assert running_stack(folder) is None


def test_a_port_that_is_taken_is_named_in_the_error(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(StackError, match=rf"(?s)valkey ended .*{port}.*already in use"),
            Stack(folder, valkey_port=port),
        ):
            pass


def test_a_lost_password_is_named_in_the_error(folder: Path) -> None:
    (folder / "postgres").mkdir(mode=0o700, parents=True)
    folder.chmod(0o700)

    with pytest.raises(StackError, match="postgres.password is missing"), Stack(folder):
        pass


def test_servers_start_in_the_main_thread_only(folder: Path) -> None:
    refusals: list[str] = []

    def start() -> None:
        try:
            with Stack(folder):
                pass
        except StackError as error:
            refusals.append(str(error))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()

    assert refusals == ["start a stack in the main thread: a server dies with the thread that started it"]


if os.geteuid() == 0:  # nobody else needs a namespace

    def test_root_without_user_namespaces_is_told_what_to_do(folder: Path) -> None:
        owner = f"exec {sys.executable} -m tests.stack.owner {folder}"
        forbid = (
            "echo 0 > /proc/sys/user/max_user_namespaces"  # inside a namespace of its own: the machine keeps its limit
        )
        refused = subprocess.run(
            ["unshare", "--user", "--map-root-user", "sh", "-ec", f"{forbid}; {owner}"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip

        assert refused.returncode == 1
        assert refused.stderr.startswith("StackError: postgres does not run as root, and this machine forbids")
        assert "run this as another user than root" in refused.stderr
        assert "EQUIPOISE_DATABASE_URL" in refused.stderr
        assert inhabitants(folder) == []


def mode(path: Path) -> int:
    """The path's permissions."""
    return stat.S_IMODE(path.lstat().st_mode)


def sockets_of(pid: int | None) -> list[str]:
    """The inodes of a process's sockets."""
    links = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            links.append(str(descriptor.readlink()))
    return [link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:")]


def tcp_listeners() -> dict[str, str]:
    """The address of every listening TCP socket of this machine by its inode (proc(5), /proc/net/tcp)."""
    rows = [
        line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return {row[9]: row[1] for row in rows if row[3] == "0A"}
