"""Lock files that a process hands on to its children: held as long as any of them lives, released by the kernel.

This is how the stack knows that a folder is free, and that of a killed server nothing is left, without trusting a
pid. The locks are "open file description" locks (fcntl(2), Linux): unlike flock's they can be asked about without
being taken, so that a reader never stands in the way of a starter. Not a lock of the database: see `postgres/locks.py`
for those.
"""

import fcntl
import os
import struct
from pathlib import Path

# struct flock: l_type, l_whence, l_start, l_len, l_pid; length 0 is the whole file, and the pid must be 0.
_SHAPE = "hhqqi4x"
_EXCLUSIVE = struct.pack(_SHAPE, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


def take_lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock at `path`, or None where somebody else holds it.

    The lock ends when the last copy of the descriptor is closed, here and in every process that inherited it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _EXCLUSIVE)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def lock_is_held(path: Path) -> bool:
    """Tell whether any process, this one included, holds the lock at `path`; false where there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _EXCLUSIVE)
    finally:
        os.close(descriptor)
    return bool(struct.unpack(_SHAPE, answer)[0] != fcntl.F_UNLCK)
