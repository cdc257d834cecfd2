"""A committer with a real database behind it and a queue in memory before it: the protocol `Source`, kept by a list."""

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import psycopg
from celery import Celery

from models.commands import Command, OpenAccount, OpenLedger, PostTransfer
from models.dead_letters import Reason
from tests.worker.site import Site, new_id
from worker.engine.decide import Item
from worker.engine.settle import Settlement
from worker.intake.answers import Answers
from worker.intake.committer import Committer
from worker.intake.door import Delivery, dead_letter
from worker.intake.request import Request
from worker.postgres.engines import committing_engine


class Queue:
    """Where a committer's messages came from. `settled` says what became of each, in order."""

    def __init__(self) -> None:
        self.settled: list[tuple[str, str]] = []
        self.paused = False
        self.pauses = 0
        self._lock = Lock()

    def acknowledge(self, tags: Collection[str]) -> None:
        with self._lock:
            self.settled += [("acknowledged", tag) for tag in tags]

    def restore(self, tags: Collection[str], *, at: str = "head") -> None:
        with self._lock:
            self.settled += [(at, tag) for tag in tags]

    def pause(self) -> None:
        self.paused = True
        self.pauses += 1

    def resume(self) -> None:
        self.paused = False

    def went(self, where: str) -> list[str]:
        with self._lock:
            return [tag for place, tag in self.settled if place == where]


class Desk:
    """Opens books, hands commands to a committer and tells what became of them."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.queue = Queue()
        self.app = Celery("desk", set_as_current=False, backend="disabled://")
        self.task = self.app.task(name="transfers.post", ignore_result=True)(_never_called)
        self.app.finalize()
        self._engine = committing_engine(site.database_url)
        self.settlement = Settlement(self._engine)
        self.answers = Answers(self.app)
        self.committer = Committer(self.settlement, self.answers)

    def open_books(self, count: int = 2) -> tuple[str, list[str]]:
        """Open a ledger and accounts without a floor; before the committer begins."""
        ledger, accounts = f"l-{new_id()[:12]}", [new_id() for _ in range(count)]
        opened: list[Command] = [OpenLedger(id=new_id(), ledger=ledger, currency="EUR", scale=2)]
        opened += [OpenAccount(id=new_id(), account_id=id, ledger=ledger, min_balance=None) for id in accounts]
        self.settlement(opened)
        return ledger, accounts

    def request(self, item: Item, *, queue: Queue | None = None, **headers: Any) -> Request:
        body = new_id().encode()
        return Request(
            delivery=Delivery("transfers.post", new_id(), "commands", body=body, raw=body),
            item=item,
            headers=headers,
            tag=getattr(item, "id", None) or new_id(),
            source=queue or self.queue,
            task=self.task,
        )

    def put(self, *items: Item, **headers: Any) -> list[str]:
        """Hand items over; give their tags, which are their ids."""
        requests = [self.request(item, **headers) for item in items]
        for request in requests:
            self.committer.put(request)
        return [request.tag for request in requests]

    def wait_acknowledged(self, tags: Collection[str]) -> None:
        self.site.wait(lambda: set(tags) <= set(self.queue.went("acknowledged")))

    def wait_settled(self, count: int) -> Counter[str]:
        """Wait until so many messages were acknowledged or put back; count how."""
        self.site.wait(lambda: len(self.queue.settled) >= count)
        return Counter(place for place, _ in self.queue.settled)

    def close(self) -> None:
        if self.committer.is_alive():
            assert self.committer.finish(30.0)
        self._engine.dispose()

    @contextmanager
    def ledger_locked(self, ledger: str) -> Iterator[psycopg.Connection[Any]]:
        """Hold a ledger's lock, as another worker does."""
        with self.site.session() as session:
            session.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [f"equipoise.ledger.{ledger}"])
            yield session

    def curse(self, sqlstate: str) -> None:
        """Have the database refuse every transfer of kind `cursed` with this SQLSTATE."""
        with self.site.session() as session:
            session.execute(
                f"""
                CREATE FUNCTION public.curse() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN RAISE EXCEPTION 'cursed' USING ERRCODE = '{sqlstate}'; END $$;
                CREATE TRIGGER curse BEFORE INSERT ON equipoise.transfers
                FOR EACH ROW WHEN (NEW.kind = 'cursed') EXECUTE FUNCTION public.curse()
                """.encode()
            )


def transfer(accounts: list[str], **fields: Any) -> PostTransfer:
    return PostTransfer(
        **{"id": new_id(), "source_id": accounts[0], "destination_id": accounts[1], "amount": 1} | fields
    )


def _never_called(**_: Any) -> None:
    raise AssertionError("a gathered message does not call its task's function")


def letter() -> Item:
    """Make what the door makes of a malformed message."""
    body = new_id().encode()
    return dead_letter(Delivery("transfers.post", new_id(), "commands", body, raw=body), Reason.MALFORMED, "for a test")
