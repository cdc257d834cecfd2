"""Fixtures: a database of the test's own, and a desk at which a committer can be watched."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.intake.desk import Desk
from tests.worker.site import Site, own_site, own_stack
from worker.stack.stack import Stack


@pytest.fixture(scope="package")
def stack() -> Iterator[Stack]:
    """Servers for the package's tests."""
    home = Path(tempfile.mkdtemp(prefix="equipoise-test-"))
    with own_stack(home / "stack") as running:
        yield running
    shutil.rmtree(home)


@pytest.fixture
def site(stack: Stack, tmp_path: Path) -> Iterator[Site]:
    """A fresh database."""
    with own_site(stack, tmp_path) as site:
        yield site


@pytest.fixture
def desk(site: Site) -> Iterator[Desk]:
    """A committer on a fresh database, and its messages in memory."""
    desk = Desk(site)
    yield desk
    desk.close()
