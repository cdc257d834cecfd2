"""Checkpoints: what the books were at a moment, signed and kept where nobody who may write the books can change it.

A chain alone proves only that the rows fit each other: whoever may write all of them can write another past, or cut
off its end. A checkpoint says how long each chain was and what its newest link was; one line of JSON, signed with
Ed25519, for a file, a bucket or another team's inbox. In a file each line names the one before it, so that none can be
taken out of its middle.
"""

import fcntl
import json
import os
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine, text

from models.outcomes import timestamp
from worker.proving.keys import verifying_key
from worker.proving.verdicts import Fault, Kind

# What a ledger has moved is the sum of its transfers, and that of its accounts' debits: no transfer is read for it.
_LEDGERS = text(
    """
    SELECT name AS ledger, sequence AS transfers, encode(head, 'hex') AS head,
           coalesce(sum(debits_posted), 0)::text AS moved,
           coalesce(sum(credits_posted::numeric - debits_posted), 0)::text AS balances,
           commands, encode(commands_head, 'hex') AS commands_head
    FROM equipoise.ledgers ledger LEFT JOIN equipoise.accounts account ON account.ledger = ledger.number
    GROUP BY ledger.number ORDER BY ledger.number
    """
)

TAIL_BYTES = 65_536
"""Read at once from the end of a file of checkpoints: the last line, of some hundred ledgers."""

Head = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Sum = Annotated[str, Field(pattern="^-?[0-9]{1,40}$")]
Count = Annotated[int, Field(ge=0)]


class _Signed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class LedgerThen(_Signed):
    """A ledger at the moment of a checkpoint: counts and heads of its chains, the sums of amounts and of balances.

    Sums are strings, since they may be more than the integers of a reader's JSON hold.
    """

    ledger: str
    transfers: Count
    head: Head
    moved: Sum
    balances: Sum
    commands: Count
    commands_head: Head


class Checkpoint(_Signed):
    """What is signed. `previous` is the SHA-256 of the line before it in its file; null: it is the first, or alone."""

    version: Literal[1] = 1
    made_at: str
    previous: Head | None
    ledgers: list[LedgerThen]


class SignedCheckpoint(_Signed):
    """A checkpoint with its signature, which is of the checkpoint's own bytes: compact JSON, the keys sorted."""

    checkpoint: Checkpoint
    signature: str


_UNSIGNED = "is no checkpoint, or nobody has signed it so"


@dataclass(frozen=True, slots=True)
class Mark:
    """What a checkpoint says of one place in a chain: the link there, and what had moved by then (of commands: 0)."""

    head: bytes
    moved: int
    source: str


ChainName = tuple[str, str]
"""A ledger's name, and which of its chains."""


@dataclass(slots=True)
class Past:
    """What checkpoints tell: by chain and place, and what is wrong with the checkpoints themselves."""

    count: int = 0
    marks: dict[ChainName, dict[int, Mark]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def transfers(self, ledger: str) -> dict[int, Mark]:
        """Give what is told of a ledger's transfers, by sequence."""
        return self.marks.get((ledger, "transfers"), {})

    def commands(self, ledger: str) -> dict[int, Mark]:
        """Give what is told of a ledger's commands, by number."""
        return self.marks.get((ledger, "commands"), {})

    def ledgers(self) -> set[str]:
        """Name the ledgers that are told of."""
        return {ledger for ledger, _ in self.marks}

    def add(self, checkpoint: Checkpoint, source: str) -> None:
        """Take a checkpoint's word."""
        self.count += 1
        for then in checkpoint.ledgers:
            if int(then.balances) != 0:
                detail = f"{source} has seen balances that add up to {then.balances}"
                self.faults.append(Fault(Kind.LEDGER_NOT_ZERO, f"ledger {then.ledger}", detail))
            transfers = Mark(bytes.fromhex(then.head), int(then.moved), source)
            commands = Mark(bytes.fromhex(then.commands_head), 0, source)
            self._mark((then.ledger, "transfers"), then.transfers, transfers)
            self._mark((then.ledger, "commands"), then.commands, commands)

    def _mark(self, chain: ChainName, place: int, mark: Mark) -> None:
        first = self.marks.setdefault(chain, {}).setdefault(place, mark)
        if (first.head, first.moved) != (mark.head, mark.moved):
            detail = f"{first.source} and {mark.source} have seen different {chain[1]} up to {place}"
            self.faults.append(Fault(Kind.CHECKPOINT_DIFFERS, f"ledger {chain[0]}", detail))


def take(engine: Engine, key: Ed25519PrivateKey, previous: str | None = None) -> bytes:
    """Make a checkpoint of the books as they are now, on a reader's engine; give its line without the end."""
    with engine.connect() as connection:
        rows = connection.execute(_LEDGERS).mappings().all()
    made_at = timestamp(datetime.now(UTC))
    checkpoint = Checkpoint(made_at=made_at, previous=previous, ledgers=[LedgerThen(**row) for row in rows])
    told = checkpoint.model_dump()
    return _bytes({"checkpoint": told, "signature": b64encode(key.sign(_bytes(told))).decode()})


def append(engine: Engine, key: Ed25519PrivateKey, path: Path) -> None:
    """Make a checkpoint and write it to the end of a file; it is on the disk when this returns. One at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        last, end = _last_line(file)
        # What follows it, without an end of its own, was being written when its writer died: it never was one.
        # Only then: a file that can but grow refuses to be made as long as it is.
        if file.seek(0, os.SEEK_END) > end:
            file.truncate(end)
        file.write(take(engine, key, _hash(last)) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read(lines: Iterable[bytes], key: Ed25519PublicKey, name: str = "checkpoint") -> Past:
    """Read checkpoints, of which only those that are signed count; what is wrong with the others is in `faults`."""
    past = Past()
    before: str | None = None
    for number, whole in enumerate(lines, 1):
        source = f"{name} {number}"
        line = whole.rstrip(b"\n")
        checkpoint = _checked(line, key)
        if checkpoint is None and line == whole:
            return past  # the last one, which was being written when its writer died
        if checkpoint is None:
            past.faults.append(Fault(Kind.CHECKPOINT_UNSIGNED, source, _UNSIGNED))
        else:
            if checkpoint.previous not in (None, before):
                past.faults.append(Fault(Kind.CHECKPOINT_DIFFERS, source, "does not follow the line before it"))
            past.add(checkpoint, f"{source} of {checkpoint.made_at}")
        before = _hash(line)
    return past


def read_file(path: Path, public_key: Path) -> Past:
    """Read a file of checkpoints and the key they were signed for. Raises KeyUnusable, and OSError."""
    key = verifying_key(public_key)
    with path.open("rb") as lines:
        return read(lines, key, str(path))


def _checked(line: bytes, key: Ed25519PublicKey) -> Checkpoint | None:
    try:
        signed = SignedCheckpoint.model_validate_json(line)
        key.verify(b64decode(signed.signature, validate=True), _bytes(signed.checkpoint.model_dump()))
    except (ValueError, InvalidSignature):
        return None
    return signed.checkpoint


def _bytes(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _hash(line: bytes | None) -> str | None:
    return None if line is None else sha256(line).hexdigest()


def _last_line(file: BinaryIO) -> tuple[bytes | None, int]:
    """Give a file's last whole line without its end, None where there is none, and where the file goes on after it."""
    size = file.seek(0, os.SEEK_END)
    tail, start = b"", size
    while start and tail.count(b"\n") < 2:
        start = max(start - TAIL_BYTES, 0)
        file.seek(start)
        tail = file.read(size - start)
    lines = tail.rpartition(b"\n")[0]
    return lines.rpartition(b"\n")[2] if lines else None, size - len(tail) + len(lines) + (1 if lines else 0)
