"""The step between our process and a server: bind the server's life to ours, give up root, become the server.

`process.py` runs this file by its path, as a program of its own with the bare interpreter (`python -I -S child.py
…`), so that nothing runs between fork and exec in a process that has threads. It keeps its pid: what it becomes is
the server itself, in the foreground. Standard library only; it imports nothing of ours.

    child.py PARENT_PID DEATH_SIGNAL as-caller|ordinary-user COMMAND [ARGUMENT …]
"""

import ctypes
import os
import pwd
import signal
import sys
from typing import NoReturn

PARENT_IS_GONE = 124
"""Exit status: whoever started this ended first, so nothing was started."""
NAMESPACE_REFUSED = 125
"""Exit status: the machine forbids user namespaces, and the server cannot run as root."""
CANNOT_EXECUTE = 126
"""Exit status: the command could not be executed; the reason is on standard error."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_CLONE_NEWUSER = 0x10000000  # linux/sched.h


def main(parent_pid: int, death_signal: int, identity: str, command: list[str]) -> NoReturn:
    """Become `command`, which gets `death_signal` when the *thread* that forked this process ends."""
    # A shell that started us in the background may have left these ignored, which an exec would hand on to the server.
    for inherited in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(inherited, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])

    if identity == "ordinary-user":
        try:
            become_ordinary_user()
        except OSError as refusal:
            stop(NAMESPACE_REFUSED, f"no user namespace: {refusal}")

    # After the namespace: a process that changes its credentials may lose the signal (prctl(2)).
    die_with_parent(death_signal)
    if os.getppid() != parent_pid:
        stop(PARENT_IS_GONE, "the parent ended before it could be watched")

    try:
        os.execv(command[0], command)
    except OSError as refusal:
        stop(CANNOT_EXECUTE, f"cannot execute {command[0]}: {refusal}")


def become_ordinary_user() -> None:
    """Enter a user namespace in which we are no longer root, while files and signals still count as root's.

    The account's name matters only to initdb, which looks it up; nobody's files are touched. Raises OSError where
    forbidden.
    """
    uid, gid = os.geteuid(), os.getegid()
    stand_in = next(account.pw_uid for account in pwd.getpwall() if account.pw_uid != uid)
    unshare_user_namespace()
    for name, content in (
        ("setgroups", "deny"),  # the kernel wants this before gid_map (user_namespaces(7))
        ("uid_map", f"{stand_in} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(content)


def unshare_user_namespace() -> None:
    """Call unshare(CLONE_NEWUSER); raises OSError where forbidden."""
    if sys.version_info >= (3, 12):
        os.unshare(_CLONE_NEWUSER)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def die_with_parent(death_signal: int) -> None:
    """Ask the kernel for `death_signal` when the parent's thread ends; it outlives the exec."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def stop(status: int, reason: str) -> NoReturn:
    """End with `status`, the reason in one line on standard error, which is the server's log."""
    print(f"equipoise: {reason}", file=sys.stderr, flush=True)
    sys.exit(status)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
