"""Dead letters, as people and programs look at them: newest first, or one whole."""

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, text

from models.fields import is_id
from models.outcomes import timestamp

LETTERS_AT_ONCE = 500
"""Letters a page; their bodies, 16 MiB at most each, stay where they are."""

_SHORT = "id::text, created_at, reason, detail, task, queue, command_id::text, length(body) AS bytes"
_PAGE = text(
    f"""
    SELECT {_SHORT} FROM equipoise.dead_letters
    WHERE (cast(:created_at AS timestamptz) IS NULL
           OR (created_at, id) < (cast(:created_at AS timestamptz), cast(:id AS uuid)))
    ORDER BY created_at DESC, id DESC LIMIT :count
    """  # noqa: S608  # of our own constants
)
_OF_COMMAND = text(
    f"""
    SELECT {_SHORT} FROM equipoise.dead_letters WHERE command_id = cast(:id AS uuid) ORDER BY created_at, id
    """  # noqa: S608
)
_WHOLE = text(
    f"SELECT {_SHORT}, task_id, body FROM equipoise.dead_letters WHERE id = cast(:id AS uuid)"  # noqa: S608
)


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter without its body."""

    id: str
    created_at: datetime
    reason: str
    detail: str
    task: str
    queue: str
    command_id: str | None
    bytes: int

    def as_json(self) -> dict[str, object]:
        """Give it for programs; `command_id` only where it could be read."""
        told: dict[str, object] = {
            "id": self.id,
            "created_at": timestamp(self.created_at),
            "reason": self.reason,
            "detail": self.detail,
            "task": self.task,
            "queue": self.queue,
        }
        return told | ({"command_id": self.command_id} if self.command_id else {}) | {"bytes": self.bytes}


@dataclass(frozen=True, slots=True)
class WholeLetter:
    """A dead letter with its body and Celery's id of its message."""

    letter: Letter
    task_id: str
    body: bytes

    def as_json(self) -> dict[str, object]:
        """Give it for programs: the body as text where it is UTF-8, else as `body_base64`."""
        try:
            body = {"body": self.body.decode("utf-8")}
        except UnicodeDecodeError:
            body = {"body_base64": b64encode(self.body).decode()}
        return self.letter.as_json() | {"task_id": self.task_id} | body


def newest(engine: Engine) -> Iterator[Letter]:
    """Give all letters, newest first, a transaction a page."""
    place: dict[str, Any] = {"created_at": None, "id": None}
    while True:
        with engine.connect() as connection:
            page = [Letter(*row) for row in connection.execute(_PAGE, place | {"count": LETTERS_AT_ONCE})]
        yield from page
        if len(page) < LETTERS_AT_ONCE:
            return
        place = {"created_at": page[-1].created_at, "id": page[-1].id}


def of_command(connection: Connection, command_id: str) -> list[Letter]:
    """Give the letters that carried a command's id, oldest first."""
    return [Letter(*row) for row in connection.execute(_OF_COMMAND, {"id": command_id})]


def find(engine: Engine, id: str) -> WholeLetter | None:
    """Give one letter whole; None where there is none."""
    if not is_id(id):
        return None
    with engine.connect() as connection:
        row: Row[Any] | None = connection.execute(_WHOLE, {"id": id}).one_or_none()
    return None if row is None else WholeLetter(Letter(*tuple(row)[:-2]), row.task_id, bytes(row.body))
