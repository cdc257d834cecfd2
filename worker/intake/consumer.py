"""Celery's consumer, made to survive poison and to carry the committing thread.

What the stock consumer logs and acknowledges, or dies of (an unknown task, no task at all, a body it cannot
decode, a request it cannot build), becomes a dead letter here. The transport has already turned what is no
Celery message into one of task `commands.unreadable`.
"""

import gc
import logging
from collections.abc import Callable
from typing import Any

from celery import bootsteps
from celery.exceptions import ImproperlyConfigured
from celery.worker.consumer import Consumer as StockConsumer

from worker.engine.settle import Settlement
from worker.intake.answers import AWAY, Answers
from worker.intake.committer import Committer, CommitterEndedError
from worker.intake.strategy import Gathering, bounded, bury, is_plain, put_off
from worker.postgres.engines import committing_engine
from worker.settings import Settings, urls

log = logging.getLogger(__name__)

FINISH_S = 30.0
"""What a warm shutdown leaves the committer for what was claimed: a hundred of the largest groups. Half of the grace of
60 s that docker-compose.yml gives; a deployment's own should be longer than this, too."""

OUR_OTHER_TASKS = "upkeep."
"""What the names of our tasks begin with that are no commands."""

PREFORK_REFUSED = (
    "the prefork pool is not supported: groups are committed by one thread of the worker's own process, and forking"
    " beside it would copy its connections. Start the worker with --pool threads (the default here) or --pool solo."
)


class Committing(bootsteps.StartStopStep):
    """Starts the committer with the first connection, keeps it across reconnects, and finishes it at shutdown."""

    requires = ("celery.worker.consumer.events:Events",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        parent.committer = None

    def start(self, parent: Any) -> None:
        """Make the committing thread, and give it the new connection's event dispatcher."""
        if parent.committer is None or not parent.committer.is_alive():
            settlement = Settlement(committing_engine(urls(Settings()).database_url))
            parent.committer = Committer(settlement, Answers(parent.app))
            parent.committer.start()
            _collect_less()
        parent.committer.answers.watch(parent.event_dispatcher)

    def stop(self, parent: Any) -> None:
        """Finish what was claimed, if the worker stops; a reconnect leaves the thread to its work."""
        if parent.blueprint.state == bootsteps.CLOSE and not parent.committer.finish(FINISH_S):
            log.error("the committer did not finish within %.0f s; what it holds is delivered again", FINISH_S)

    def terminate(self, parent: Any) -> None:
        """Do not wait: what was claimed is delivered again."""


def _collect_less() -> None:
    """Look for garbage cycles seldom: a group makes tens of thousands of objects, none of them in a cycle.

    With Python's thresholds the collector took half of the time of deciding (36 against 16 µs a transfer).
    What was imported is set aside, so that a full collection looks only at what came after.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


class Consumer(StockConsumer):
    """The consumer of `worker_consumer`."""

    committer: Any

    class Blueprint(StockConsumer.Blueprint):
        """The stock steps, and ours."""

        default_steps = [*StockConsumer.Blueprint.default_steps, Committing]  # noqa: RUF012  # Celery's way

    def __init__(self, *args: Any, **options: Any) -> None:
        pool = options.get("pool")
        if pool is not None and type(pool).__module__ == "celery.concurrency.prefork":
            raise ImproperlyConfigured(PREFORK_REFUSED)
        super().__init__(*args, **options)

    def update_strategies(self) -> None:
        """Make each task's strategy and tracer; those of commands end their message whatever is raised."""
        super().update_strategies()
        for name, strategy in self.strategies.items():
            if isinstance(strategy, Gathering):
                task = self.app.tasks[name]
                task.__trace__ = bounded(task)

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        """Make the function that takes each message: straight to its strategy where that gathers."""
        stock = super().create_task_handler(*args, **options)
        gathering = {name: handle for name, handle in self.strategies.items() if isinstance(handle, Gathering)}

        def take(message: Any) -> None:
            if put_off(message, self):
                return
            task = message.headers["task"]
            if task in gathering:
                if not gathering[task].take(message):
                    stock(message)
            elif task not in self.strategies or (task.startswith(OUR_OTHER_TASKS) and is_plain(message)):
                stock(message)
            else:
                self._bury(message, f"the task {task[:80]!r} is no command, nor scheduled work as beat sends it")

        def on_task_received(message: Any) -> None:
            try:
                take(message)
            except (CommitterEndedError, *AWAY):
                raise
            except Exception as error:  # whatever a message provokes, it must not end the worker
                log.exception("a message could not be taken, and is buried")
                self._bury(message, f"it could not be taken: {type(error).__name__}")

        return on_task_received

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Bury a message that names no task."""
        self._bury(message, "no task is named")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Bury a message whose task nobody here knows."""
        self._bury(message, f"the task {str(message.headers.get('task'))[:80]!r} is not known here")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Bury a message that is no request of its task."""
        self._bury(message, f"no valid request: {exc}")

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Bury a message whose body cannot be decoded."""
        self._bury(message, f"the body cannot be decoded: {exc}")

    def _bury(self, message: Any, flaw: str) -> None:
        if message.raw is None:
            log.warning("not heard: %s", flaw)  # remote control, which nobody waits for and nothing depends on
        else:
            bury(message, flaw, self)
