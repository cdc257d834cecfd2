"""Whatever is sent, the books that come of it are sound."""

from random import Random

from tests.laws.stories import BEGINNING, World, all_of, tell
from worker.engine.settle import Settlement
from worker.proving.verify import verify


def test_the_books_of_any_story_are_sound(database_url: str, settlement: Settlement) -> None:
    for seed in range(40):
        world = World()
        settlement(world.items(BEGINNING))
        for item in world.items(all_of(tell(Random(seed)))):
            settlement([item])

    assert verify(database_url).faults == []
