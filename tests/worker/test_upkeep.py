"""The scheduled evidence, done by a real worker: checkpoints are written, and the books held against them."""

from pathlib import Path

import pytest

from tests.factories import new_id
from tests.worker.conftest import OpenBooks
from tests.worker.site import Site
from worker.proving import checkpoints, keys
from worker.proving.verify import verify


def test_a_scheduled_checkpoint_is_what_the_books_are_held_against(
    site: Site, open_books: OpenBooks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "kept" / "checkpoints.jsonl"
    monkeypatch.setenv("EQUIPOISE_CHECKPOINT_FILE", str(file))
    site.worker("-Q", "commands,upkeep").ready()
    _, (source, destination) = open_books()
    ask = {"queue": "upkeep", "ignore_result": False}

    assert site.producer.send_task("upkeep.verify", **ask).get(timeout=60)["checkpoints"] == 0
    assert site.producer.send_task("upkeep.checkpoint", **ask).get(timeout=60) is True
    moved = {"source_id": source, "destination_id": destination, "amount": 1}
    assert site.call("transfers.post", id=new_id(), **moved)["status"] == "applied"
    assert site.producer.send_task("upkeep.checkpoint", **ask).get(timeout=60) is True
    verdict = site.producer.send_task("upkeep.verify", **ask).get(timeout=60)

    assert (verdict["sound"], verdict["checkpoints"]) == (True, 2)
    with file.open("rb") as lines:
        past = checkpoints.read(lines, keys.verifying_key(tmp_path / "kept" / "checkpoints.jsonl.key.pub"))
    assert verify(site.database_url, past=past).checkpoints == 2


def test_without_a_file_no_checkpoint_is_made_and_the_log_says_why(site: Site) -> None:
    worker = site.worker("-Q", "upkeep").ready()

    made = site.producer.send_task("upkeep.checkpoint", queue="upkeep", ignore_result=False).get(timeout=60)

    assert made is False
    assert "no checkpoint is made: EQUIPOISE_CHECKPOINT_FILE names no file" in worker.log
