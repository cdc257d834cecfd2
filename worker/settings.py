"""Our own settings, from the environment (in development also from `.env`). Celery's are in `celeryconfig.py`."""

from functools import cache
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import Engine

from worker.postgres.engines import committing_engine
from worker.stack.stack import running_stack

BROKERS: Final = ("redis", "rediss", "redis+socket")

ROOT = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """What a deployment decides. Every name is prefixed `EQUIPOISE_` in the environment."""

    # The project's own .env, whatever folder a command is called from; an empty value is none.
    model_config = SettingsConfigDict(
        env_prefix="EQUIPOISE_", env_file=ROOT / ".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    database_url: str | None = Field(default=None, repr=False)
    """`postgresql://…`; None: the embedded stack's, if one is up."""

    broker_url: str | None = Field(default=None, repr=False)
    """`redis://…`, `rediss://…` or `redis+socket://…`; None: the embedded stack's, if one is up."""

    result_url: str | None = Field(default=None, repr=False)
    """Where wanted results go; None: the broker."""

    @field_validator("database_url", "broker_url", "result_url")
    @classmethod
    def can_be_taken_apart(cls, url: str | None) -> str | None:
        """Refuse what is no URL, in words of our own: a library's would quote it, with a part of the password."""
        try:
            # kombu takes several, of which it uses the first that answers.
            if not all(urlsplit(one).scheme and urlsplit(one).port != 0 for one in (url or "redis:").split(";")):
                raise ValueError
        except ValueError as error:
            raise ValueError(
                "no URL; in a user's name or a password, write /, :, @ and # as %2F, %3A, %40 and %23"
            ) from error
        return url

    @field_validator("broker_url")
    @classmethod
    def is_of_redis(cls, url: str | None) -> str | None:
        """Refuse another broker than the transport is for."""
        if url is not None and urlsplit(url).scheme not in BROKERS:
            raise ValueError(f"the broker must be one of {', '.join(BROKERS)}, not {urlsplit(url).scheme!r}")
        return url

    checkpoint_file: Path | None = None
    """What the scheduled checkpoints are written to; None: none are made. Best on other storage than the database's."""

    checkpoint_key_file: Path | None = None
    """The private key that they are signed with; made if it is not there. None: beside the file, as `….key`."""

    @property
    def checkpoints(self) -> "Checkpoints | None":
        """Say where checkpoints are kept, if anywhere."""
        if self.checkpoint_file is None:
            return None
        beside = self.checkpoint_file.with_name(self.checkpoint_file.name + ".key")
        return Checkpoints(self.checkpoint_file, self.checkpoint_key_file or beside)

    home: Path = ROOT / ".equipoise"
    """Where the embedded stack keeps its data."""


class Checkpoints(NamedTuple):
    """Where checkpoints are kept, and the private key that they are signed with."""

    file: Path
    key_file: Path


class Urls(NamedTuple):
    """Where the servers are."""

    database_url: str
    broker_url: str
    result_url: str


class NoServers(Exception):
    """Neither the environment names the servers nor is an embedded stack up; the message says what to do."""


def database_url(settings: Settings) -> str:
    """Give the database's address, for what needs no broker. Raises NoServers."""
    return settings.database_url or urls(settings).database_url


def urls(settings: Settings) -> Urls:
    """Give the servers' addresses: those of the environment, else those of the embedded stack that is up.

    Raises NoServers: also where one of the two is named and the other is not, since nobody wants one system's queue in
    front of another's database.
    """
    named = named_urls(settings)
    if named is not None:
        return named
    stack = running_stack(settings.home)
    if stack is None:
        raise NoServers(
            "no servers: set EQUIPOISE_DATABASE_URL and EQUIPOISE_BROKER_URL, or start the embedded stack"
            " with `equipoise up`"
        )
    return Urls(stack.database_url, stack.broker_url, settings.result_url or stack.result_url)


def named_urls(settings: Settings) -> Urls | None:
    """Give the servers' addresses that the environment names; None: it names none. Raises NoServers for a half."""
    database_url, broker_url = settings.database_url, settings.broker_url
    if database_url and broker_url:
        return Urls(database_url, broker_url, settings.result_url or broker_url)
    if database_url or broker_url:
        raise NoServers("set EQUIPOISE_DATABASE_URL and EQUIPOISE_BROKER_URL, or neither: only one of them is set")
    return None


@cache
def engine_of_this_process() -> Engine:
    """Give the one committing engine that tasks called as plain functions share; connects when it is used."""
    return committing_engine(urls(Settings()).database_url, pool_size=4)
