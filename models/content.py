"""The content of a command: what must be the same when an id comes again.

Content is the validated command without the fields that stand at their default, so that spelling a
default out, reordering keys or changing white space makes no difference.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

import orjson
from pydantic import BaseModel

from models.commands import Batch, Command
from models.outcomes import timestamp

_NO_CONTENT = ("id", "dry_run")


def content_of(command: Command | Batch) -> dict[str, Any]:
    """Give the content, its JSON-able values in the order of the contract's table, without the id.

    Nor with `dry_run`: what was only tried out leaves nothing that could be compared with.
    """
    if isinstance(command, Batch):
        return {"type": command.type, "commands": command.commands_digest}
    values = command.__dict__
    content: dict[str, Any] = {"type": command.type}
    for name, default in _defaults(type(command)):
        value = values[name]
        if value != default:
            content[name] = _plain(value)
    return content


def _plain(value: Any) -> Any:
    """Give a field's value as JSON has it."""
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, list):
        return [entry.model_dump(exclude_defaults=True) if isinstance(entry, BaseModel) else entry for entry in value]
    return value


def first_difference(first: Mapping[str, Any], command: Command | Batch) -> str | None:
    """Name the first field in which `command` differs from an id's first content; None where none does."""
    second = content_of(command)
    if _bytes(first) == _bytes(second):
        return None
    if first["type"] != second["type"]:
        return "type"
    names = ("commands",) if isinstance(command, Batch) else type(command).model_fields
    return next(
        (name for name in names if name not in _NO_CONTENT and _canonical(first, name) != _canonical(second, name)),
        None,
    )


def _canonical(content: Mapping[str, Any], name: str) -> bytes | None:
    """Give a field's bytes, None where it is left out: null is no default of its own, nor is true 1."""
    return _bytes(content[name]) if name in content else None


def _bytes(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


@cache
def _defaults(model: type[Command]) -> tuple[tuple[str, Any], ...]:
    """Give the fields that make up the content, each with its default."""
    fields = model.model_fields.items()
    return tuple((name, field.default) for name, field in fields if name not in ("type", *_NO_CONTENT))
