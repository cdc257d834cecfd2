"""`up` and `demo` start everything themselves, and leave nothing behind, however they end."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import COMMAND, call, environment
from tests.waiting import wait_until
from worker.settings import Urls
from worker.stack.stack import running_stack


@pytest.fixture
def short_path() -> Iterator[Path]:
    """An empty folder with a short path, which a socket's needs: pytest's own are too long under xdist."""
    with tempfile.TemporaryDirectory(prefix="equipoise-test-") as folder:
        yield Path(folder)


@pytest.fixture
def short_home(short_path: Path) -> Path:
    """A folder for an embedded stack, which is not there yet."""
    return short_path / "home"


@contextmanager
def running(*arguments: str, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command beside the test; end it with the test."""
    with subprocess.Popen(
        [*COMMAND, *arguments], env=environment(None, **more), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ready(process: subprocess.Popen[bytes]) -> None:
    """Read what `up` says until it says that a worker is ready."""
    assert process.stdout is not None
    assert any(b"A worker is ready" in line for line in process.stdout)


def processes_with(path: Path) -> list[int]:
    """Find whoever runs with this path in its command line or its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            told = " ".join(process.cmdline()) + " ".join(process.environ().values())
        except psutil.Error:
            continue
        if str(path) in told and process.pid != os.getpid():
            found.append(process.pid)
    return found


@pytest.mark.parametrize(("ending", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_up_takes_commands_until_it_is_ended(ending: signal.Signals, status: int, short_home: Path) -> None:
    home = str(short_home)
    with running("up", EQUIPOISE_HOME=home) as up:
        ready(up)
        sent = call("send", "--wait", "-", urls=None, stdin=b'{"type":"nothing"}', EQUIPOISE_HOME=home)
        assert b'"malformed"' in sent.stdout

        up.send_signal(ending)

        _, errors = up.communicate()
        assert (up.returncode, errors) == (status, b"")
    assert processes_with(short_home) == []


def test_up_ends_when_its_worker_is_killed(short_home: Path) -> None:
    with running("up", EQUIPOISE_HOME=str(short_home)) as up:
        ready(up)
        (worker,) = (one for one in psutil.Process(up.pid).children() if "celery" in one.cmdline())

        worker.kill()

        _, errors = up.communicate()
        assert up.returncode == 69
        assert errors.startswith(b"equipoise: the worker ended with status -9")
    assert processes_with(short_home) == []


def test_nothing_outlives_up_when_it_is_killed(short_home: Path) -> None:
    with running("up", EQUIPOISE_HOME=str(short_home)) as up:
        ready(up)

        up.kill()

    wait_until(lambda: processes_with(short_home) == [])


def test_up_uses_the_servers_that_are_named(quiet_urls: Urls, short_home: Path) -> None:
    named = {f"EQUIPOISE_{name.upper()}": value for name, value in quiet_urls._asdict().items()}
    with running("up", EQUIPOISE_HOME=str(short_home), **named) as up:
        assert up.stdout is not None
        assert b"using the servers that EQUIPOISE_DATABASE_URL and EQUIPOISE_BROKER_URL name" in up.stdout.readline()
        ready(up)

        assert running_stack(short_home) is None
        assert b'"malformed"' in call("send", "--wait", "-", urls=quiet_urls, stdin=b'{"type":"nothing"}').stdout
        up.send_signal(signal.SIGINT)
        up.communicate()
        assert up.returncode == 130


def test_the_demo_shows_what_happened_and_leaves_nothing(short_path: Path) -> None:
    done = call("demo", urls=None, TMPDIR=str(short_path))

    assert done.returncode == 0, done.stderr.decode()
    shown = done.stdout.decode()
    for part in ("applied", "insufficient_funds", "transfers/s", "Platform fees", "malformed", "sound"):
        assert part in shown
    assert list(short_path.iterdir()) == []
    assert processes_with(short_path) == []


@pytest.mark.parametrize(
    "begun", ["", "postgres", "worker.log"], ids=["at once", "while starting", "while moving money"]
)
def test_a_demo_that_is_interrupted_leaves_nothing(begun: str, short_path: Path) -> None:
    with running("demo", TMPDIR=str(short_path)) as demo:
        wait_until(lambda: any(short_path.glob(f"equipoise-demo-*/{begun}" if begun else "equipoise-demo-*")))

        demo.send_signal(signal.SIGINT)

        _, errors = demo.communicate()
        assert (demo.returncode, errors) == (130, b"")
    assert list(short_path.iterdir()) == []
    assert processes_with(short_path) == []
