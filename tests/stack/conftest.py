"""Fixtures of the stack's tests: folders in which nothing may live when a test is over."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.owners import IDENTITIES, NOBODY, inhabitants
from worker.stack.stack import Stack


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that is not there yet, for a stack of ourselves."""
    yield from _folder()


@pytest.fixture(scope="package")
def stack() -> Iterator[Stack]:
    """A running stack that the tests share: whoever ends one of its servers starts it again."""
    folders = _folder()
    with Stack(next(folders)) as running:
        yield running
    assert next(folders, None) is None


@pytest.fixture(params=IDENTITIES)
def identity(request: pytest.FixtureRequest) -> str:
    """Each user that can own a stack on this machine."""
    return str(request.param)


@pytest.fixture
def owned_folder(identity: str) -> Iterator[Path]:
    """A folder that is not there yet, where a stack of `identity` can be."""
    yield from _folder(uid=os.geteuid() if identity == "ourselves" else NOBODY)


def _folder(uid: int = -1) -> Iterator[Path]:
    # Not pytest's tmp_path: an ordinary user could not enter it when we are root.
    home = Path(tempfile.mkdtemp(prefix="equipoise-test-"))
    os.chown(home, uid, uid)
    yield home / "stack"
    assert inhabitants(home) == []
    shutil.rmtree(home)
