"""Waiting: a doorbell for each queue, which rings when something is in it, and one for other threads to ring.

A waiting connection sends `BLMOVE q q RIGHT RIGHT`, which puts the last message back where it was: it moves nothing,
so that nothing can be lost while we wait. What is in the queue is claimed afterwards, see `claims.py`; `transport.py`
owns the doorbells and waits for all of them at once.
"""

import logging
import socket
import threading
from time import monotonic
from typing import Any, cast

from redis.connection import AbstractConnection
from redis.exceptions import ResponseError

log = logging.getLogger(__name__)

WAIT_S = 1
"""Seconds after which the server answers that nothing came, so that a dead connection is noticed."""

OVERDUE_S = 10
"""Seconds beyond `WAIT_S` after which we ask anew on a new connection: the old one is dead, or its answer was not
wanted for so long that it says nothing any more."""


class Doorbell:
    """Rings when a list holds something, on a connection of its own."""

    def __init__(self, connection: AbstractConnection, key: str) -> None:
        self._connection: Any = connection  # redis-py says little of the types of this class
        self._key = key
        self._asked_at: float | None = None
        self._silent_until = 0.0

    @property
    def silent(self) -> bool:
        """Whether the server has just refused to answer, so that there is no use in asking."""
        return monotonic() < self._silent_until

    def listen(self) -> socket.socket:
        """Ask the server, unless it was asked already, and return the socket that becomes readable with its answer."""
        if self._asked_at is not None and monotonic() - self._asked_at > WAIT_S + OVERDUE_S:
            self.close()
        if self._asked_at is None:
            self._connection.send_command("BLMOVE", self._key, self._key, "RIGHT", "RIGHT", WAIT_S)
            self._asked_at = monotonic()
        return cast(socket.socket, self._connection._sock)

    def answer(self) -> None:
        """Read the server's answer, whatever it is: who wants the message claims it.

        A server at its `maxmemory` refuses to answer, though not to hand out what is there: nothing is asked of it then
        for `WAIT_S`, while the queue is looked at all the same.
        """
        self._asked_at = None
        try:
            self._connection.read_response()
        except ResponseError as error:
            self._silent_until = monotonic() + WAIT_S
            log.warning("Not told of what comes in on %s: %s", self._key, error)

    def close(self) -> None:
        """Hang up. The server then forgets that it was asked."""
        self._asked_at = None
        self._connection.disconnect()


class Wake:
    """Ends the wait of one thread on behalf of another. Opened by the first that waits, and again after a close."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pair: tuple[socket.socket, socket.socket] | None = None

    def listen(self) -> socket.socket:
        """Return the socket that is readable once somebody rang."""
        with self._lock:
            if self._pair is None:
                self._pair = socket.socketpair()
                for end in self._pair:
                    end.setblocking(False)
            return self._pair[0]

    def ring(self) -> None:
        """End the wait, the present one or the next. Rings that nobody waits for count as one."""
        with self._lock:
            if self._pair is not None:
                try:
                    self._pair[1].send(b"\0")
                except BlockingIOError:
                    return  # thousands of rings lie there unheard: one more says nothing new

    def answer(self) -> None:
        """Take note of all rings so far."""
        with self._lock:
            if self._pair is not None:
                self._pair[0].recv(65536)

    def close(self) -> None:
        """Let go of both ends."""
        with self._lock:
            if self._pair is not None:
                for end in self._pair:
                    end.close()
                self._pair = None
