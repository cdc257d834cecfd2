"""Celery's events, gathered as Flower does: by a receiver of its own thread, task by task."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from celery import Celery


class Watcher:
    """What was told of each task, in order: event types by task id, the events themselves, and counts by worker."""

    def __init__(self, app: Celery) -> None:
        self.types: dict[str, list[str]] = defaultdict(list)
        self.events: list[dict[str, Any]] = []
        self._app = app
        self._listening, self._enough = Event(), Event()
        self._thread = Thread(target=self._run)

    def count(self, type: str) -> dict[str, int]:
        """Count events of a type by worker."""
        counts: dict[str, int] = defaultdict(int)
        for event in list(self.events):
            if event["type"] == type:
                counts[event["hostname"]] += 1
        return counts

    def start(self) -> None:
        self._thread.start()
        assert self._listening.wait(30)

    def stop(self) -> None:
        self._enough.set()
        self._thread.join()

    def _run(self) -> None:
        with self._app.connection_for_read() as model:
            receiver = self._app.events.Receiver(model, handlers={"*": self._note})
            with receiver.consumer_context(wakeup=False) as (connection, _channel, _consumers):
                self._listening.set()
                while not self._enough.is_set():
                    try:
                        connection.drain_events(timeout=0.2)
                    except TimeoutError:
                        continue

    def _note(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        if event["type"].startswith("task-"):
            self.types[event["uuid"]].append(event["type"])


@contextmanager
def watching(app: Celery) -> Iterator[Watcher]:
    watcher = Watcher(app)
    watcher.start()
    try:
        yield watcher
    finally:
        watcher.stop()
