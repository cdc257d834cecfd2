"""`checkpoint` and `verify --checkpoints`: evidence that can be carried away, and brought back."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import call
from worker.settings import Urls


def test_a_checkpoint_is_printed_and_the_books_are_held_against_it(urls: Urls, tmp_path: Path) -> None:
    key, kept = tmp_path / "key", tmp_path / "kept.jsonl"

    for _ in range(2):
        made = call("checkpoint", "--key", str(key), urls=urls)
        assert (made.returncode, made.stderr) == (0, b"")
        kept.write_bytes((kept.read_bytes() if kept.exists() else b"") + made.stdout)
    public = str(tmp_path / "key.pub")
    held = call("verify", "--json", "--checkpoints", str(kept), "--public-key", public, urls=urls)

    verdict = json.loads(held.stdout)
    assert (held.returncode, verdict["sound"], verdict["checkpoints"]) == (0, True, 2)


def test_a_checkpoint_that_was_changed_is_a_fault(urls: Urls, tmp_path: Path) -> None:
    key, kept = tmp_path / "key", tmp_path / "kept.jsonl"
    made = call("checkpoint", "--key", str(key), urls=urls).stdout
    kept.write_bytes(made.replace(b"2", b"3", 1))

    held = call("verify", "--checkpoints", str(kept), urls=urls, EQUIPOISE_CHECKPOINT_KEY_FILE=str(key))

    assert held.returncode == 1
    assert b"checkpoint_unsigned" in held.stdout


def test_the_settings_name_both_and_a_file_that_is_not_there_yet_is_none(urls: Urls, tmp_path: Path) -> None:
    file = str(tmp_path / "checkpoints.jsonl")

    held = call("verify", "--json", urls=urls, EQUIPOISE_CHECKPOINT_FILE=file)

    assert json.loads(held.stdout)["checkpoints"] == 0


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["checkpoint"], 78, b"no key to sign with: set EQUIPOISE_CHECKPOINT_KEY_FILE, or give --key FILE"),
        (["checkpoint", "--key", "{}/kept"], 78, b"holds no private key in PEM"),
        (["checkpoint", "--key", "/proc/none/key"], 66, b"the key cannot be read or made"),
        (["verify", "--checkpoints", "{}/kept", "--public-key", "{}/none"], 66, b"cannot be read"),
        (["verify", "--checkpoints", "{}/kept", "--public-key", "{}/kept"], 65, b"holds no public key in PEM"),
        (["verify", "--public-key", "{}/kept"], 2, b"no checkpoints to check by it: give --checkpoints FILE"),
        (["verify", "--checkpoints", "{}/kept"], 2, b"who has signed them? give --public-key FILE"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(
    arguments: list[str], status: int, told: bytes, urls: Urls, tmp_path: Path
) -> None:
    (tmp_path / "kept").write_bytes(b"no key\n")

    ended = call(*(it.format(tmp_path) for it in arguments), urls=urls)

    assert (ended.returncode, ended.stdout) == (status, b"")
    assert ended.stderr.startswith(b"equipoise: ")
    assert told in ended.stderr
    assert ended.stderr.count(b"\n") == 1
