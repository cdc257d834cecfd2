"""A message is in its queue or claimed, never neither."""

import threading

import pytest
import redis

from tests.waiting import wait_until
from worker.broker.claims import Claims, UnsupportedServer, require_version

MIB = 1024 * 1024


def claim(claims, *keys, limit=100, max_bytes=MIB, visibility_timeout_s=60.0):
    return claims.claim(keys, limit, max_bytes, visibility_timeout_s)


def raws(claimed):
    return [claim.raw for claim in claimed]


def queue(client, key):
    """The messages of a list, the next one first."""
    return client.lrange(key, 0, -1)[::-1]


def test_messages_are_claimed_in_the_order_they_were_sent_and_byte_for_byte(client, claims):
    sent = [b"first", bytes(range(256)), b"", b'{"not": "looked at']
    client.lpush("commands", *sent)

    claimed = claim(claims, "commands")

    assert raws(claimed) == sent
    assert queue(client, "commands") == []
    assert client.hgetall("unacked_claims") == {claim.tag.encode(): claim.raw for claim in claimed}
    assert set(client.zrange("unacked_claims_index", 0, -1)) == {claim.tag.encode() for claim in claimed}


def test_the_first_list_goes_first_and_the_limit_holds_over_all(client, claims):
    client.lpush("urgent", "1", "2")
    client.lpush("commands", "3", "4")

    claimed = claim(claims, "urgent", "commands", limit=3)

    assert raws(claimed) == [b"1", b"2", b"3"]
    assert [claim.key for claim in claimed] == ["urgent", "urgent", "commands"]
    assert queue(client, "commands") == [b"4"]


def test_bytes_are_limited_but_one_message_is_always_claimed(client, claims):
    client.lpush("commands", b"x" * 300, b"y" * 50, b"z" * 50, b"w")

    groups = [raws(claim(claims, "commands", max_bytes=100)) for _ in range(3)]

    assert groups == [[b"x" * 300], [b"y" * 50, b"z" * 50], [b"w"]]


def test_many_threads_claim_each_message_once(client, claims):
    sent = [str(number).encode() for number in range(5_000)]
    client.lpush("commands", *sent)
    taken = []

    def take():
        while claimed := claim(claims, "commands", limit=37):
            taken.extend(claimed)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(raws(taken)) == sorted(sent)
    assert len({claim.tag for claim in taken}) == len(sent)


def test_a_group_is_acknowledged_at_once_and_only_once(client, claims):
    client.lpush("commands", "1", "2", "3")
    tags = [claim.tag for claim in claim(claims, "commands")]

    assert claims.acknowledge(tags[:2]) == 2
    assert claims.acknowledge(tags) == 1
    assert claims.acknowledge([]) == 0
    assert claims.outstanding() == 0
    assert client.keys() == []


def test_what_is_restored_is_as_it_was_and_comes_next_or_last(client, claims):
    client.lpush("commands", "1", "2", "3", "4")
    first, second, third = claim(claims, "commands", limit=3)

    assert claims.restore([first.tag, second.tag], at="head") == 2
    assert queue(client, "commands") == [b"1", b"2", b"4"]
    assert claims.restore([third.tag], at="tail") == 1
    assert queue(client, "commands") == [b"1", b"2", b"4", b"3"]
    assert client.keys() == [b"commands"]


def test_many_are_restored_in_order(client, claims):
    sent = [str(number).encode() for number in range(2_500)]
    client.lpush("commands", *sent)
    tags = [claim.tag for claim in claim(claims, "commands", limit=10_000)]

    for place in ("head", "tail"):
        assert claims.restore(tags, at=place) == len(sent)
        assert queue(client, "commands") == sent
        tags = [claim.tag for claim in claim(claims, "commands", limit=10_000)]


def test_what_was_acknowledged_is_not_restored(client, claims):
    client.lpush("commands", "1", "2")
    first, second = claim(claims, "commands")
    claims.acknowledge([first.tag])

    assert claims.restore([first.tag, second.tag, "unheard:of:commands"]) == 1
    assert queue(client, "commands") == [b"2"]


def test_a_priority_and_a_name_with_colons_return_to_their_own_list(client, claims):
    keys = ["a:b:c", "commands\x06\x169", "größer"]
    for key in keys:
        client.lpush(key, key)

    claims.restore([claim.tag for claim in claim(claims, *keys)])

    assert [queue(client, key) for key in keys] == [[key.encode()] for key in keys]


def test_each_claim_returns_when_its_own_time_is_over_on_the_servers_clock(client, claims):
    client.lpush("commands", "1", "2", "3")
    kept = claim(claims, "commands", limit=1, visibility_timeout_s=3600)
    other = Claims(client)  # another program, with a shorter timeout, which sweeps as well
    claim(other, "commands", visibility_timeout_s=0.05)

    assert wait_until(claims.restore_overdue) == 2
    assert other.restore_overdue() == 0
    assert queue(client, "commands") == [b"2", b"3"]
    assert claims.acknowledge([kept[0].tag]) == 1


def test_the_overdue_are_restored_in_bounded_runs(client, claims):
    client.lpush("commands", *range(10))
    claim(claims, "commands", visibility_timeout_s=0)

    assert claims.restore_overdue(limit=4) == 4
    assert claims.restore_overdue(limit=4) == 4
    assert claims.restore_overdue(limit=4) == 2
    assert claims.restore_overdue(limit=4) == 0
    assert client.llen("commands") == 10


@pytest.mark.parametrize("broken", ["upkeep", "unacked_claims", "unacked_claims_index"])
def test_a_key_of_a_wrong_type_is_named_before_anything_moves(client, claims, broken):
    client.lpush("commands", "1", "2")
    client.set(broken, "not what it should be")

    with pytest.raises(redis.ResponseError, match=f"WRONGTYPE .*key {broken}"):
        claim(claims, "commands", "upkeep")

    assert queue(client, "commands") == [b"1", b"2"]
    client.delete(broken)
    assert claims.outstanding() == 0


def test_a_claim_that_cannot_return_stays_and_hides_no_other(client, claims):
    client.lpush("commands", "stuck")
    client.lpush("upkeep", "free")
    claim(claims, "commands", "upkeep", visibility_timeout_s=0)
    client.set("commands", "no list any more")

    wait_until(lambda: claims.restore_overdue(limit=1))

    assert queue(client, "upkeep") == [b"free"]
    assert claims.outstanding() == 1


def test_a_full_server_lets_its_queues_be_worked_off(client, claims):
    client.lpush("commands", "1", "2")
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.lpush("commands", "3")

        first, second = claim(claims, "commands")

        assert claims.restore([second.tag]) == 1
        assert claims.acknowledge([first.tag]) == 1
    finally:
        client.config_set("maxmemory", 0)
    assert queue(client, "commands") == [b"2"]


def test_nothing_is_lost_to_a_user_who_may_not_do_all_of_it(client, server):
    may = "+evalsha +script|load +time +llen +lindex +rpop +zadd +zrem +hdel +ping +client"  # but not +hset
    client.execute_command("ACL", "SETUSER", "half", "on", "nopass", "~*", *may.split())
    client.lpush("commands", "1", "2")
    half = redis.Redis(port=server.port, username="half", password="")

    with half, pytest.raises(redis.ResponseError, match="(?i)hset|script"):
        claim(Claims(half), "commands")

    assert queue(client, "commands") == [b"1", b"2"]


def test_what_may_not_be_put_back_stays_claimed(client, claims, server):
    may = "+evalsha +script|load +time +llen +hget +zrangebyscore +zadd +zrem +hdel +ping +client"  # but not +rpush
    client.execute_command("ACL", "SETUSER", "keeper", "on", "nopass", "~*", *may.split())
    client.lpush("commands", "1", "2")
    tags = [claim.tag for claim in claim(claims, "commands", visibility_timeout_s=0)]
    keeper = redis.Redis(port=server.port, username="keeper", password="")

    with keeper, pytest.raises(redis.ResponseError, match="(?i)rpush|script"):
        Claims(keeper).restore(tags)
    with keeper, pytest.raises(redis.ResponseError, match="(?i)rpush|script"):
        wait_until(Claims(keeper).restore_overdue)

    assert claims.outstanding() == 2
    assert claims.restore(tags) == 2
    assert queue(client, "commands") == [b"1", b"2"]


def test_a_tag_that_comes_twice_overwrites_no_message(client, claims):
    client.lpush("commands", "1", "2")
    [first] = claim(claims, "commands", limit=1)
    twin = Claims(client)
    twin._claimer = claims._claimer

    with pytest.raises(redis.ResponseError, match=f"claimed before: {first.tag}"):
        claim(twin, "commands")

    assert client.hgetall("unacked_claims") == {first.tag.encode(): b"1"}
    assert queue(client, "commands") == [b"2"]


def test_an_old_server_is_refused_by_name():
    require_version({"redis_version": "6.2.0"})
    require_version({"redis_version": "255.255.255"})
    with pytest.raises(UnsupportedServer, match="Redis 6.0.16; Redis 6.2 or newer"):
        require_version({"redis_version": "6.0.16"})


def test_this_server_is_accepted(claims):
    claims.require_server()
