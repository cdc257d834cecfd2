"""The laws: a group equals its commands one by one, replay changes nothing, money is conserved, outcomes are final.

Each for stories that hypothesis tells (`stories`), judged by a model that shares no code with the worker, with the
ledgers' locks and without. `make chaos` tells thousands.
"""

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from models.outcomes import encode
from tests.laws.stories import BEGINNING, World, tell
from tests.model import Model
from worker.engine.settle import Settlement
from worker.postgres.engines import committing_engine

# 0.1 s each on two cores, a dozen transactions a story; the fuse is six times that.
MANY = pytest.param(2_000, marks=[pytest.mark.long, pytest.mark.timeout(1_200)])
# A story is short as it is told, and its seed is printed. Making it shorter would tell thousands more.
UNABRIDGED = [phase for phase in Phase if phase not in (Phase.shrink, Phase.explain)]


@pytest.fixture(params=[True, False], ids=["locked", "unlocked"])
def settle(request: pytest.FixtureRequest, database_url: str) -> Iterator[Settlement]:
    """A settlement with the ledgers' locks, and one without."""
    engine = committing_engine(database_url)
    yield Settlement(engine, lock=request.param)
    engine.dispose()


@pytest.mark.parametrize("examples", [60, MANY])
def test_a_group_equals_its_commands_one_by_one(settle: Settlement, examples: int) -> None:
    @settings(max_examples=examples, phases=UNABRIDGED)
    @given(random=st.randoms(use_true_random=True), begins_apart=st.booleans())
    def law(random: Random, begins_apart: bool) -> None:
        story = tell(random)
        together, apart = World(), World()
        groups = [BEGINNING, story] if begins_apart else [BEGINNING + story]

        in_groups = [outcome for group in groups for outcome in settle(together.items(group))]
        one_by_one = [outcome for item in apart.items(BEGINNING + story) for outcome in settle([item])]

        model = Model()
        expected = [model.settle(message) for message in together.named(BEGINNING + story)]
        assert together.short(in_groups) == together.short(expected)
        assert apart.short(one_by_one) == together.short(in_groups)
        assert together.books(settle.engine) == together.books_of(model)
        model = Model()
        for message in apart.named(BEGINNING + story):
            model.settle(message)
        assert apart.books(settle.engine) == apart.books_of(model)

    law()
    assert _sums(settle) == {(0, 0)}


@pytest.mark.parametrize("examples", [30, MANY])
def test_replaying_any_prefix_changes_nothing_and_every_outcome_is_final(settle: Settlement, examples: int) -> None:
    @settings(max_examples=examples, phases=UNABRIDGED)
    @given(random=st.randoms(use_true_random=True))
    def law(random: Random) -> None:
        world = World()
        items = world.items(BEGINNING + tell(random, dry_runs=False))
        first = [encode(outcome) for outcome in settle(items)]
        before = world.books(settle.engine)

        order = random.sample(range(len(items)), random.randint(1, len(items)))
        again = [encode(outcome) for outcome in settle([items[place] for place in order])]

        assert again == [first[place] for place in order]
        assert [encode(outcome) for item in items for outcome in settle([item])] == first
        assert world.books(settle.engine) == before

    law()
    assert _sums(settle) == {(0, 0)}


def _sums(settle: Settlement) -> set[tuple[int, int]]:
    """Sum all balances of each ledger, from its accounts and from their newest entries."""
    statement = """
        SELECT sum(credits_posted - debits_posted), sum(coalesce(newest.balance, 0))
        FROM equipoise.accounts account
        LEFT JOIN equipoise.entries newest ON newest.account_id = account.id AND newest.version = account.version
        GROUP BY account.ledger
    """
    with settle.engine.connect() as connection:
        return {(int(accounts), int(entries)) for accounts, entries in connection.execute(text(statement))}
