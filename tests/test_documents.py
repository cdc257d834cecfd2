"""What the documents say is what the code does."""

import re
from pathlib import Path

import pytest

from docs.generate import pages
from models.commands import COMMANDS
from models.rules.refusals import ANY, REFUSALS
from models.statuses import PRECEDENCE, Status
from worker.cli.endings import Status as ExitStatus
from worker.proving.verdicts import Kind

ROOT = Path(__file__).parent.parent
COMMANDS_PAGE = (ROOT / "docs" / "commands.md").read_text()


@pytest.mark.parametrize("name", pages())
def test_a_page_that_comes_from_the_code_is_what_make_docs_writes(name: str) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == pages()[name]


def test_the_statuses_have_one_page_in_the_order_of_precedence() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", (ROOT / "docs" / "statuses.md").read_text(), re.MULTILINE)
    elsewhere = [page.name for page in ROOT.glob("docs/*.md") if f"| `{Status.ID_REUSED}` |" in page.read_text()]

    assert rows == [(status.value, str(status.http)) for status in Status]
    assert elsewhere == ["statuses.md"]


def test_every_command_says_what_it_can_be_refused_with_in_the_order_of_precedence() -> None:
    assert set(REFUSALS) == set(COMMANDS.values())
    for refusals in (ANY, *REFUSALS.values()):
        assert list(refusals) == sorted(set(refusals), key=PRECEDENCE.index)


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
