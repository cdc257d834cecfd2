"""A line of an imported file as what it asks for: judged by the door, as a message with the same bytes would be.

The same decoder, the same models, the same words. What is added is the id of a line that has none, and a type of line
that no message can have, the opening balance.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from io import BufferedReader
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

import orjson

from models.commands import COMMANDS
from models.contract import MAX_COMMAND_BYTES, UNREADABLE_TASK
from models.dead_letters import DeadLetter
from worker.engine.decide import Item
from worker.intake.decoder import Unreadable, decode
from worker.intake.door import BATCH_TASK, Delivery, Malformed, judge, validated
from worker.porting.lines import MAX_LINE_BYTES, Line
from worker.porting.opening import OpeningBalance
from worker.porting.rows import Header

_NAMESPACE: Final = uuid5(NAMESPACE_URL, "equipoise:import")
_OPENING_BALANCE: Final = OpeningBalance.type_name()


class Name:
    """What an import is called: given, or else the SHA-256 of its file, which is read for it when first asked for."""

    def __init__(self, given: str | None, digest: Callable[[], str]) -> None:
        self._given = given
        self._digest = digest

    @cached_property
    def value(self) -> str:
        """Give the name. Raises Malformed where there is none to be had."""
        return self._digest() if self._given is None else self._given

    @property
    def was_needed(self) -> bool:
        """Whether any line's id was made of it."""
        return "value" in self.__dict__

    def still_holds(self) -> bool:
        """Whether the file is still what the name was made of, if it was made of it at all."""
        return self._given is not None or not self.was_needed or self._digest() == self.value

    def id_of(self, number: int) -> str:
        """Give the id of the line with a number: the UUIDv5 of the number in the name."""
        return str(uuid5(uuid5(_NAMESPACE, self.value), str(number)))


def sha256_of(file: BufferedReader) -> str:
    """Give the digest of a file, and leave it where it stood. Raises Malformed where it cannot be read twice."""
    if not file.seekable():
        raise Malformed("id: missing; a file that cannot be read twice needs a name (--name) to make ids of")
    here = file.tell()
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(here)
    return digest


@dataclass(frozen=True, slots=True)
class Judged:
    """What a line asks for: `item`, or nothing, `detail` saying why. `id` and `type` as far as they can be read."""

    line: Line
    id: str | None
    type: str | None
    item: Item | OpeningBalance | None
    detail: str | None = None


def judged(line: Line, name: Name, header: Header | None) -> Judged:
    """Judge a line of JSON, or a row of these columns."""
    fields: dict[str, Any] = {}
    try:
        if line.is_too_long:
            raise Malformed(f"more than {MAX_LINE_BYTES} bytes")
        content = line.content if header is None else header.as_json(line.content)
        fields = _fields(content)
        if fields and "id" not in fields:
            fields["id"] = name.id_of(line.number)
            content = content.replace(b"{", b'{"id":"%s",' % fields["id"].encode(), 1)
        item = _item(content, fields.get("type"))
    except (Malformed, Unreadable) as error:
        return Judged(line, _text(fields, "id"), _text(fields, "type"), None, str(error))
    if isinstance(item, DeadLetter):
        return Judged(line, item.command_id, _text(fields, "type"), None, item.detail)
    return Judged(line, item.id, item.type, item)


def _fields(content: bytes) -> dict[str, Any]:
    """Look at a line: what it calls its fields. The door looks again, and is stricter."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        value, _ = decode(content)  # NaN and its kin, of which the door has more to say
    return value if isinstance(value, dict) else {}


def _item(content: bytes, type_: object) -> Item | OpeningBalance:
    if type_ == _OPENING_BALANCE:
        if len(content) > MAX_COMMAND_BYTES:
            raise Malformed(f"{len(content)} bytes; a command may have {MAX_COMMAND_BYTES}")
        payload, suspicious = decode(content)
        return validated(OpeningBalance, payload, suspicious=suspicious)
    if not isinstance(type_, str) or (type_ not in COMMANDS and type_ != BATCH_TASK):
        return judge(Delivery(UNREADABLE_TASK, "", "", body=content, raw=content)).item
    return judge(Delivery(type_, "", "", body=b"[[],%s,{}]" % content, raw=content)).item


def _text(fields: dict[str, Any], name: str) -> str | None:
    """Give a text to tell it by. JSON can escape lone surrogates, which UTF-8 cannot write: they are spelt out."""
    value = fields.get(name)
    return value[:80].encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else None
