"""The commands that run things: `up`, the embedded stack with a worker in the foreground, and `migrate`."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from worker.cli.show import console, plain
from worker.cli.worker_process import CeleryWorker
from worker.postgres.migrate import migrate as migrate_schema
from worker.settings import Settings, Urls, named_urls
from worker.settings import database_url as database_url_of
from worker.stack.process import StackError
from worker.stack.stack import Stack

LOOK_EVERY_S = 0.5
"""How often it is seen whether everything still runs: soon enough for somebody who watches."""

EXAMPLE = """\
  c='{"type":"ledgers.open","id":"00000000-0000-4000-8000-000000000001","ledger":"main","currency":"EUR","scale":2}'
  echo "$c" | .venv/bin/equipoise send --wait -"""


def migrate() -> None:
    """Bring the database's schema to the newest version."""
    version = migrate_schema(database_url_of(Settings()))
    console().print(f"the schema is at version {version}")


def up() -> None:
    """Run PostgreSQL, Valkey and a worker until Ctrl-C, ready for a producer."""
    settings = Settings()
    out = console()
    with ExitStack() as running:
        stack, where = _servers(settings, running)
        if stack is None:
            out.print("using the servers that EQUIPOISE_DATABASE_URL and EQUIPOISE_BROKER_URL name: none is started")
        migrate_schema(where.database_url)
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        worker = running.enter_context(working(settings.home, where))
        if stack is not None:
            out.print(f"export EQUIPOISE_DATABASE_URL='{plain(where.database_url)}'", soft_wrap=True)
            out.print(f"export EQUIPOISE_BROKER_URL='{plain(where.broker_url)}'", soft_wrap=True)
        out.print(f"A worker is ready; its log is {worker.log_path}. Ctrl-C ends everything. In another terminal:")
        out.print(EXAMPLE, soft_wrap=True)
        while True:
            worker.wait(LOOK_EVERY_S)
            if stack is not None:
                require_alive(stack)


@contextmanager
def working(folder: Path, where: Urls) -> Iterator[CeleryWorker]:
    """Run a worker for as long as the block lasts; it is ready when the block begins."""
    worker = CeleryWorker(folder, where)
    try:
        worker.start()
        yield worker
    finally:
        worker.stop()


def require_alive(stack: Stack) -> None:
    """Raise StackError where one of the stack's servers has ended."""
    for server in (stack.postgres, stack.valkey):
        if server.pid is None:
            raise StackError(f"{server.name} has ended; its log is {server.log_path}")


def _servers(settings: Settings, running: ExitStack) -> tuple[Stack | None, Urls]:
    """Give the servers that the environment names, or start some."""
    named = named_urls(settings)
    if named is not None:
        return None, named
    stack = running.enter_context(Stack(settings.home))
    return stack, Urls(stack.database_url, stack.broker_url, settings.result_url or stack.result_url)
