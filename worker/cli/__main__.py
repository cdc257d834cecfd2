"""`python -m worker.cli`, which is `equipoise`: begins so early with Ctrl-C that it is quiet at any moment.

Importing everything takes half a second, in which Python would answer Ctrl-C with a traceback. Until the command line
is there, nothing has begun that would need an orderly end.
"""

import os
import signal

signal.signal(signal.SIGINT, lambda number, _frame: os._exit(128 + number))


def main() -> None:
    """Import the command line and run it."""
    from worker.cli.commands import run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()
