"""Signed checkpoints: what the books cannot prove of themselves, and what a file of them proves of itself."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.conftest import Tamper
from tests.factories import open_books, post
from tests.proving import forger
from worker.engine.settle import Settlement
from worker.proving import checkpoints, keys
from worker.proving.checkpoints import Past
from worker.proving.verdicts import Kind
from worker.proving.verify import verify
from worker.reading.reader import reader

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)


def taken(database_url: str) -> bytes:
    """Give a checkpoint of the books as they are now."""
    with reader(database_url) as engine:
        return checkpoints.take(engine, KEY)


def past(*lines: bytes) -> Past:
    return checkpoints.read([line + b"\n" for line in lines], KEY.public_key())


def read_file(file: Path) -> Past:
    with file.open("rb") as lines:
        return checkpoints.read(lines, KEY.public_key())


def kinds(database_url: str, *lines: bytes) -> set[Kind]:
    return {fault.kind for fault in verify(database_url, past=past(*lines)).faults}


def test_the_books_go_on_and_checkpoints_of_every_age_hold(database_url: str, settlement: Settlement) -> None:
    taken_empty = taken(database_url)
    open_books(settlement, [])
    kept = [taken_empty, taken(database_url)]
    name, (payer, payee, _) = open_books(settlement, [100, 0])
    for _ in range(3):
        kept.append(taken(database_url))
        settlement([post(payer, payee, 10), post(payer, payee, 1_000)])

    verdict = verify(database_url, past=past(*kept))

    assert (verdict.faults, verdict.checkpoints) == ([], 5)
    told = json.loads(kept[-1])["checkpoint"]["ledgers"][-1]
    assert (told["ledger"], told["transfers"], told["moved"], told["balances"]) == (name, 3, "120", "0")


@pytest.fixture
def kept(database_url: str, settlement: Settlement) -> bytes:
    """Books of three transfers, and a checkpoint of them; what follows is to be forged behind its back."""
    _, (payer, payee, _) = open_books(settlement, [100, 0])
    settlement([post(payer, payee, 10)])
    settlement([post(payer, payee, 20)])
    return taken(database_url)


def test_a_checkpoint_that_differs_names_the_ledger_and_the_place(
    database_url: str, settlement: Settlement, tamper: Tamper
) -> None:
    name, (payer, payee, _) = open_books(settlement, [100, 0])
    settlement([post(payer, payee, 10)])
    kept = taken(database_url)

    tamper("UPDATE equipoise.transfers SET kind = 'salary' WHERE sequence = 1")
    forger.seal_anew(database_url)

    (fault,) = verify(database_url, past=past(kept)).faults
    assert fault.row == f"ledger {name}"
    assert fault.detail.startswith("its transfers up to 2 are not those that checkpoint 1 of 20")


def test_another_past_that_was_sealed_anew_is_seen_by_a_checkpoint_alone(
    database_url: str, tamper: Tamper, kept: bytes
) -> None:
    tamper("UPDATE equipoise.transfers SET kind = 'salary' WHERE sequence = 2")
    forger.seal_anew(database_url)

    assert verify(database_url).sound
    assert kinds(database_url, kept) == {Kind.CHECKPOINT_DIFFERS}


def test_another_refusal_that_was_sealed_anew_is_seen_by_a_checkpoint_alone(
    database_url: str, settlement: Settlement, tamper: Tamper
) -> None:
    _, (payer, payee, _) = open_books(settlement, [100, 0])
    settlement([post(payer, payee, 1_000)])
    kept = taken(database_url)

    tamper("UPDATE equipoise.inbox SET status = 'account_frozen' WHERE status = 'insufficient_funds'")
    forger.seal_anew(database_url)

    assert verify(database_url).sound
    assert kinds(database_url, kept) == {Kind.CHECKPOINT_DIFFERS}


def test_a_ledger_that_is_gone_altogether_is_seen_by_a_checkpoint_alone(
    database_url: str, tamper: Tamper, kept: bytes
) -> None:
    for table in ("transfers", "inbox", "accounts", "ledgers"):
        tamper(f"DELETE FROM equipoise.{table}")

    assert verify(database_url).sound
    assert kinds(database_url, kept) == {Kind.TAIL_CUT}


def test_what_was_not_signed_so_is_no_checkpoint(database_url: str, kept: bytes) -> None:
    told = json.loads(kept)
    told["checkpoint"]["ledgers"][0]["transfers"] = 0
    other = Ed25519PrivateKey.generate()
    with reader(database_url) as engine:
        by_another = checkpoints.take(engine, other)

    for line in (json.dumps(told).encode(), by_another, b"", b"{}", b"\xff", kept[:-3], kept.replace(b"1", b"2")):
        read = past(line)
        assert ([fault.kind for fault in read.faults], read.count) == ([Kind.CHECKPOINT_UNSIGNED], 0)


def test_two_checkpoints_of_one_place_that_differ_are_told(
    database_url: str, settlement: Settlement, tamper: Tamper, kept: bytes
) -> None:
    tamper("UPDATE equipoise.transfers SET kind = 'salary' WHERE sequence = 2")
    forger.seal_anew(database_url)

    read = past(kept, taken(database_url))

    assert [fault.kind for fault in read.faults] == [Kind.CHECKPOINT_DIFFERS]


def test_a_file_of_checkpoints_shows_that_a_line_was_taken_out(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "kept" / "checkpoints.jsonl"
    with reader(database_url) as engine:
        for _ in range(4):
            checkpoints.append(engine, KEY, file)
    lines = file.read_bytes().splitlines(keepends=True)

    assert checkpoints.read(lines, KEY.public_key()).faults == []
    for number in (1, 2):
        rest = lines[:number] + lines[number + 1 :]
        assert [fault.kind for fault in checkpoints.read(rest, KEY.public_key()).faults] == [Kind.CHECKPOINT_DIFFERS]


@pytest.mark.parametrize("torn", [b"", b'{"checkpoint"', b"x" * 200_000], ids=["nothing", "a beginning", "a lot"])
@pytest.mark.parametrize("lines", [0, 1, 3])
def test_a_checkpoint_that_was_being_written_when_its_writer_died_never_was(
    lines: int, torn: bytes, database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "checkpoints.jsonl"
    with reader(database_url) as engine:
        for _ in range(lines):
            checkpoints.append(engine, KEY, file)
        with file.open("ab") as end:
            end.write(torn)
        assert read_file(file).count == lines

        checkpoints.append(engine, KEY, file)

    read = read_file(file)
    assert (read.faults, read.count) == ([], lines + 1)


def test_writers_of_one_file_take_turns(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "checkpoints.jsonl"
    with reader(database_url) as first, reader(database_url) as second, ThreadPoolExecutor(2) as pool:
        writing = [pool.submit(checkpoints.append, (first, second)[it % 2], KEY, file) for it in range(20)]
        for one in writing:
            one.result()

    read = read_file(file)
    assert (read.faults, read.count) == ([], 20)


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "key"

    with ThreadPoolExecutor(4) as pool:
        made = {key.private_bytes_raw() for key in pool.map(keys.signing_key, [path] * 8)}

    assert made == {keys.signing_key(path).private_bytes_raw()}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keys.verifying_key(keys.public_path(path)) == keys.signing_key(path).public_key()
    assert sorted(it.name for it in path.parent.iterdir()) == ["key", "key.pub"]

    keys.public_path(path).unlink()
    keys.signing_key(path)
    assert keys.verifying_key(keys.public_path(path)) == keys.signing_key(path).public_key()


@pytest.mark.parametrize("content", [b"", b"secret", b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"])
def test_a_file_that_holds_no_key_is_told_of(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)

    with pytest.raises(keys.KeyUnusable, match="holds no private key"):
        keys.signing_key(path)
    with pytest.raises(keys.KeyUnusable, match="holds no public key"):
        keys.verifying_key(path)
