"""The commands that look back: statements by effective date, open holds, and transfers by what is known of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cli.conftest import call
from tests.cli.test_send import answers
from tests.factories import hold, new_id, open_books, post
from worker.engine.settle import Settlement
from worker.postgres.engines import committing_engine
from worker.settings import Urls

DUE = datetime(2020, 1, 1, 12, tzinfo=UTC)


class Past:
    """An account with a fee of a day long past, an order, a hold, and nothing else."""

    def __init__(self, urls: Urls) -> None:
        engine = committing_engine(urls.database_url)
        settle = Settlement(engine)
        self.urls = urls
        self.ledger, (self.anna, self.bank) = open_books(settle, [10_000])
        order = {"order": "17", "lines": [{"no": 3}]}
        self.fee = post(self.anna, self.bank, 1_250, kind="fee", effective_at=DUE)
        self.order = post(self.anna, self.bank, 2_000, metadata=order)
        self.hold = hold(self.anna, self.bank, 500, kind="deposit", expires_in_s=3_600)
        self.told = settle([self.fee, self.order, self.hold])
        engine.dispose()

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Any:
        return call(*arguments, urls=self.urls, stdin=stdin)


@pytest.fixture(scope="module")
def past(urls: Urls) -> Past:
    return Past(urls)


def test_a_statement_by_effective_date_is_its_head_and_a_line_an_entry(past: Past) -> None:
    head, fee = answers(past("statement", past.anna, "--json", "--effective", "2020-01-01T12:00:00Z"))
    whole = answers(past("statement", past.anna, "--json", "--effective", "9999-12-31T23:59:59Z"))

    assert head == {
        "account_id": past.anna, "ledger": past.ledger, "currency": "EUR", "scale": 2, "at": None,
        "effective": "2020-01-01T12:00:00.000000Z", "balance": -1250, "entries": 1, "version": 3,
    }  # fmt: skip
    assert fee == {
        "version": 2, "transfer_id": past.fee.id, "side": "debit", "change": -1250, "balance": -1250,
        "other_id": past.bank, "sequence": 2, "created_at": past.told[0]["decided_at"], "kind": "fee",
        "effective_at": "2020-01-01T12:00:00.000000Z",
    }  # fmt: skip
    assert [(it["version"], it["balance"]) for it in whole[1:]] == [(2, -1250), (1, 8750), (3, 6750)]
    assert whole[0]["balance"] == 6750


def test_what_was_known_then_of_a_day_is_told_by_both_times(past: Past) -> None:
    (head,) = answers(
        past("statement", past.anna, "--json", "--effective", "2020-01-01T12:00:00Z", "--at", "2020-01-02T00:00:00Z")
    )

    assert (head["at"], head["balance"], head["entries"], head["version"]) == ("2020-01-02T00:00:00.000000Z", 0, 0, 0)


@pytest.mark.parametrize("times", [[], ["--effective", "9999-12-31T23:59:59Z"]], ids=["now", "effective"])
def test_a_balance_alone_is_the_head_of_the_statement(times: list[str], past: Past) -> None:
    whole, alone = (past("statement", past.anna, "--json", *times, *more).stdout for more in ([], ["--balance"]))
    shown = past("statement", past.anna, *times, "--balance").stdout.decode()

    assert alone == whole.partition(b"\n")[0] + b"\n"
    assert shown.startswith(past.anna) and "67.50 EUR" in shown and past.bank not in shown


def test_a_statement_by_effective_date_for_people_says_from_when_each_entry_counts(past: Past) -> None:
    shown = past("statement", past.anna, "--effective", "9999-12-31T23:59:59Z").stdout.decode()

    for part in ("counts from", "2020-01-01T12:00:00.000000Z", "-12.50 EUR", "87.50 EUR", "67.50 EUR, 3 entries"):
        assert part in shown


def test_an_account_with_its_holds_is_the_account_and_then_its_holds(past: Past) -> None:
    plain = past("account", "--json", past.anna, past.bank, nobody := new_id())
    anna, bank, none = answers(past("account", "--json", "--holds", past.anna, past.bank, nobody))

    expected = {
        "id": past.hold.id, "side": "debit", "other_id": past.bank, "amount": 500, "remaining": 500, "captured": 0,
        "expires_at": anna["holds"][0]["expires_at"], "created_at": past.told[2]["decided_at"],
        "kind": "deposit",
    }  # fmt: skip
    assert anna.pop("holds") == [expected]
    assert bank.pop("holds") == [expected | {"side": "credit", "other_id": past.anna}]
    assert [anna, bank, none] == answers(plain)
    assert b"holds" not in plain.stdout
    due = datetime.fromisoformat(expected["expires_at"]) - datetime.fromisoformat(expected["created_at"])
    assert due == timedelta(hours=1)


def test_an_account_with_its_holds_for_people_names_each(past: Past) -> None:
    shown = past("account", "--holds", past.anna).stdout.decode()

    for part in (f"holds pending on {past.anna}", past.hold.id, past.bank, "-5.00 EUR"):
        assert part in shown


def test_transfers_for_programs_are_a_line_each_that_says_where_to_go_on(past: Past) -> None:
    first, second = answers(past("transfers", "--ledger", past.ledger, "--json", "--limit", "2"))
    rest = answers(past("transfers", "--ledger", past.ledger, "--json", "--after", str(second["sequence"])))

    assert first == {
        "id": past.order.id, "ledger": past.ledger, "currency": "EUR", "scale": 2, "sequence": 3,
        "source_id": past.anna, "destination_id": past.bank, "amount": 2000, "created_at": past.told[1]["decided_at"],
        "metadata": {"order": "17", "lines": [{"no": 3}]},
    }  # fmt: skip
    assert list(second)[-2:] == ["kind", "effective_at"]
    assert [it["sequence"] for it in rest] == [1]


@pytest.mark.parametrize(
    ("asked", "sequences"),
    [
        (["--kind", "fee"], [2]),
        (["--metadata", "order=17"], [3]),
        (["--metadata", "order=17", "--metadata-json", '{"lines": [{"no": 3}]}'], [3]),
        (["--metadata", "order=17", "--metadata", "lines=3"], []),
        (["--amount", "12.5"], [2]),
        (["--min-amount", "20", "--oldest-first"], [1, 3]),
        (["--max-amount", "20.00 EUR"], [3, 2]),
        (["--min-amount", "12.51", "--max-amount", "99.99"], [3]),
        (["--until", "2020-01-01T00:00:00Z"], []),
        (["--since", "2020-01-01T00:00:00Z", "--limit", "1"], [3]),
        (["--after", "3", "--oldest-first"], []),
    ],
    ids=lambda it: " ".join(map(str, it)),
)
def test_transfers_are_found_by_what_is_known_of_them(asked: list[str], sequences: list[int], past: Past) -> None:
    told = answers(past("transfers", "--account", past.anna, "--json", *asked))

    assert [it["sequence"] for it in told] == sequences


def test_transfers_for_people_have_decimals_and_say_that_there_are_more(past: Past) -> None:
    some = past("transfers", "--ledger", past.ledger, "--limit", "2").stdout.decode()
    none = past("transfers", "--ledger", past.ledger, "--kind", "nothing").stdout.decode()

    for part in (past.fee.id, past.anna, past.bank, "fee", "12.50 EUR", "and more than these 2: --after 2\n"):
        assert part in some
    assert none == "no such transfers\n"


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["--ledger", "x", "--account", "y"],
        ["--ledger", "x", "--since", "yesterday"],
        ["--ledger", "x", "--until", "2026-11-23T12:00:00"],
        ["--ledger", "x", "--after", "0"],
        ["--ledger", "x", "--after", "0x7"],
        ["--ledger", "x", "--after", "9223372036854775808"],
        ["--ledger", "x", "--metadata", "order"],
        ["--ledger", "x", "--metadata", "order=1", "--metadata", "order=2"],
        ["--ledger", "x", "--metadata-json", "order"],
        ["--ledger", "x", "--metadata-json", "[1]"],
        ["--ledger", "x", "--metadata-json", "{}"],
        ["--ledger", "x", "--metadata-json", '{"a": 1.5}'],
        ["--ledger", "x", "--metadata-json", '{"a": "\\u0000"}'],
        ["--ledger", "x", "--metadata-json", '{"a":' * 9 + "1" + "}" * 9],
        ["--ledger", "~", "--amount", "1.234"],
        ["--ledger", "~", "--min-amount", "12.00 USD"],
        ["--ledger", "~", "--amount", "1", "--max-amount", "2"],
    ],
    ids=" ".join,
)
def test_a_question_that_is_not_understood_is_a_status_and_no_traceback(wrong: list[str], past: Past) -> None:
    done = past("transfers", *(past.ledger if it == "~" else it for it in wrong))

    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Invalid value" in done.stderr and b"Traceback" not in done.stderr


@pytest.mark.parametrize("scope", ["--ledger", "--account"])
@pytest.mark.parametrize("name", [new_id(), "no\nname\udcff"], ids=["unused", "no name"])
def test_transfers_of_nobody_are_one_line_and_a_status(scope: str, name: str, past: Past) -> None:
    done = past("transfers", scope, name)

    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"equipoise: there is no ") and done.stderr.count(b"\n") == 1


def test_a_statement_of_a_time_that_is_none_is_not_understood(past: Past) -> None:
    done = past("statement", past.anna, "--effective", "2026-11-23T12:00:00")

    assert (done.returncode, done.stdout) == (2, b"")
    assert b"--effective" in done.stderr
