"""What the documents say is what the code does."""

import re
from pathlib import Path

from models.commands import COMMANDS
from models.statuses import Status
from worker.cli.endings import Status as ExitStatus
from worker.proving.verdicts import Kind

ROOT = Path(__file__).parent.parent
COMMANDS_PAGE = (ROOT / "docs" / "commands.md").read_text()


def test_the_table_of_statuses_is_the_enum_in_its_order() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|$", COMMANDS_PAGE, re.MULTILINE)

    assert rows == [(status.value, str(status.http)) for status in Status]


def test_every_field_of_every_command_is_in_the_table() -> None:
    section = COMMANDS_PAGE.partition("## Fields")[2].partition("**Refused")[0]
    told: dict[str, list[str]] = {}
    type_ = ""
    for named, field in re.findall(r"^\| (?:`([\w.]+)`|every)? ?\| `(\w+)` \|", section, re.MULTILINE):
        type_ = named or type_
        told.setdefault(type_, []).append(field)

    assert told[""] == ["id", "dry_run"]
    for name, model in COMMANDS.items():
        assert told[name] == [field for field in model.model_fields if field not in ("type", "id", "dry_run")]


def test_every_page_that_is_linked_is_there() -> None:
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_exit_status_and_every_kind_of_fault_is_told() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()

    for status in ExitStatus:
        assert f"| {status.value} |" in page
    for kind in Kind:
        assert f"`{kind}`" in page
