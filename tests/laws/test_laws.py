"""The laws: a group equals its commands one by one, replay changes nothing, money is conserved, outcomes are final.

Each for stories that hypothesis tells (`stories`), judged by a model that shares no code with the worker, with the
ledgers' locks and without. `make chaos` tells thousands.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from models.commands import COMMANDS
from models.outcomes import Outcome, encode
from models.rules.holds import ExpireHolds
from models.rules.refusals import ANY, REFUSALS
from models.statuses import Status
from tests.factories import new, wear
from tests.laws.stories import BEGINNING, Act, World, all_of, tell, verdicts
from tests.model import Model
from tests.model_books import ONCE
from worker.engine.settle import Settlement
from worker.postgres.engines import committing_engine

# Two dozen transactions a story, 0.2 s on two cores and several times that on busy ones, for which the fuse is made.
MANY = pytest.param(2_000, marks=[pytest.mark.long, pytest.mark.timeout(3_600)])
# A story is short as it is told, and its seed is printed. Making it shorter would tell thousands more.
UNABRIDGED = [phase for phase in Phase if phase not in (Phase.shrink, Phase.explain)]

STORIES = 1_000
"""As many as it takes for the rarest status to come up a few times."""

PROMISED = {(name, status) for name, model in COMMANDS.items() for status in (*REFUSALS[model], *ANY, Status.APPLIED)}
"""What a command may be told, by type, as docs/statuses.md says."""


class Stage:
    """A settlement whose clock is turned from act to act."""

    def __init__(self, url: str, *, lock: bool) -> None:
        self.moment = ONCE
        self.engine = committing_engine(url)
        self.settle = Settlement(self.engine, lock=lock, clock=lambda _: self.moment)

    def play(self, world: World, acts: Sequence[Act], *, apart: bool = False) -> list[Outcome]:
        """Settle each act as a group, or its messages one by one; in the end what is overdue expires everywhere."""
        outcomes: list[Outcome] = []
        for act in acts:
            self.moment = act.moment
            for account, room in act.worn.items():
                wear(self.settle, room, world.accounts[account])
            items = world.items(act.messages)
            # An act of its own, the beginning is one group: two dozen transactions in most stories otherwise.
            for group in ([item] for item in items) if apart and act.messages != BEGINNING else [items]:
                outcomes += self.settle(group)
        self.settle([new(ExpireHolds, account_ids=list(world.accounts.values()))])
        return outcomes

    def sums(self) -> set[tuple[int, int]]:
        """Sum all balances of each ledger, from its accounts and from their newest entries."""
        statement = """
            SELECT sum(credits_posted - debits_posted), sum(coalesce(newest.balance, 0))
            FROM equipoise.accounts account
            LEFT JOIN equipoise.entries newest ON newest.account_id = account.id AND newest.version = account.version
            GROUP BY account.ledger
        """
        with self.engine.connect() as connection:
            return {(int(accounts), int(entries)) for accounts, entries in connection.execute(text(statement))}


def foretell(model: Model, world: World, acts: Sequence[Act]) -> list[Outcome]:
    """Have the model decide a story."""
    outcomes: list[Outcome] = []
    for act in acts:
        model.books.pass_until(act.at_s)
        for account, room in act.worn.items():
            model.books.wear(world.accounts[account], room)
        outcomes += [model.settle(message) for message in world.named(act.messages)]  # type: ignore[misc]
    return outcomes


@pytest.fixture(params=[True, False], ids=["locked", "unlocked"])
def stage(request: pytest.FixtureRequest, database_url: str) -> Iterator[Stage]:
    """A settlement with the ledgers' locks, and one without."""
    stage = Stage(database_url, lock=request.param)
    yield stage
    stage.engine.dispose()


@pytest.mark.parametrize("examples", [60, MANY])
def test_a_group_equals_its_commands_one_by_one(stage: Stage, examples: int) -> None:
    told = Counter[tuple[str, str]]()

    @settings(max_examples=examples, phases=UNABRIDGED)
    @given(random=st.randoms(use_true_random=True))
    def law(random: Random) -> None:
        story = tell(random)
        together, apart = World(), World()

        in_groups = stage.play(together, story)
        one_by_one = stage.play(apart, story, apart=True)

        model = Model()
        expected = foretell(model, together, story)
        assert together.short(in_groups) == together.short(expected)
        assert apart.short(one_by_one) == together.short(in_groups)
        assert together.books(stage.engine) == together.books_of(model)
        model = Model()
        foretell(model, apart, story)
        assert apart.books(stage.engine) == apart.books_of(model)
        told.update(verdicts(all_of(story), in_groups))

    law()
    assert stage.sums() == {(0, 0)}
    assert set(told) <= PROMISED


@pytest.mark.parametrize("examples", [30, MANY])
def test_replaying_any_prefix_changes_nothing_and_every_outcome_is_final(stage: Stage, examples: int) -> None:
    @settings(max_examples=examples, phases=UNABRIDGED)
    @given(random=st.randoms(use_true_random=True))
    def law(random: Random) -> None:
        world = World()
        story = tell(random, dry_runs=False)
        first = [encode(outcome) for outcome in stage.play(world, story)]
        items = world.items(all_of(story))
        before = world.books(stage.engine)

        order = random.sample(range(len(items)), random.randint(1, len(items)))
        again = [encode(outcome) for outcome in stage.settle([items[place] for place in order])]

        assert again == [first[place] for place in order]
        assert [encode(outcome) for item in items for outcome in stage.settle([item])] == first
        assert world.books(stage.engine) == before

    law()
    assert stage.sums() == {(0, 0)}


def test_the_stories_come_to_every_status_of_every_type() -> None:
    """By the model alone, and by the same stories each time: what none of them shows, no law is tried on."""
    told = Counter[tuple[str, str]]()
    for seed in range(STORIES):
        story, world = tell(Random(seed)), World()
        told.update(verdicts(all_of(story), foretell(Model(), world, story)))

    # Whatever is malformed was meant to be a transfer.
    of_all = {(name, status) for name, status in PROMISED if status != Status.MALFORMED or name == "transfers.post"}
    assert of_all - set(told) == set()
