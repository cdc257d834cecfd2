"""What the naive worker's run is held against; the run itself, with its servers, is `make bench`'s."""

from __future__ import annotations

import pytest

from bench.naive.run import FIRST_BALANCE, HOT_USER, USERS, balances_after, draw_transfers


@pytest.mark.parametrize("hot", [False, True])
def test_drawn_transfers_keep_the_sum_and_differ_in_their_sides(hot: bool) -> None:
    transfers = draw_transfers(2_000, hot=hot)

    assert sum(balances_after(transfers).values()) == USERS * FIRST_BALANCE
    assert all(sender != receiver for sender, receiver in transfers)
    assert all(1 <= user_id <= USERS for transfer in transfers for user_id in transfer)


def test_the_hot_user_is_on_one_side_of_each_hot_transfer() -> None:
    assert all(HOT_USER in transfer for transfer in draw_transfers(500, hot=True))


def test_the_same_transfers_are_drawn_in_each_round() -> None:
    assert draw_transfers(100, hot=False) == draw_transfers(100, hot=False)
