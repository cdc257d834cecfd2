"""Fixtures: a stack that only these tests use, since they break it, and a site of its own for each test."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from models.commands import OpenAccount, OpenLedger
from tests.worker.site import Site, new_id, own_site, own_stack, settle
from worker.stack.stack import Stack

OpenBooks = Callable[..., tuple[str, list[str]]]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Servers that a test may kill; whoever does starts them again."""
    home = Path(tempfile.mkdtemp(prefix="equipoise-test-"))
    with own_stack(home / "stack") as running:
        yield running
    shutil.rmtree(home)


@pytest.fixture
def site(stack: Stack, tmp_path: Path) -> Iterator[Site]:
    """A fresh database and an empty broker."""
    with own_site(stack, tmp_path) as site:
        yield site


@pytest.fixture
def open_books(site: Site) -> OpenBooks:
    """Open a ledger and accounts without a floor in it: `open_books(3)` gives its name and their ids."""

    def open_books(count: int = 2) -> tuple[str, list[str]]:
        ledger, accounts = f"l-{uuid4().hex[:12]}", [new_id() for _ in range(count)]
        opened = [OpenAccount(id=new_id(), account_id=id, ledger=ledger, min_balance=None) for id in accounts]
        settle(site, OpenLedger(id=new_id(), ledger=ledger, currency="EUR", scale=2), *opened)
        return ledger, accounts

    return open_books
