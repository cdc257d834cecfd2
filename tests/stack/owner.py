"""A program that owns a stack until its standard input ends, for tests that kill the owner: `owner.py FOLDER`.

Prints one line of JSON once the stack runs: the running stack, and which user this program is.
"""

import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from worker.stack.process import StackError
from worker.stack.stack import Stack, running_stack


def main(folder: Path) -> None:
    """Keep a stack in `folder`; what keeps it from starting goes to standard error, in one piece."""
    # As a terminal gives it: whoever runs the tests in the background hands on that Ctrl-C is to be ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Stack(folder):
            running = running_stack(folder)
            assert running is not None
            print(json.dumps(asdict(running) | {"uid": os.geteuid()}), flush=True)
            sys.stdin.read()
    except StackError as error:
        sys.exit(f"StackError: {error}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
