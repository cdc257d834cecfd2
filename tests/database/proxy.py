"""A proxy in front of PostgreSQL that can lose a COMMIT, or the answer to one, and the connection with it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from sqlalchemy.engine import make_url

Loss = Literal["commit", "answer"]


class Proxy:
    """Passes bytes between sessions and the server; `lose` arms it for the next COMMIT of any session, once."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.lose: Loss | None = None
        self.lost: list[Loss] = []
        self._server = server

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # closed: the test is over
            threading.Thread(target=self._session, args=(client,), daemon=True).start()

    def _session(self, client: socket.socket) -> None:
        host, port = self._server
        if host.startswith("/"):
            upstream = socket.socket(socket.AF_UNIX)
            upstream.connect(f"{host}/.s.PGSQL.{port}")
        else:
            upstream = socket.create_connection((host, port))
        deaf = threading.Event()
        answers = threading.Thread(target=_pump, args=(upstream, client, deaf), daemon=True)
        answers.start()
        with client, upstream:
            while request := client.recv(65_536):
                if self.lose is not None and b"COMMIT" in request:
                    loss, self.lose = self.lose, None
                    self.lost.append(loss)
                    deaf.set()
                    if loss == "answer":
                        upstream.sendall(request)
                        upstream.shutdown(
                            socket.SHUT_WR
                        )  # the server commits what it has read, and then ends the session
                        answers.join()
                    break
                upstream.sendall(request)
            client.shutdown(socket.SHUT_RDWR)
            upstream.shutdown(socket.SHUT_RDWR)
            answers.join()


def _pump(upstream: socket.socket, client: socket.socket, deaf: threading.Event) -> None:
    while answer := upstream.recv(65_536):
        if not deaf.is_set():
            client.sendall(answer)


@contextmanager
def proxied(url: str, folder: Path) -> Iterator[tuple[Proxy, str]]:
    """Put a proxy in front of the server of a database's URL; gives it, and the URL through it."""
    parsed = make_url(url)
    host, port = parsed.query.get("host", parsed.host), parsed.query.get("port", parsed.port or 5432)
    assert isinstance(host, str)
    proxy = Proxy((host, int(port)))  # type: ignore[arg-type]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / ".s.PGSQL.5432"))
        listener.listen()
        server = threading.Thread(target=proxy.serve, args=(listener,), daemon=True)
        server.start()
        through = parsed.set(host=None, port=None, query={"host": str(folder), "port": "5432"})
        yield proxy, through.render_as_string(hide_password=False)
        listener.shutdown(socket.SHUT_RDWR)
        server.join()
