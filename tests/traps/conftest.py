"""Fixtures: those of the tests of workers, on a stack that only these tests use, since they break it."""

from tests.worker.conftest import open_books, site, stack

__all__ = ["open_books", "site", "stack"]
