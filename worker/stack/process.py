"""One server of the embedded stack as a child of ours: started, awaited, stopped, killed, and dead when we are.

`postgres.py` and `valkey.py` say what to run and when it is ready; `stack.py` puts the two together; `child.py` is
what is executed first in the new process. Servers are foreground children, never daemons, and keep everything in the
stack's folder.

Two things keep a server from outliving its owner. The kernel signals it when the thread that started it ends:
therefore only the main thread may start one. And each server and all its children inherit the descriptor of a lock
file: while it is held, something of the server lives, and no other is started in its place.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import ClassVar

from worker.stack import child
from worker.stack.lock import take_lock

READY_WAIT_S = 60.0
"""From start to the first answer: 0.1 s as a rule; recovery after a crash replays up to `max_wal_size` (1 GB) of
log."""
STOP_WAIT_S = 30.0
"""PostgreSQL writes what is dirty (256 MB at most) before it ends; what takes longer is killed, and recovers."""
GONE_WAIT_S = 10.0
"""From SIGKILL to the end of the last process: milliseconds. SIGQUIT lets PostgreSQL take 5 s before it kills its
own."""
POLL_S = 0.005
LOG_MAX_BYTES = 16 * 1024 * 1024
"""A log that is longer when its server starts is put aside as `.log.old`; the one before that is gone."""
LOG_TAIL_LINES = 15


class StackError(Exception):
    """The embedded stack cannot do what was asked; the message says why and what to do, in words for whoever called."""


def require_main_thread(what: str) -> None:
    """Raise StackError in any thread but the main one, whose end is the process's end."""
    if threading.current_thread() is not threading.main_thread():
        raise StackError(f"start {what} in the main thread: a server dies with the thread that started it")


@contextmanager
def signals_held() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the block's end, so that what it makes is known to whoever must end it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def named_program(path: Path, variable: str) -> Path:
    """Give the program that the environment chose by `variable`; raises StackError where it is none."""
    if not os.access(path, os.X_OK):
        raise StackError(f"{path} is no program: correct {variable}, or unset it")
    return path


class Server(ABC):
    """A server that lives in `folder/name` and logs to `folder/name.log`.

    Start it from the main thread only. Any thread may stop or kill it; one at a time.
    """

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]
    """Asks for an orderly end."""
    death_signal: ClassVar[signal.Signals]
    """Sent by the kernel when the owner is gone; must end the server and all its children at once."""
    refuses_root: ClassVar[bool] = False

    def __init__(self, folder: Path, on_start: Callable[[], None] = lambda: None) -> None:
        """Describe a server; nothing is started. `on_start` is called after each start, once the server answers."""
        self.folder = folder / self.name
        self.log_path = folder / f"{self.name}.log"
        self._lock_path = folder / f"{self.name}.lock"
        self._on_start = on_start
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id; None while it does not run."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    def ended_within(self, timeout_s: float) -> bool:
        """Wait for the server's end, for so long at most; say whether it has come."""
        if self._process is None:
            return True
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def start(self) -> None:
        """Start the server and return once it answers.

        First waits (10 s at most) for what an earlier owner left dying in the folder. Raises StackError, with the last
        lines of the log, if the server ends or does not answer in time; nothing is left running then.
        """
        require_main_thread(self.name)
        if self.pid is not None:
            raise StackError(f"{self.name} is running already, as process {self.pid}")
        if not sys.platform.startswith("linux"):
            raise StackError(f"the embedded {self.name} needs Linux: {_ELSEWHERE}")

        log_start = self._open_log()
        lock = self._wait_for_lock()
        try:
            self._prepare(lock)
            with signals_held():
                self._process = self._spawn(self._command(), lock, cwd=self.folder)
            os.close(lock)  # from here on the server alone holds it
            lock = -1
            self._wait_until_ready(log_start)
        except _Ended as end:
            raise self._explain(end, log_start) from None
        finally:
            if lock != -1:
                os.close(lock)
        self._on_start()

    def stop(self) -> None:
        """End the server in good order, by force if it takes more than 30 s or we are interrupted; may be called
        again.
        """
        try:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(self.stop_signal)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(STOP_WAIT_S)
        finally:
            self.kill()

    def _end_at_once(self) -> None:
        """End a server that is starting as its owner's death would: without delay, but with its shared memory."""
        assert self._process is not None
        self._process.send_signal(self.death_signal)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GONE_WAIT_S)
        self.kill()

    def kill(self) -> None:
        """SIGKILL the server and all its children, as a crash of the machine would; returns when none is left."""
        if self._process is None:
            return
        if self._process.poll() is None:
            orphans = _children(self._process.pid)  # asked first: a moment later they are init's
            self._process.kill()
            for orphan in orphans:
                with suppress(ProcessLookupError):
                    os.kill(orphan, signal.SIGKILL)
        self._process.wait()
        self._process = None
        os.close(self._wait_for_lock())

    def restart(self) -> None:
        """Stop the server if it still runs and start it in place: same folder, same URL."""
        self.stop()
        self.start()

    @abstractmethod
    def _prepare(self, lock: int) -> None:
        """Make the folder ready; whatever this runs must inherit `lock`."""

    @abstractmethod
    def _command(self) -> list[str]:
        """What to execute: an absolute path and its arguments. Everybody can read them: no secrets."""

    def _environment(self) -> dict[str, str]:
        """What the server finds in its environment beyond ours: where secrets may stand."""
        return {}

    @abstractmethod
    def _refusal(self) -> str | None:
        """Say why the server does not answer yet; None once it does."""

    def _run(self, command: list[str], lock: int, cwd: Path) -> None:
        """Run a command to its end under the same guard as the server; raises _Ended unless it succeeds."""
        with ExitStack() as undo:
            with signals_held():
                process = self._spawn(command, lock, cwd)
                undo.callback(_end, process)
            status = process.wait(READY_WAIT_S)
        if status != 0:
            raise _Ended(Path(command[0]).name, status)

    def _spawn(self, command: list[str], lock: int, cwd: Path) -> subprocess.Popen[bytes]:
        identity = "ordinary-user" if self.refuses_root and os.geteuid() == 0 else "as-caller"
        guard = [sys.executable, "-I", "-S", child.__file__, str(os.getpid()), str(int(self.death_signal)), identity]
        # PG* are settings of the caller's clients and would become settings of the server.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        environment |= self._environment()
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                guard + command,
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                start_new_session=True,  # Ctrl-C in a terminal is for us alone; we stop the servers in our own order
            )

    def _wait_for_lock(self) -> int:
        deadline = time.monotonic() + GONE_WAIT_S
        while (lock := take_lock(self._lock_path)) is None:
            if time.monotonic() > deadline:
                raise StackError(f"an earlier {self.name} in {self.folder} is still running: end it first")
            time.sleep(POLL_S)
        return lock

    def _wait_until_ready(self, log_start: int) -> None:
        assert self._process is not None
        deadline = time.monotonic() + READY_WAIT_S
        try:
            while (refusal := self._refusal()) is not None:
                if (status := self._process.poll()) is not None:
                    raise _Ended(self.name, status)
                if time.monotonic() > deadline:
                    raise StackError(
                        f"{self.name} did not answer within {READY_WAIT_S:.0f} s: {refusal}\n"
                        f"{self._log_tail(log_start)}"
                    )
                time.sleep(POLL_S)
        except BaseException:
            self._end_at_once()
            raise

    def _explain(self, end: "_Ended", log_start: int) -> StackError:
        if end.status == child.NAMESPACE_REFUSED:
            return StackError(
                f"{self.name} does not run as root, and this machine forbids the user namespace that would help: "
                f"{_ELSEWHERE}"
            )
        advice = ""
        if end.status == child.CANNOT_EXECUTE and self.refuses_root and os.geteuid() == 0:
            advice = "; without root's privileges it cannot reach other users' folders: run this as their owner"
        outcome = f"signal {-end.status}" if end.status < 0 else f"status {end.status}"
        return StackError(
            f"{end.program} ended with {outcome}{advice}; from {self.log_path}:\n{self._log_tail(log_start)}"
        )

    def _open_log(self) -> int:
        """Make the log, for our eyes only, and return where this start's lines will begin."""
        if self.log_path.exists() and self.log_path.stat().st_size > LOG_MAX_BYTES:
            self.log_path.replace(self.log_path.with_suffix(".log.old"))
        self.log_path.touch(mode=0o600)
        return self.log_path.stat().st_size

    def _log_tail(self, log_start: int) -> str:
        with self.log_path.open("rb") as log:
            log.seek(log_start)
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-LOG_TAIL_LINES:])


class _Ended(Exception):
    """A program ended that should have run on, or failed that should have succeeded."""

    def __init__(self, program: str, status: int) -> None:
        super().__init__(program, status)
        self.program = program
        self.status = status


_ELSEWHERE = (
    "run this as another user than root on Linux, "
    "or use servers of your own: set EQUIPOISE_DATABASE_URL and EQUIPOISE_BROKER_URL"
)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program that prepares something; killed outright, its children would leave their shared memory behind."""
    process.terminate()
    try:
        process.wait(GONE_WAIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _children(pid: int) -> list[int]:
    """The process's children at this moment; the kernel lists them by the thread that forked them."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (thread / "children").read_text().split())
    return found
