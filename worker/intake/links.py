"""What Celery shall do after a command: only signatures that it can send, whatever they say.

They are sent after the command was settled, where Celery fails outside the task's body on one that is none. So a
message is taken with plain signatures, groups, chains and chords, of fields and options that stock producers write.
"""

from collections.abc import Callable
from typing import Any

from models.commands import COMMANDS

MAX_DEPTH = 8
"""Canvases in canvases; Celery takes them apart recursively."""

MAX_SECONDS = 10**8
"""The longest countdown: three years. In whole seconds: of a fraction the decoder leaves no number."""

_OUR_OTHER_TASKS = ("upkeep.", "commands.")
_CANVASES = {
    "chain": ("celery.chain", "tasks"),
    "group": ("celery.group", "tasks"),
    "chord": ("celery.chord", "header"),
}
_FIELDS = {"task", "args", "kwargs", "options", "subtask_type", "immutable", "chord_size"}


def fault(embed: dict[str, Any]) -> str | None:
    """Say what Celery could not send of what it shall do after a command; None: it can send all."""
    for name, value in embed.items():
        if name not in _EMBEDDED:
            return f"unknown field {name[:40]!r}"
        if value is not None and not _EMBEDDED[name](value, 0):
            return f"{name} must be {'a signature' if name == 'chord' else 'a list of signatures'} that Celery can send"
    return None


def _is_signature(value: Any, level: int = 0) -> bool:
    if not isinstance(value, dict) or level > MAX_DEPTH or value.keys() - _FIELDS:
        return False
    task, kind = value.get("task"), value.get("subtask_type")
    if not (isinstance(task, str) and task and isinstance(value.get("args"), list)):
        return False
    if not (isinstance(value.get("kwargs"), dict) and isinstance(value.get("options"), dict)):
        return False
    if not (_flag(value.get("immutable")) and _count(value.get("chord_size"))):
        return False
    if not _are_options(value["options"], level):
        return False
    if kind is None:
        return not task.startswith("celery.") and (not _is_ours(task) or _is_command(value))
    return isinstance(kind, str) and kind in _CANVASES and _is_canvas(value, kind, level)


def _is_ours(task: str) -> bool:
    return task in COMMANDS or task == "batch" or task.startswith(_OUR_OTHER_TASKS)


def _is_command(value: dict[str, Any]) -> bool:
    """Whether a command stays one: a result put before its arguments is refused by its task, while it is sent."""
    return value.get("immutable") is True and value["args"] == []


def _is_canvas(value: dict[str, Any], kind: str, level: int) -> bool:
    task, members = _CANVASES[kind]
    fields, options = value["kwargs"], value["options"]
    if value["task"] != task or value["args"] != []:
        return False
    if kind == "chord":
        if fields.keys() - {"header", "body", "kwargs"} or fields.get("kwargs", {}) != {} or "chord_size" in value:
            return False
        header = fields.get("header")
        is_group = (
            isinstance(header, dict) and header.get("subtask_type") == "group" and _is_signature(header, level + 1)
        )
        return (is_group or _are_signatures(header, level + 1)) and _is_signature(fields.get("body"), level + 1)
    if kind == "group" and (options.get("link") or options.get("link_error")):
        return False
    return fields.keys() == {members} and _are_signatures(fields[members], level + 1)


def _are_signatures(value: Any, level: int) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_signature(it, level) for it in value)


def _may_be_signatures(value: Any, level: int) -> bool:
    return value == [] or _are_signatures(value, level)


def _are_options(options: dict[str, Any], level: int) -> bool:
    return all(name in _OPTIONS and (it is None or _OPTIONS[name](it, level + 1)) for name, it in options.items())


def _text(value: Any, _: int) -> bool:
    return isinstance(value, str) and bool(value)


def _count(value: Any, _: int = 0) -> bool:
    return value is None or (type(value) is int and 0 <= value < 2**31)


def _flag(value: Any, _: int = 0) -> bool:
    return value is None or isinstance(value, bool)


def _priority(value: Any, _: int) -> bool:
    return type(value) is int and 0 <= value <= 255


def _seconds(value: Any, _: int) -> bool:
    return type(value) is int and 0 <= value <= MAX_SECONDS


def _json(value: Any, _: int) -> bool:
    return bool(value == "json")


def _link(value: Any, level: int) -> bool:
    return _may_be_signatures(value if isinstance(value, list) else [value], level)


Check = Callable[[Any, int], bool]

_EMBEDDED: dict[str, Check] = {
    "callbacks": _may_be_signatures,
    "errbacks": _may_be_signatures,
    "chain": _may_be_signatures,
    "chord": _is_signature,
}
_OPTIONS: dict[str, Check] = {
    **dict.fromkeys(("task_id", "root_id", "parent_id", "group_id", "reply_to", "queue", "shadow", "origin"), _text),
    **dict.fromkeys(("ignore_result", "add_to_parent", "retry"), _flag),
    **dict.fromkeys(("countdown", "expires", "time_limit", "soft_time_limit"), _seconds),
    **dict.fromkeys(("link", "link_error"), _link),
    **dict.fromkeys(("group_index", "retries", "replaced_task_nesting"), _count),
    "priority": _priority,
    "serializer": _json,
    "chain": _may_be_signatures,
    "chord": _is_signature,
}
