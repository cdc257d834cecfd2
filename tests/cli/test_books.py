"""The commands that read: what they print for people, and the JSON that other programs depend on."""

import json
from typing import Any

import pytest

from tests.cli.conftest import Equipoise
from tests.cli.test_send import answers, lines, opening, transfer
from tests.factories import new_id

ACCOUNT_KEYS = [
    "id", "ledger", "balance", "available", "debits_posted", "credits_posted", "debits_pending", "credits_pending",
    "min_balance", "max_balance", "state", "version",
]  # fmt: skip


class Story:
    """Two accounts, three transfers of which one is refused, and a dead letter."""

    def __init__(self, equipoise: Equipoise) -> None:
        self.ledger, self.bank, self.anna = new_id(), new_id(), new_id()
        commands = opening(self.ledger, self.bank)
        self.limits = {"min_balance": 0, "max_balance": 5000}
        commands.append({"type": "accounts.open", "id": new_id(), "account_id": self.anna, "ledger": self.ledger})
        commands[-1] |= self.limits
        self.paid = transfer(self.bank, self.anna, 1250, kind="gift", metadata={"note": "[red]for you[/red]"})
        self.spent = transfer(self.anna, self.bank, 1)
        self.refused = transfer(self.anna, self.bank, 5000)
        self.broken = transfer(self.anna, self.bank, 0)
        commands += [self.paid, self.spent, self.refused, self.broken]
        self.told = answers(equipoise("send", "--ordered", "--wait", "-", stdin=lines(commands)))


@pytest.fixture(scope="module")
def story(working_urls: Any) -> Story:
    from tests.cli.conftest import call

    return Story(lambda *arguments, stdin=b"": call(*arguments, urls=working_urls, stdin=stdin))


def test_an_account_for_programs_has_the_contracts_keys_in_their_order(story: Story, equipoise: Equipoise) -> None:
    nobody = new_id()

    told = answers(equipoise("account", "--json", "-", stdin=f"{story.anna}\n{nobody} {story.bank}\n".encode()))

    assert [list(one) for one in told] == [ACCOUNT_KEYS, ["id", "state"], ACCOUNT_KEYS]
    assert told[1] == {"id": nobody, "state": "not_found"}
    assert told[0] == {
        "id": story.anna, "ledger": story.ledger, "balance": 1249, "available": 1249, "debits_posted": 1,
        "credits_posted": 1250, "debits_pending": 0, "credits_pending": 0, "min_balance": 0, "max_balance": 5000,
        "state": "open", "version": 2,
    }  # fmt: skip
    assert told[2]["min_balance"] is None


def test_an_account_for_people_has_decimals(story: Story, equipoise: Equipoise) -> None:
    done = equipoise("account", story.anna, story.bank)

    assert done.returncode == 0
    shown = done.stdout.decode()
    assert "12.49 EUR" in shown
    assert "-12.49 EUR" in shown
    assert "50.00 EUR" in shown
    assert story.anna in shown


def test_a_statement_for_programs_is_its_head_and_a_line_an_entry(story: Story, equipoise: Equipoise) -> None:
    head, first, second = answers(equipoise("statement", "--json", story.anna))

    assert head == {
        "account_id": story.anna, "ledger": story.ledger, "currency": "EUR", "scale": 2, "at": None, "balance": 1249,
        "available": 1249, "version": 2,
    }  # fmt: skip
    assert first == {
        "version": 1, "transfer_id": story.paid["id"], "side": "credit", "change": 1250, "balance": 1250,
        "available": 1250, "other_id": story.bank, "sequence": 1, "created_at": story.told[3]["decided_at"],
        "kind": "gift", "metadata": {"note": "[red]for you[/red]"},
    }  # fmt: skip
    assert (second["side"], second["change"], second["balance"], "kind" in second) == ("debit", -1, 1249, False)


def test_a_statement_of_a_moment_before_everything_is_empty(story: Story, equipoise: Equipoise) -> None:
    (head,) = answers(equipoise("statement", story.anna, "--json", "--at", "2020-02-29T12:00:00+01:00"))

    assert (head["at"], head["balance"], head["version"]) == ("2020-02-29T11:00:00.000000Z", 0, 0)


def test_a_trace_for_programs_is_all_that_is_known(story: Story, equipoise: Equipoise) -> None:
    (paid,) = answers(equipoise("trace", "--json", story.paid["id"]))
    (broken,) = answers(equipoise("trace", "--json", story.broken["id"]))

    assert list(paid) == ["id", "outcome", "content", "transfers", "dead_letters", "holds"]
    assert paid["outcome"] == story.told[3]
    assert paid["content"]["amount"] == 1250
    (moved,) = paid["transfers"]
    assert list(moved) == [
        "id", "ledger", "currency", "scale", "sequence", "amount", "created_at", "kind", "metadata", "entries"
    ]  # fmt: skip
    assert [(side["account_id"], side["side"], side["change"]) for side in moved["entries"]] == [
        (story.bank, "debit", -1250),
        (story.anna, "credit", 1250),
    ]
    assert paid["dead_letters"] == []
    assert broken["outcome"] is None
    assert [letter["command_id"] for letter in broken["dead_letters"]] == [story.broken["id"]]


def test_a_trace_for_people_leads_to_both_entries(story: Story, equipoise: Equipoise) -> None:
    shown = equipoise("trace", story.paid["id"]).stdout.decode()

    for part in ("applied", "12.50 EUR", "-12.50 EUR", story.bank, story.anna, "[red]for you[/red]"):
        assert part in shown


def test_dead_letters_are_listed_newest_first_and_shown_whole(story: Story, equipoise: Equipoise) -> None:
    equipoise("send", "--wait", "-", stdin=b'\x1b[2J"{\xff')

    newest, earlier = answers(equipoise("dead", "list", "--json", "--limit", "2"))
    (whole,) = answers(equipoise("dead", "show", "--json", newest["id"]))
    (text,) = answers(equipoise("dead", "show", "--json", earlier["id"]))

    assert newest["created_at"] >= earlier["created_at"]
    assert list(newest) == ["id", "created_at", "reason", "detail", "task", "queue", "bytes"]
    assert (newest["task"], newest["reason"], newest["bytes"]) == ("commands.unreadable", "malformed", 7)
    assert whole == newest | {"task_id": whole["task_id"], "body_base64": "G1sySiJ7/w=="}
    assert list(text)[-2:] == ["task_id", "body"]


def test_a_dead_letter_cannot_move_the_readers_cursor(story: Story, equipoise: Equipoise) -> None:
    equipoise("send", "--wait", "-", stdin=b'\x1b[2J [red]"')
    (newest,) = answers(equipoise("dead", "list", "--json", "--limit", "1"))

    shown = equipoise("dead", "show", newest["id"]).stdout

    assert b"\x1b" not in shown
    assert b'\\u001b[2J [red]"' in shown


def test_the_verdict_for_programs_has_every_count(story: Story, equipoise: Equipoise) -> None:
    (verdict,) = answers(equipoise("verify", "--json"))

    assert list(verdict) == [
        "sound",
        "transfers",
        "accounts",
        "ledgers",
        "commands",
        "seconds",
        "faults",
        "checkpoints",
    ]
    assert verdict["sound"] is True
    assert verdict["faults"] == []
    assert verdict["transfers"] >= 2


@pytest.mark.parametrize("arguments", [["account"], ["statement"], ["trace"], ["dead", "show"]], ids=" ".join)
@pytest.mark.parametrize("id", [new_id(), "no\nid"], ids=["unused", "no id"])
def test_nobodys_id_is_one_line_and_a_status(arguments: list[str], id: str, equipoise: Equipoise) -> None:
    done = equipoise(*arguments, id)

    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"equipoise: ")
    assert done.stderr.count(b"\n") == 1
    assert json.dumps(id)[1:-1].encode() in done.stderr
