"""Fixtures of the command line's tests: one database, one broker and one worker for all of them, and how to call it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.conftest import Servers, fresh_database
from worker.cli.serve import working
from worker.postgres.migrate import migrate
from worker.settings import ROOT, Urls

Environment = dict[str, str]
Equipoise = Callable[..., subprocess.CompletedProcess[bytes]]

COMMAND = [sys.executable, "-P", "-m", "worker.cli"]


def broker(url: str, number: int) -> str:
    """Name another database of the same server, and empty it: queues and results of other tests are not ours."""
    if url.startswith("redis+socket://"):
        path = url.removeprefix("redis+socket://").partition("?")[0]
        redis.Redis(unix_socket_path=path, db=number).flushdb()
        return f"redis+socket://{path}?virtual_host={number}"
    other = f"{url.rstrip('/').rpartition('/')[0] if url.count('/') > 2 else url}/{number}"
    redis.Redis.from_url(other).flushdb()
    return other


@pytest.fixture(scope="package")
def urls(servers: Servers) -> Iterator[Urls]:
    """A migrated database and a broker for the package."""
    with fresh_database(servers.database_url) as database_url:
        migrate(database_url)
        broker_url = broker(servers.broker_url, 11)
        yield Urls(database_url, broker_url, broker_url)


@pytest.fixture(scope="package")
def working_urls(urls: Urls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Urls]:
    """The same, with a worker that takes what is sent."""
    with working(tmp_path_factory.mktemp("worker"), urls):
        yield urls


@pytest.fixture
def quiet_urls(urls: Urls, servers: Servers) -> Urls:
    """The same database, and a broker from which nobody takes anything."""
    quiet = broker(servers.broker_url, 12)
    return Urls(urls.database_url, quiet, quiet)


def environment(urls: Urls | None = None, **more: str) -> Environment:
    """Make the environment of a command: these servers and no others."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("EQUIPOISE_")}
    named = {f"EQUIPOISE_{name.upper()}": value for name, value in urls._asdict().items()} if urls else {}
    return ours | named | {"PYTHONPATH": str(ROOT)} | more


def call(*arguments: str, urls: Urls | None, stdin: bytes = b"", **more: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(urls, **more),
        input=stdin,
        capture_output=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def equipoise(working_urls: Urls) -> Equipoise:
    """Call the command line with servers and a worker."""

    def run(*arguments: str, stdin: bytes = b"", **more: str) -> subprocess.CompletedProcess[bytes]:
        return call(*arguments, urls=working_urls, stdin=stdin, **more)

    return run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder for an embedded stack in which there is none."""
    return tmp_path / "home"
