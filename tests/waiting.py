"""Waiting for a fact: the only wait that tests know."""

from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

T = TypeVar("T")

LOOK_EVERY_S = 0.005


def wait_until(fact: Callable[[], T], within_s: float = 30.0, what: str = "") -> T:
    """Look until something is true, and return it; fail once `within_s` are over, a fuse on a loaded machine."""
    deadline = monotonic() + within_s
    while not (found := fact()):
        assert monotonic() < deadline, f"not within {within_s:g} s: {what or fact}"
        sleep(LOOK_EVERY_S)
    return found
