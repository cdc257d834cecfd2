"""A plain Celery worker around the seed's `transfer_balance`: SQLModel, SERIALIZABLE, begun again by tenacity.

It is the baseline of `make bench`, and honest: stock kombu, JSON, late acknowledgement, no results, no events, sessions
of SQLAlchemy's default pool. It shares no line with Equipoise, and has none of its promises: no ids, no verdicts, no
entries, and a redelivery moves the money twice.

Start it with `celery -A bench.naive.worker worker`; NAIVE_DATABASE_URL and NAIVE_BROKER_URL say where.
"""

from __future__ import annotations

import os
from functools import cache

from celery import Celery
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import registry
from sqlmodel import Field, Session, SQLModel, create_engine
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

SCHEMA = "naive"
QUEUE = "naive"
CONFLICTS = ("40001", "40P01")  # serialization_failure, deadlock_detected: PostgreSQL manual, 13.5


class Seed(SQLModel, registry=registry()):
    """A registry apart, so that no table of the product ever meets the seed's."""


class User(Seed, table=True):
    __table_args__ = {"schema": SCHEMA}

    id: int = Field(primary_key=True)
    username: str
    balance: int


app = Celery("naive", broker=os.environ.get("NAIVE_BROKER_URL"), set_as_current=False)
app.conf.update(
    task_default_queue=QUEUE,
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=4,  # Celery's default; 1 was slower in three rounds of three, 16 no faster
)


@cache
def engine() -> Engine:
    """Return this process's engine. Made at first use, hence after the fork."""
    return create_engine(os.environ["NAIVE_DATABASE_URL"], isolation_level="SERIALIZABLE")


def is_conflict(error: BaseException) -> bool:
    return isinstance(error, OperationalError) and getattr(error.orig, "sqlstate", None) in CONFLICTS


def transfer_balance(session: Session, from_user_id: int, to_user_id: int, amount: int) -> None:
    """Transfer balance between users with a transaction, as the seed does, in cents.

    Its two refreshes after the commit are left out: nobody reads the answer, they cost a transaction of their own, and
    a conflict in it would be taken for one of the transfer, and move the money twice.
    """
    from_user = session.get(User, from_user_id)
    to_user = session.get(User, to_user_id)

    if not from_user or not to_user:
        raise ValueError("User not found")

    if from_user.balance < amount:
        raise ValueError("Insufficient balance")

    from_user.balance -= amount
    to_user.balance += amount

    session.add(from_user)
    session.add(to_user)

    session.commit()


@app.task(name="naive.transfer")  # type: ignore[untyped-decorator]  # Celery ships no types
def transfer(from_user_id: int, to_user_id: int, amount: int) -> None:
    """Transfer, with a fresh session for each attempt. 60 s are enough for any transfer of the benchmark."""
    again = Retrying(
        retry=retry_if_exception(is_conflict),
        wait=wait_random_exponential(multiplier=0.002, max=0.25),
        stop=stop_after_delay(60),
        reraise=True,
    )
    for attempt in again:
        with attempt, Session(engine()) as session:
            transfer_balance(session, from_user_id, to_user_id, amount)
