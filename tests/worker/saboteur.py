"""What a worker had better not have: a command that kills its committing thread, a task that takes an argument.

Tests have the worker import it (`--include`).
"""

import ctypes
from typing import Any

from celery import shared_task
from celery.worker.control import control_command


@control_command()
def kill_committer(state: Any) -> dict[str, int]:
    """Raise in the committing thread what no `except Exception` catches."""
    thread = ctypes.c_ulong(state.consumer.committer.ident)
    return {"killed": ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(SystemExit))}


@shared_task(name="saboteur.particular")
def particular(argument: str) -> None:
    """Refuse, already while it is sent, to be called without its argument."""
