"""A message on its way through the worker: what it asks for, and what must be known to answer it."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import time
from typing import Any, Protocol

from celery import Task
from celery.worker import state

from models.commands import Batch
from models.dead_letters import Reason
from worker.engine.decide import Item
from worker.intake.door import Delivery, dead_letter


class Source(Protocol):
    """Where messages were claimed: the transport's channel. Callable from any thread."""

    def acknowledge(self, tags: Collection[str]) -> None:
        """Forget these messages, for ever, in one round trip."""
        ...

    def restore(self, tags: Collection[str], *, at: str = "head") -> None:
        """Put these messages back, at the `head` (the next to be claimed) or the `tail` of their queue."""
        ...

    def pause(self) -> None:
        """Claim no more until `resume`."""
        ...

    def resume(self) -> None:
        """Claim again."""
        ...


@dataclass(slots=True, eq=False, weakref_slot=True)
class Request:
    """One message. Celery's remote control sees it as it sees its own requests (`inspect`, `revoke`)."""

    delivery: Delivery
    item: Item
    headers: dict[str, Any]
    tag: str
    source: Source
    task: Task
    expires: datetime | None = None
    acknowledged: bool = False
    eventer: Any = None
    time_start: float | None = None
    received_at: float = field(default_factory=time)
    _eta_timer_entry: Any = None

    @property
    def id(self) -> str:
        """Celery's id of the message, which is not the command's."""
        return self.delivery.task_id

    @property
    def name(self) -> str:
        """The task's name: the command's type."""
        return self.delivery.task

    @property
    def size(self) -> int:
        """How many commands it carries."""
        return len(self.item.members) if isinstance(self.item, Batch) else 1

    @property
    def wants_result(self) -> bool:
        """Whether its sender asked for the outcome."""
        ignored = self.headers.get("ignore_result")
        return not (self.task.ignore_result if ignored is None else ignored)

    def bury(self, reason: Reason, detail: str) -> None:
        """Make it a dead letter."""
        self.item = dead_letter(self.delivery, reason, detail, self.item)

    def overtaken(self) -> Reason | None:
        """Say whether it was revoked or has expired by now."""
        if self.expires is not None and datetime.now(UTC) > self.expires:
            return Reason.EXPIRED
        return Reason.REVOKED if self.id in state.revoked else None

    def info(self, safe: bool = False) -> dict[str, Any]:
        """Describe it for `celery inspect active`."""
        return {
            "id": self.id,
            "name": self.name,
            "type": self.name,
            "args": self.headers.get("argsrepr", ""),
            "kwargs": self.headers.get("kwargsrepr", ""),
            "hostname": None,
            "time_start": self.time_start,
            "acknowledged": self.acknowledged,
            "delivery_info": {"routing_key": self.delivery.queue},
            "worker_pid": None,
        }

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """Do nothing: a group that is being committed is not interrupted, and the rest goes back by itself."""

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """Do nothing more than `revoke` did: what was not decided becomes a dead letter with that reason."""
