"""A Celery worker as a child of ours, kept as the embedded servers are: its end is known, and ours is its own."""

import os
import signal
import sys
from pathlib import Path

from worker.settings import ROOT, Urls
from worker.stack.process import Server, StackError


class CeleryWorker(Server):
    """The worker that a deployment runs, with its log in `folder/worker.log`."""

    name = "worker"
    stop_signal = signal.SIGTERM  # warm: what was claimed is settled
    death_signal = signal.SIGKILL  # what was claimed is delivered again

    def __init__(self, folder: Path, urls: Urls) -> None:
        super().__init__(folder)
        self._urls = urls
        self._log_start = 0

    def wait(self, timeout_s: float) -> None:
        """Wait for so long; raises StackError, with the last lines of the log, as soon as the worker has ended."""
        assert self._process is not None
        if not self.ended_within(timeout_s):
            return
        raise StackError(
            f"the worker ended with status {self._process.returncode}; from {self.log_path}:\n"
            f"{self._log_tail(self._log_start)}"
        )

    def _prepare(self, lock: int) -> None:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._log_start = self.log_path.stat().st_size

    def _command(self) -> list[str]:
        # -P: `python -m celery` would look for `worker` in its own folder first. The rest is what a lone worker can
        # do without: gossip and mingling with others. Named after us, since two workers of one name are one too many.
        python = [sys.executable, "-P", "-m", "celery", "--app", "worker.app", "worker"]
        name = f"equipoise-{os.getpid()}@%h"
        return [*python, "--loglevel", "INFO", "--hostname", name, "--without-gossip", "--without-mingle"]

    def _environment(self) -> dict[str, str]:
        # PG* too, which the embedded servers do without: a URL of the team's own may leave something to them.
        libpq = {name: value for name, value in os.environ.items() if name.startswith("PG")}
        return libpq | {
            "PYTHONPATH": str(ROOT),
            "EQUIPOISE_DATABASE_URL": self._urls.database_url,
            "EQUIPOISE_BROKER_URL": self._urls.broker_url,
            "EQUIPOISE_RESULT_URL": self._urls.result_url,
        }

    def _refusal(self) -> str | None:
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return None if b" ready." in log.read() else "it is not ready yet"
