"""Every question to the history is answered by an index, and reads no more than it must, as docs/queries.md shows."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.conftest import Servers, fresh_database
from tests.reading.questions import QUESTIONS, fill, plans, shown
from worker.reading.reader import reader

JOURNALS = ("transfers", "holds")
"""The tables that only grow. How the accounts that are asked for are found, and their ledger, is no matter here."""
PAGES_A_ROW = 4
"""A row that is found by itself: three levels of an index of this size, and the row's own page."""
PAGE = (Path(__file__).parents[2] / "docs" / "queries.md").read_text()


@pytest.fixture(scope="module")
def history(servers: Servers, template: str) -> Iterator[Engine]:
    with fresh_database(servers.database_url, template) as url:
        fill(url)
        with reader(url) as engine:
            yield engine


def nodes(plan: Any) -> Iterator[Any]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)


def rows_read(node: Any) -> float:
    """Count what a scan looked at: what it gave, and what it threw away."""
    looked_at = sum(
        node.get(it, 0) for it in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    )
    return float(looked_at * node["Actual Loops"])


@pytest.mark.parametrize("title", QUESTIONS)
def test_a_question_is_answered_by_an_index_and_reads_no_more_than_it_must(title: str, history: Engine) -> None:
    question = QUESTIONS[title]

    assert len(question.ask(history)) == question.rows
    asked = [told[0]["Plan"] for told in plans(history, question, "ANALYZE, BUFFERS, FORMAT JSON")]
    scans = [node for plan in asked for node in nodes(plan) if node.get("Relation Name") in JOURNALS]
    assert scans
    assert {node["Node Type"] for node in scans} <= {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}
    assert sum(map(rows_read, scans)) <= question.read
    pages = sum(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for plan in asked)
    # At worst each row is found by itself, and each scan goes down once more to find that there are no others.
    assert pages <= PAGES_A_ROW * (question.read + len(scans))


@pytest.mark.parametrize("title", QUESTIONS)
def test_the_page_shows_the_plans_that_are_made(title: str, history: Engine) -> None:
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    command, told = re.findall(r"^```\w*\n(.*?)\n```$", section, re.MULTILINE | re.DOTALL)

    assert command == f"equipoise {QUESTIONS[title].command}"
    assert told == shown(history, QUESTIONS[title])
