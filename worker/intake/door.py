"""The door: judges a raw message against the contract, before anything else of Celery reads its body.

What breaks the schema or a limit becomes a dead letter with its reason; everything that passes is a command
whose verdict is an outcome. Judging a message touches neither broker nor database.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any, TypeVar
from uuid import NAMESPACE_URL, uuid5

import orjson
from pydantic import ValidationError

from models import contract
from models.commands import COMMANDS, Batch, Command, Member, PostTransfer
from models.content import content_of
from models.dead_letters import DeadLetter, Reason
from models.fields import is_id
from worker.engine.decide import Item
from worker.intake import links
from worker.intake.decoder import Unreadable, decode, depth, first_flaw
from worker.intake.spans import Sent, value_end

BATCH_TASK = "batch"

C = TypeVar("C", bound=Command)

_NAMESPACE = uuid5(NAMESPACE_URL, "equipoise:dead-letter")
_ID_FAULT = "not a UUID of 36 characters, lower case, neither nil nor all ones"
_MAX_DETAIL_CHARACTERS = 500
_MAX_WRAPPER_BYTES = 4096
"""What Celery may put around a command, `[[], …, {callbacks, …}]`; empty it is 80 bytes. Not the command's own size."""


class Malformed(ValueError):
    """What the contract does not admit; the message says which field and why."""


@dataclass(frozen=True)
class Delivery:
    """A message as the door gets it: the task's name, Celery's id for it, its queue, and its bytes.

    `raw` is what lay in the queue, from which a dead letter's id is made; `flaw` is set where the
    transport could not read even the envelope.
    """

    task: str
    task_id: str
    queue: str
    body: bytes
    raw: bytes
    flaw: str | None = None

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of `raw`: once a message, though each of a batch's members may be a dead letter."""
        return hashlib.sha256(self.raw).hexdigest()


@dataclass(frozen=True, slots=True)
class Judged:
    """What a message is. `linked`: Celery has more to do with its result (callbacks, a chain, a chord)."""

    item: Item
    linked: bool = False


def judge(delivery: Delivery) -> Judged:
    """Give the command or batch that a message carries, or the dead letter that it is."""
    payload: Any = None
    try:
        payload, embed, suspicious = _payload(delivery)
        linked = any((embed or {}).values())
        if delivery.task == BATCH_TASK:
            return Judged(_batch(payload, delivery, suspicious), linked)
        return Judged(validated(COMMANDS[delivery.task], payload, suspicious=suspicious), linked)
    except (Malformed, Unreadable) as error:
        return Judged(dead_letter(delivery, Reason.MALFORMED, str(error), payload))


def dead_letter(
    delivery: Delivery, reason: Reason, detail: str, payload: object = None, place: str = "", body: bytes | None = None
) -> DeadLetter:
    """Make the dead letter of a message, or of the member at `place` in it. The same bytes give the same id."""
    return DeadLetter(
        id=str(uuid5(_NAMESPACE, f"{delivery.digest}:{place}")),
        reason=reason,
        detail=detail[:_MAX_DETAIL_CHARACTERS],
        task=delivery.task,
        task_id=delivery.task_id,
        queue=delivery.queue,
        body=delivery.body if body is None else body,
        command_id=_command_id(payload),
    )


def _payload(delivery: Delivery) -> tuple[Any, Any, bool]:
    """Read the body, `[args, kwargs, embed]`; give the command, the embed, and whether to look for flaws."""
    if delivery.flaw is not None:
        raise Malformed(delivery.flaw)
    if delivery.task == contract.UNREADABLE_TASK:
        raise Malformed(_why_unreadable(delivery.body))
    limit = contract.MAX_BATCH_BYTES if delivery.task == BATCH_TASK else contract.MAX_COMMAND_BYTES
    if len(delivery.body) > limit + _MAX_WRAPPER_BYTES:
        raise Malformed(f"{len(delivery.body)} bytes; a command may have {limit}")
    value, suspicious = decode(delivery.body)
    if not isinstance(value, list) or len(value) != 3 or not isinstance(value[1], dict):
        raise Malformed("the body must be [args, kwargs, embed], as Celery's protocol 2 sends it")
    if value[0] != []:
        raise Malformed("positional arguments: a command's fields are keyword arguments")
    _refuse_strange_embed(value[2])
    payload = value[1]
    if len(delivery.body) > limit and _size_as_sent(delivery.body) > limit:
        raise Malformed(f"{_size_as_sent(delivery.body)} bytes; a command may have {limit}")
    if "type" in payload and payload["type"] != delivery.task:
        raise Malformed(f"type: the message was sent as {delivery.task!r}")
    if delivery.task != BATCH_TASK and delivery.task not in COMMANDS:
        raise Malformed(f"type: {delivery.task!r} is no command; known are {', '.join((*COMMANDS, BATCH_TASK))}")
    return payload, value[2], suspicious


def _refuse_strange_embed(embed: Any) -> None:
    """Take of what shall follow a command only what Celery can send: it would fail when the command is settled."""
    if not isinstance(embed, dict | None):
        raise Malformed("the body's third part, embed, must be an object")
    flaw = links.fault(embed or {})
    if flaw is not None:
        raise Malformed(f"embed: {flaw}")


def _why_unreadable(body: bytes) -> str:
    """Say what is wrong with a line that its sender could not send as a command."""
    if len(body) > contract.MAX_BATCH_BYTES:
        return f"{len(body)} bytes of no known type"
    try:
        value, _ = decode(body)
    except Unreadable as error:
        return str(error)
    if not isinstance(value, dict):
        return "not a JSON object"
    return _unknown_type(value, (*COMMANDS, BATCH_TASK))


def validated(model: type[C], payload: dict[str, Any], *, suspicious: bool) -> C:
    """Make a command of what `decode` gave, with its word on whether to look for flaws. Raises Malformed."""
    if suspicious or payload.get("metadata"):
        _bound(payload)
    if suspicious:
        _refuse_flaws(payload)
    try:
        return model.model_validate(payload)
    except ValidationError as error:
        raise Malformed(_first_fault(error)) from error


def _bound(payload: Mapping[str, Any]) -> None:
    if depth(payload) > contract.MAX_DEPTH:
        raise Malformed(f"nested deeper than {contract.MAX_DEPTH} levels")


def _refuse_flaws(payload: Mapping[str, Any]) -> None:
    flaw = first_flaw(payload)
    if flaw is not None:
        raise Malformed(flaw)


def _size_as_sent(body: bytes) -> int:
    """Measure the command in a body that is sound: what stands between the arguments, `[]`, and the embed."""
    text = body.decode()
    start = text.index("{")
    return len(text[start : value_end(text, start)].encode())


def _batch(payload: Mapping[str, Any], delivery: Delivery, suspicious: bool) -> Batch:
    """Validate a batch: its own fields here, each member by itself."""
    own = {name: value for name, value in payload.items() if name != "commands"}
    _bound(own)
    _refuse_flaws(own)
    unknown = own.keys() - {"id", "type", "dry_run"}
    if unknown:
        raise Malformed(f"{min(unknown)}: unknown field")
    dry_run = payload.get("dry_run", False)
    if not isinstance(dry_run, bool):
        raise Malformed("dry_run: true or false")
    id = payload.get("id")
    if not isinstance(id, str) or _command_id(payload) is None:
        raise Malformed(f"id: {_ID_FAULT}")
    entries = payload.get("commands")
    if not isinstance(entries, list) or not entries:
        raise Malformed("commands: a list of at least one command")
    if sum(len(entry) if isinstance(entry, list) else 1 for entry in entries) > contract.MAX_BATCH_COMMANDS:
        raise Malformed(f"commands: more than {contract.MAX_BATCH_COMMANDS}")
    sent = Sent(delivery.body)
    commands: tuple[Any, ...] = tuple(
        _entry(entry, delivery, sent, str(place), suspicious) for place, entry in enumerate(entries)
    )
    members = tuple(member for entry in commands for member in (entry if isinstance(entry, tuple) else (entry,)))
    digest_with = partial(_digest_with, delivery)
    return Batch(id, commands, members, _digest(entries, commands), digest_with, dry_run=dry_run)


def _entry(entry: Any, delivery: Delivery, sent: Sent, place: str, suspicious: bool) -> Member | tuple[Member, ...]:
    if isinstance(entry, list) and entry:
        return tuple(
            _member(member, delivery, sent, f"{place}.{step}", suspicious) for step, member in enumerate(entry)
        )
    return _member(entry, delivery, sent, place, suspicious)


def _member(payload: Any, delivery: Delivery, sent: Sent, place: str, suspicious: bool) -> Member:
    try:
        if not isinstance(payload, dict):
            raise Malformed("a command is a JSON object" if payload != [] else "a chain has at least one command")
        type_ = payload.get("type")
        if type_ == BATCH_TASK:
            raise Malformed("type: batches do not nest")
        if not isinstance(type_, str) or type_ not in COMMANDS:
            raise Malformed(_unknown_type(payload, COMMANDS))
        if (suspicious or _may_be_long(payload, type_)) and len(sent.member(place)) > contract.MAX_COMMAND_BYTES:
            raise Malformed(f"more than {contract.MAX_COMMAND_BYTES} bytes")
        return validated(COMMANDS[type_], payload, suspicious=suspicious)
    except Malformed as error:
        return dead_letter(delivery, Reason.MALFORMED, str(error), payload, place, sent.member(place))


def _may_be_long(payload: Mapping[str, Any], type_: str) -> bool:
    """Whether a command's size must be measured: a plain transfer's fields are all short but one."""
    return type_ != PostTransfer.type_name() or bool(payload.get("metadata"))


def _unknown_type(payload: Mapping[str, Any], known: Iterable[str]) -> str:
    if "type" not in payload:
        return "type: missing"
    type_ = payload["type"]
    shown = repr(type_[:80]) if isinstance(type_, str) else "what is not a text"
    return f"type: {shown} is no command; known are {', '.join(known)}"


def _digest(entries: list[Any], commands: tuple[Member | tuple[Member, ...], ...]) -> str:
    """Hash what the members are: their ids and contents, a malformed one by its bytes."""
    canonical = [
        list(map(_canonical, entry, command)) if isinstance(command, tuple) else _canonical(entry, command)
        for entry, command in zip(entries, commands, strict=True)
    ]
    return hashlib.sha256(orjson.dumps(canonical, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _digest_with(delivery: Delivery, malformed: Collection[str]) -> str:
    """Hash a batch as it would be if those at these places were malformed, as they were to an earlier release."""
    payload, _, suspicious = _payload(delivery)
    sent, entries = Sent(delivery.body), payload["commands"]

    def judged(entry: Any, place: str) -> Any:
        if isinstance(entry, list) and entry:
            return tuple(judged(member, f"{place}.{step}") for step, member in enumerate(entry))
        if place in malformed:
            return dead_letter(delivery, Reason.MALFORMED, "", entry, place, sent.member(place))
        return _member(entry, delivery, sent, place, suspicious)

    return _digest(entries, tuple(judged(entry, str(place)) for place, entry in enumerate(entries)))


def _canonical(payload: Any, member: Member) -> Any:
    if isinstance(member, DeadLetter):
        return {"malformed": hashlib.sha256(member.body).hexdigest()}
    # With none but required fields in it, what was sent is the content.
    if len(payload) == _required_fields(type(member)):
        return payload
    return {"id": member.id} | content_of(member)


@cache
def _required_fields(model: type[Command]) -> int:
    """Count the fields that a command of this type always has, its type among them."""
    return 1 + sum(field.is_required() for field in model.model_fields.values())


def _first_fault(error: ValidationError) -> str:
    """Say in one line what is wrong first: `field: reason`, without the value that a person sent."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    path = ".".join(str(step) for step in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{path}: unknown field"
    if fault["type"] == "string_pattern_mismatch" and path.endswith("id"):
        return f"{path}: {_ID_FAULT}"
    reason = fault["msg"].removeprefix("Value error, ")
    return f"{path}: {reason[:1].lower()}{reason[1:]}"


def _command_id(payload: object) -> str | None:
    id = payload.get("id") if isinstance(payload, dict) else getattr(payload, "id", None)
    return id if isinstance(id, str) and is_id(id) else None
