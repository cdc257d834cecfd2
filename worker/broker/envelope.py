"""The envelope: what the bytes of one message say, or why they cannot be read.

A Celery message in Redis is a JSON object that holds the body, its encoding, headers and properties. Anything may
stand in a queue, though, and stock kombu dies of much of it. Here every sequence of bytes becomes an envelope: one
that cannot be read becomes a message of the task `commands.unreadable`, with the bytes as its body and the reason in
a header, and takes its way through the worker like any other.

This judges no body: whether it is JSON, a known task or a sensible command is for those to say who read it.
"""

from base64 import b64decode
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid5

import orjson

from models.contract import UNREADABLE_TASK, VERSION_HEADER

FLAW_HEADER = "equipoise-flaw"
"""The header that says why a message of the task `commands.unreadable` cannot be read."""

MAX_NAME_CHARACTERS = 255
"""Of a task's name or id: as many as Celery's own result tables hold."""

UNREADABLE_IDS = UUID("6f0f3c7e-2c1d-5a53-9d4e-0d0c7f1b8a11")
"""Namespace of the ids of unreadable messages: the same bytes have the same id however often they are delivered."""

TEXT_HEADERS = ("root_id", "parent_id", "eta", "expires", "shadow", "argsrepr", "kwargsrepr", "compression", "group")
"""Headers that Celery reads as text, if they are there."""

LIST_HEADERS = ("stamped_headers",)
"""Headers that it reads as lists."""

TEXT_PROPERTIES = ("correlation_id", "reply_to")
TEXT_DELIVERY_INFO = ("exchange", "routing_key")


class Unreadable(ValueError):
    """A message cannot be read; the message of the error says why."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message as it was sent, its body decoded from the encoding of the transport and from nothing else."""

    body: bytes
    content_type: str | None
    content_encoding: str | None
    headers: dict[str, Any]
    properties: dict[str, Any]


def understand(raw: bytes) -> Envelope:
    """Read a task's message; one that cannot be read becomes one of `commands.unreadable`. Never raises."""
    try:
        envelope = open_envelope(raw)
        require_task(envelope)
    except Unreadable as error:
        return stand_in(raw, str(error))
    headers = envelope.headers
    # The flaw is ours to find. And nothing is ever inflated: kombu would do it here, and a small message has no bound.
    flaw = "compressed: commands travel as they are" if headers.get("compression") else None
    kept = {name: value for name, value in headers.items() if name not in (FLAW_HEADER, "compression")}
    return replace(envelope, headers=kept if flaw is None else kept | {FLAW_HEADER: flaw})


def open_envelope(raw: bytes) -> Envelope:
    """Read the bytes of any message, or raise `Unreadable`."""
    try:
        message = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Unreadable(f"not JSON: {error}") from error
    return read_envelope(message)


def read_envelope(message: object) -> Envelope:
    """Read any message that was JSON, or raise `Unreadable`."""
    if not isinstance(message, dict):
        raise Unreadable("the envelope is not an object")
    properties = _object(message, "properties", required=True)
    delivery_info = _object(properties, "delivery_info")
    for name in TEXT_DELIVERY_INFO:
        _text(delivery_info, name)
    for name in TEXT_PROPERTIES:
        _text(properties, name)
    return Envelope(
        body=_body(message.get("body"), properties.get("body_encoding")),
        content_type=_text(message, "content-type"),
        content_encoding=_text(message, "content-encoding"),
        headers=_object(message, "headers"),
        properties=properties,
    )


def uncompressed(envelope: Envelope) -> Envelope:
    """Give the envelope back, or raise `Unreadable` where kombu would inflate it."""
    if envelope.headers.get("compression"):
        raise Unreadable("compressed")
    return envelope


def require_task(envelope: Envelope) -> None:
    """Raise `Unreadable` unless the headers are such as Celery can make a request of."""
    headers = envelope.headers
    for name in ("task", "id"):
        value = headers.get(name)
        if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value) <= MAX_NAME_CHARACTERS:
            raise Unreadable(f"the header {name!r} is not a text of 1 to {MAX_NAME_CHARACTERS} printable characters")
    for name in TEXT_HEADERS:
        _text(headers, name)
    for name in LIST_HEADERS:
        if not isinstance(headers.get(name) or [], list):
            raise Unreadable(f"the header {name!r} is not a list")
    version = headers.get(VERSION_HEADER)
    if version is not None and type(version) not in (int, str):
        raise Unreadable(f"the header {VERSION_HEADER!r} is neither a number nor a text")
    retries = headers.get("retries")
    if retries is not None and type(retries) is not int:
        raise Unreadable("the header 'retries' is not an integer")
    limits = headers.get("timelimit")
    if limits is not None and not (isinstance(limits, list) and len(limits) == 2):
        raise Unreadable("the header 'timelimit' is not a list of two")


def stand_in(raw: bytes, reason: str) -> Envelope:
    """Make the message that stands for one that cannot be read."""
    return Envelope(
        body=raw,
        content_type="application/data",  # kombu's name for bytes that are to be left alone
        content_encoding="binary",
        headers={
            "task": UNREADABLE_TASK,
            "id": str(uuid5(UNREADABLE_IDS, sha256(raw).hexdigest())),
            FLAW_HEADER: reason,
        },
        properties={},
    )


def _object(container: dict[str, Any], name: str, required: bool = False) -> dict[str, Any]:
    value = container.get(name)
    if value is None and not required:
        return {}
    if not isinstance(value, dict):
        raise Unreadable(f"{name!r} is not an object")
    return value


def _text(container: dict[str, Any], name: str) -> str | None:
    value = container.get(name)
    if value is not None and not isinstance(value, str):
        raise Unreadable(f"{name!r} is not a text")
    return value


def _body(body: object, encoding: object) -> bytes:
    if not isinstance(body, str):
        raise Unreadable("the body is not a text")
    try:
        match encoding:
            case "base64":
                return b64decode(body, validate=True)
            case None | "utf-8":
                return body.encode()
    except ValueError as error:
        raise Unreadable(f"the body is not {encoding or 'utf-8'}: {error}") from error
    raise Unreadable("the body's encoding is unknown")
