"""A transfer that has the id of one that another command would make: refused, and no command without an outcome."""

from collections.abc import Callable

import pytest

from models.commands import (
    Command,
    ExchangeTransfer,
    SplitTransfer,
    leg_id,
)
from models.outcomes import Outcome
from tests.factories import as_json, new, open_books, post
from tests.model import Model
from worker.engine.settle import Settlement

Several = Callable[[Settlement], tuple[Command, str, str]]


def a_split(settle: Settlement) -> tuple[Command, str, str]:
    _, [source, other, bank] = open_books(settle, [100, 0])
    parts = [{"account_id": other, "amount": 4}, {"account_id": bank, "rest": True}]
    return new(SplitTransfer, source_id=source, destinations=parts, amount=10), bank, other


def an_exchange(settle: Settlement) -> tuple[Command, str, str]:
    _, [source, other, bank] = open_books(settle, [100, 0])
    _, [destination, abroad] = open_books(settle, [0])
    sides = {"source_id": source, "source_liquidity_id": bank, "source_amount": 3}
    sides |= {"destination_liquidity_id": abroad, "destination_id": destination, "destination_amount": 2}
    return new(ExchangeTransfer, **sides), bank, other


@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("together", [False, True], ids=["one by one", "together"])
@pytest.mark.parametrize("several", [a_split, an_exchange])
def test_a_command_of_which_a_transfers_id_is_taken_is_refused(
    settlement: Settlement, several: Several, together: bool, place: int
) -> None:
    command, source, destination = several(settlement)
    taking = post(source, destination, 1).model_copy(update={"id": leg_id(command.id, place)})

    groups = [[taking, command, command]] if together else [[taking], [command], [command]]
    taken, refused, again = (outcome for group in groups for outcome in settlement(group))

    assert taken["status"] == "applied"
    assert (refused["status"], refused["detail"]) == ("id_reused", "id")
    assert (refused["decided_at"] >= taken["decided_at"]) and again == refused


def test_what_was_taken_back_takes_no_id(settlement: Settlement) -> None:
    command, source, destination = a_split(settlement)
    taking = post(source, destination, 1).model_copy(update={"id": leg_id(command.id, 1)})
    dry = taking.model_copy(update={"dry_run": True})

    tried, outcome = settlement([dry, command])

    assert [tried["status"], outcome["status"]] == ["applied", "applied"]


def test_before_anything_else_and_others_of_the_group_go_on(settlement: Settlement) -> None:
    command, source, destination = a_split(settlement)
    taking = post(source, destination, 1).model_copy(update={"id": leg_id(command.id, 2)})
    settlement([taking])
    invalid = command.model_copy(update={"destination_id": source})

    told = [outcome["status"] for outcome in settlement([invalid, post(source, destination, 1)])]

    assert told == ["id_reused", "applied"]


def test_the_independent_model_says_the_same(settlement: Settlement) -> None:
    told: list[Command] = []

    def kept(items: list[Command]) -> list[Outcome]:
        told.extend(items)
        return settlement(items)

    command, source, destination = a_split(kept)  # type: ignore[arg-type]
    kept([post(source, destination, 1).model_copy(update={"id": leg_id(command.id, 1)}), command])

    model = Model()
    expected = [model.settle(as_json(item)) for item in told]
    again = settlement(told)
    assert [(it["status"], it.get("detail")) for it in again] == [(it["status"], it.get("detail")) for it in expected]
    assert [it["status"] for it in again[-2:]] == ["applied", "id_reused"]
