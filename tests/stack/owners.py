"""Stacks owned by another process, and what can be observed of them from outside: for the tests of this folder."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import IO, Any

import psycopg
from sqlalchemy.engine import make_url

from tests.waiting import wait_until
from worker.stack.stack import RunningStack

ROOT = Path(__file__).parents[2]
NOBODY = 65534
WAIT_S = 30.0
"""The longest that a fact may take to come true on a loaded machine; each takes milliseconds as a rule."""

IDENTITIES = ["ourselves", "nobody"] if os.geteuid() == 0 else ["ourselves"]
"""Who can own a stack on this machine: root can become an ordinary user, an ordinary user cannot become root."""


def inhabitants(folder: Path) -> list[int]:
    """Return the processes that live in the folder, by their working directory: every server and all its children."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and _working_directory(process).startswith(f"{folder}"):
            found.append(int(process.name))
    return found


def wait_until_uninhabited(folder: Path) -> None:
    """Return once nothing lives in the folder."""
    wait_until(lambda: not inhabitants(folder), what=f"nothing lives in {folder}")


def launch(folder: Path, identity: str) -> subprocess.Popen[str]:
    """Start an owner of a stack in `folder`, as ourselves or as nobody, and do not wait for it."""
    command = [sys.executable, "-m", "tests.stack.owner", str(folder)]
    return subprocess.Popen(
        command if identity == "ourselves" else _as_nobody() + command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def await_stack(owner: subprocess.Popen[str]) -> tuple[RunningStack, int]:
    """Return the owner's stack once it runs, and the user id it runs under; fail with what the owner said."""
    line = _pipe(owner.stdout).readline()
    assert line, _pipe(owner.stderr).read()
    told = json.loads(line)
    uid = told.pop("uid")
    return RunningStack(**told), uid


def release(owner: subprocess.Popen[str]) -> int:
    """Let the owner leave its stack in good order; returns its exit status."""
    owner.communicate(timeout=WAIT_S)
    return owner.returncode


def kill(owner: subprocess.Popen[str]) -> None:
    """End the owner as nothing can refuse; its servers are the kernel's business then."""
    owner.kill()
    owner.communicate()


def connect(database_url: str) -> psycopg.Connection:
    """Connect without SQLAlchemy, as the URL says."""
    url = make_url(database_url)
    where: dict[str, Any] = dict(url.query)
    return psycopg.connect(user=url.username, password=url.password, dbname=url.database, autocommit=True, **where)


def shared_memory_of(postgres_pid: int) -> set[str]:
    """Return the names of the postmaster's shared memory that outlives a process unless somebody removes it."""
    maps = [line.split(maxsplit=5) for line in Path(f"/proc/{postgres_pid}/maps").read_text().splitlines()]
    posix = {fields[-1] for fields in maps if fields[-1].startswith("/dev/shm/")}
    return posix | {f"System V {inode}" for *_, inode, path in maps if path.startswith("/SYSV")}


def existing_shared_memory() -> set[str]:
    """Return the names of all such memory on this machine."""
    rows = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    return {str(path) for path in Path("/dev/shm").iterdir()} | {f"System V {row[1]}" for row in rows}


def _as_nobody() -> list[str]:
    """Become an ordinary user; where the interpreter lives in root's home, with the right to read there, no other."""
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    needed = [Path(sys.executable).resolve(), Path(sysconfig.get_path("purelib")), ROOT]
    if all(folder.stat().st_mode & 0o005 == 0o005 for path in needed for folder in (path, *path.parents)):
        return become
    return [*become, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


def _working_directory(process: Path) -> str:
    try:
        return str((process / "cwd").readlink())
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""  # ended meanwhile, or another user's: not a server of ours


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
