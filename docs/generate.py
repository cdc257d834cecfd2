"""The pages that are written from the code, by `make docs`; a test fails where a page is not what it would write."""

from pathlib import Path

from models.commands import COMMANDS
from models.rules.refusals import ANY, REFUSALS
from models.statuses import Status

_STATUSES = """\
# Statuses

<!-- Written by `make docs` from models/statuses.py and models/rules/refusals.py: change those. -->

Every command ends in one of these. They stand in order of precedence: of those that hold, the first is given. HTTP is
what a web front end may pass on; there, a dead letter that is not malformed is a 500, and a command that waits while a
server is away a 503.

| status | HTTP | means | of |
|---|---|---|---|
"""


def pages() -> dict[str, str]:
    """Give each page's text by its name in this folder."""
    return {"statuses.md": _STATUSES + "".join(map(_row, Status))}


def _row(status: Status) -> str:
    return f"| `{status}` | {status.http} | {status.meaning} | {_given_by(status)} |\n"


def _given_by(status: Status) -> str:
    """Name the command types that can end so, in the contract's order."""
    if status in ANY or status is Status.APPLIED:
        return "any"
    types = [name for name, model in COMMANDS.items() if status in REFUSALS.get(model, ())]
    return ", ".join(f"`{name}`" for name in types)


if __name__ == "__main__":
    for name, page in pages().items():
        (Path(__file__).parent / name).write_text(page, encoding="utf-8", newline="\n")
