"""The embedded stack: one PostgreSQL and one Valkey for as long as a `with` block lasts.

    with Stack(Path(".equipoise/stack")) as stack:
        print(stack.database_url, stack.broker_url)

Owns the folder (one stack a folder, several folders at once), starts both servers and ends them: at the block's end,
on exceptions, SIGINT and SIGTERM; and when the owner is killed, the kernel does (see `process.py`). Other commands
find a running stack through `running_stack`. What is in the folder stays: the next stack there has the same data. It
migrates nothing and knows nothing of Celery.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import stat
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn, Self

from worker.stack import postgres, valkey
from worker.stack.lock import lock_is_held, take_lock
from worker.stack.postgres import Postgres
from worker.stack.process import StackError, require_main_thread
from worker.stack.valkey import Appendfsync, Valkey

SOCKET_PATH_MAX_BYTES = 107
"""unix(7): `sun_path` has 108 bytes, with the final NUL."""
_LONGEST_SOCKET_NAME = max(postgres.SOCKET_NAME, valkey.SOCKET_NAME, key=len)
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")
"""What needs no quoting in a URL, in libpq's list of hosts, and in either server's settings."""


@dataclass(frozen=True)
class RunningStack:
    """Where a running stack is reached; the content of `stack.json`. The URLs hold passwords."""

    owner_pid: int
    postgres_pid: int
    valkey_pid: int
    database_url: str
    broker_url: str
    result_url: str
    client_url: str


def running_stack(folder: Path) -> RunningStack | None:
    """Return the stack that another process, or this one, keeps running in `folder`; None if there is none that is
    ready.
    """
    if not lock_is_held(folder / "stack.lock"):
        return None
    try:
        return RunningStack(**json.loads((folder / "stack.json").read_text()))
    except FileNotFoundError:
        return None


class Stack:
    """A context manager around both servers; enter it in the main thread.

    Inside, `postgres` and `valkey` can be stopped, killed and restarted one by one; their URLs stay. Entering raises
    StackError if another live stack has the folder, if the folder is not ours alone, or if a server does not start.
    """

    def __init__(self, folder: Path, *, appendfsync: Appendfsync = "everysec", valkey_port: int | None = None) -> None:
        """Describe a stack in `folder`, which is made when missing; for the other arguments see `Valkey`."""
        self.folder = folder.resolve()
        self._sockets = _socket_folder(self.folder)
        self._announcement = self.folder / "stack.json"
        self._ready = False
        self._exit = ExitStack()
        self.postgres = Postgres(self.folder, self._sockets, self._announce)
        self.valkey = Valkey(self.folder, self._sockets, self._announce, appendfsync=appendfsync, port=valkey_port)

    @property
    def database_url(self) -> str:
        """For SQLAlchemy, with psycopg."""
        return self.postgres.url

    @property
    def broker_url(self) -> str:
        """For kombu and Celery."""
        return self.valkey.broker_url

    @property
    def result_url(self) -> str:
        """For Celery's result backend."""
        return self.valkey.result_url

    def __enter__(self) -> Self:
        require_main_thread("a stack")
        with ExitStack() as undo:
            undo.callback(_end_on_sigterm())
            _make_private(self.folder)
            undo.callback(os.close, self._take_folder())
            undo.callback(self._forget)
            self._forget()  # what a killed owner left
            _make_private(self._sockets)
            if self._sockets.parent != self.folder:
                undo.callback(shutil.rmtree, self._sockets)
            for server in (self.valkey, self.postgres):
                undo.callback(server.stop)
                server.start()
            self._ready = True
            self._announce()
            self._exit = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def _take_folder(self) -> int:
        lock_path = self.folder / "stack.lock"
        lock = take_lock(lock_path)
        if lock is None:
            raise StackError(
                f"{self.folder} is in use by the stack of process {lock_path.read_text()}: "
                "end that one, or name another folder"
            )
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        return lock

    def _announce(self) -> None:
        """Write `stack.json`, whole or not at all; called at each start of a server, since its pid is another then."""
        if not self._ready or self.postgres.pid is None or self.valkey.pid is None:
            return
        running = RunningStack(
            owner_pid=os.getpid(),
            postgres_pid=self.postgres.pid,
            valkey_pid=self.valkey.pid,
            database_url=self.database_url,
            broker_url=self.broker_url,
            result_url=self.result_url,
            client_url=self.valkey.client_url,
        )
        unfinished = self._announcement.with_suffix(".unfinished")
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(asdict(running), indent=2) + "\n")
        unfinished.replace(self._announcement)

    def _forget(self) -> None:
        self._ready = False
        self._announcement.unlink(missing_ok=True)


def _end_on_sigterm() -> Callable[[], None]:
    """Let SIGTERM unwind the stack, unless the program has its own way to end; returns what puts it back."""
    previous = signal.getsignal(signal.SIGTERM)
    if previous is not signal.SIG_DFL:
        return lambda: None

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)  # the status a shell gives to what a signal ended

    signal.signal(signal.SIGTERM, end)

    def restore() -> None:
        signal.signal(signal.SIGTERM, previous)

    return restore


def _socket_folder(folder: Path) -> Path:
    """Where the sockets of a stack in `folder` go: inside it, or where that path is too long or too odd, in the
    temporary folder.
    """
    inside = folder / "sockets"
    if _fits(inside):
        return inside
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    outside = Path(tempfile.gettempdir()) / f"equipoise-{os.geteuid()}-{digest}"
    if not _fits(outside):
        raise StackError(f"no short, plain path for sockets: {outside}; set TMPDIR to another folder")
    return outside


def _fits(sockets: Path) -> bool:
    longest = str(sockets / _LONGEST_SOCKET_NAME)
    return _PLAIN_PATH.fullmatch(longest) is not None and len(longest) <= SOCKET_PATH_MAX_BYTES


def _make_private(folder: Path) -> None:
    """Make the folder, for us alone; one that is there already must be so. Raises StackError where it is not."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise StackError(
            f"{folder} must be a folder of this user that nobody else can enter: "
            "chmod 700 it, or name one that is not there yet"
        )
