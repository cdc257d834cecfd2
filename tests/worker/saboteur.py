"""A command of remote control that kills the committing thread; tests have the worker import it (`--include`)."""

import ctypes
from typing import Any

from celery.worker.control import control_command


@control_command()
def kill_committer(state: Any) -> dict[str, int]:
    """Raise in the committing thread what no `except Exception` catches."""
    thread = ctypes.c_ulong(state.consumer.committer.ident)
    return {"killed": ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(SystemExit))}
