"""Named points at which a test can have the real worker killed. Does nothing unless the environment arms it.

`EQUIPOISE_TEST_CRASH_AT` names the point, `EQUIPOISE_TEST_CRASH_DIR` a folder in which the first program
to reach it leaves a file of that name before it kills itself: so each point fires once, and the test can
count that it did.
"""

import os
import signal
from pathlib import Path
from typing import Final

POINTS: Final = ("received", "decided", "before_commit", "after_commit", "before_ack")

_ARMED: Final = os.environ.get("EQUIPOISE_TEST_CRASH_AT")
_FOLDER: Final = os.environ.get("EQUIPOISE_TEST_CRASH_DIR")


def reached(point: str) -> None:
    """Die here, as by `kill -9`, if the environment armed this point and it has not fired yet."""
    if point != _ARMED or _FOLDER is None:
        return
    try:
        (Path(_FOLDER) / point).touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
