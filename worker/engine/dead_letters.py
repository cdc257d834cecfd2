"""Dead letters into their table, in the transaction of the group they came in. `worker.reading` finds them again."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from models.dead_letters import DeadLetter

# A redelivered message finds its row and leaves it as it was. (ON CONFLICT takes no predicate lock on some
# minors; nothing is decided by what it finds here.)
_STORE = text(
    """
    INSERT INTO equipoise.dead_letters (id, reason, detail, task, task_id, queue, command_id, body)
    VALUES (:id, :reason, :detail, :task, :task_id, :queue, :command_id, :body)
    ON CONFLICT (id) DO NOTHING
    """
)


MAX_KEPT_BYTES = 32 * 1024 * 1024
"""Twice the largest message that could be replayed. Redis takes messages of 512 MB, and a letter that cannot be stored
would keep all others waiting."""


def store(connection: Connection, letters: Sequence[DeadLetter]) -> None:
    """Keep these messages with their reasons."""
    if letters:
        connection.execute(
            _STORE,
            [
                {
                    "id": letter.id,
                    "reason": letter.reason.value,
                    "detail": _storable(_detail(letter)),
                    "task": _storable(letter.task),
                    "task_id": _storable(letter.task_id),
                    "queue": _storable(letter.queue),
                    "command_id": letter.command_id,
                    "body": letter.body[:MAX_KEPT_BYTES],
                }
                for letter in letters
            ],
        )


def _detail(letter: DeadLetter) -> str:
    if len(letter.body) <= MAX_KEPT_BYTES:
        return letter.detail
    return f"{letter.detail} (the first {MAX_KEPT_BYTES} of {len(letter.body)} bytes are kept)"


def _storable(value: str) -> str:
    """Write what PostgreSQL's text cannot hold (NUL, lone surrogates) as escapes; the body keeps the bytes."""
    return value.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
