"""`send`: every line goes out as it is written, and every line is answered in its place."""

import json
import subprocess
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
import redis

from bench.malformed import KINDS, spoiled
from tests.cli.conftest import COMMAND, Equipoise, call, environment
from tests.factories import new_id
from worker.settings import Urls

EMBED = b'{"callbacks":null,"errbacks":null,"chain":null,"chord":null}'


def opening(ledger: str, *accounts: str) -> list[dict[str, Any]]:
    """Open a ledger with accounts that have no floor."""
    opened: list[dict[str, Any]] = [
        {"type": "ledgers.open", "id": new_id(), "ledger": ledger, "currency": "EUR", "scale": 2}
    ]
    for account in accounts:
        opened.append({"type": "accounts.open", "id": new_id(), "account_id": account, "ledger": ledger})
        opened[-1]["min_balance"] = None
    return opened


def transfer(source: str, destination: str, amount: int, **more: object) -> dict[str, Any]:
    command = {"type": "transfers.post", "id": new_id(), "source_id": source, "destination_id": destination}
    return command | {"amount": amount} | more


def lines(commands: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(command).encode() + b"\n" for command in commands)


def answers(done: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]


def books(equipoise: Equipoise) -> tuple[str, str]:
    """Open two accounts; give their ids."""
    first, second = new_id(), new_id()
    told = answers(equipoise("send", "--wait", "--ordered", "-", stdin=lines(opening(new_id(), first, second))))
    assert [one["status"] for one in told] == ["applied"] * 3
    return first, second


def without_time(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in one.items() if name != "decided_at"} for one in told]


def test_outcomes_come_in_the_order_of_the_file(equipoise: Equipoise, tmp_path: Path) -> None:
    first, second = books(equipoise)
    commands = [transfer(first, second, amount) for amount in range(1, 1_201)]
    file = tmp_path / "commands.jsonl"
    file.write_bytes(lines(commands))

    told = answers(equipoise("send", "--wait", str(file)))

    assert [one["id"] for one in told] == [command["id"] for command in commands]
    assert {one["status"] for one in told} == {"applied"}


def test_an_outcome_is_compact_and_in_the_contracts_order(equipoise: Equipoise) -> None:
    first, second = books(equipoise)
    command = transfer(first, second, 7)

    once = equipoise("send", "--wait", "-", stdin=lines([command]))
    again = equipoise("send", "--wait", "--ordered", "--json", "-", stdin=lines([command, command]))

    (told,) = answers(once)
    assert list(told) == ["id", "type", "status", "decided_at", "sequence", "amount", "transfers", "balances"]
    assert once.stdout == json.dumps(told, separators=(",", ":")).encode() + b"\n"
    assert again.stdout == 2 * once.stdout


@pytest.mark.parametrize("ordered", [[], ["--ordered"]], ids=["any order", "ordered"])
def test_what_nobody_can_read_is_answered_in_its_place(ordered: list[str], equipoise: Equipoise) -> None:
    first, second = books(equipoise)
    healthy = [transfer(first, second, 1) for _ in KINDS]
    spoilt = [spoiled(kind, transfer(first, second, 1)) for kind in KINDS]
    content = b"".join(lines([good]) + b"\n" + bad + b"\n" for good, bad in zip(healthy, spoilt, strict=True))

    told = answers(equipoise("send", "--wait", *ordered, "-", stdin=content))

    assert [one["id"] for one in told[::2]] == [command["id"] for command in healthy]
    for place, bad in enumerate(told[1::2]):
        assert list(bad)[-3:] == ["line", "status", "detail"]
        assert (bad["line"], bad["status"]) == (3 * place + 3, "malformed"), KINDS[place]
        assert bad["detail"]


def test_a_dead_letter_is_told_with_its_id_where_it_has_one(equipoise: Equipoise) -> None:
    first, second = books(equipoise)
    command = transfer(first, second, 1) | {"amount": 0}

    told = equipoise("send", "--wait", "-", stdin=b"\n" + lines([command]))

    (bad,) = answers(told)
    assert bad == {"id": command["id"], "line": 2, "status": "malformed", "detail": bad["detail"]}
    assert bad["detail"].startswith("amount: ")


def test_an_ordered_file_is_decided_line_by_line(equipoise: Equipoise) -> None:
    accounts = [new_id() for _ in range(50)]
    commands = opening(new_id(), accounts[0])
    for number, account in enumerate(accounts[1:]):
        commands.append({"type": "accounts.open", "id": new_id(), "account_id": account})
        commands[-1]["ledger"] = commands[0]["ledger"]
        # Nobody but the first may go below zero, so each has only what the line before gave.
        commands.append(transfer(accounts[number], account, 100))
    commands.insert(30, {"type": "batch", "id": new_id(), "commands": [transfer(accounts[0], accounts[1], 0)]})

    told = answers(equipoise("send", "--ordered", "--wait", "-", stdin=lines(commands)))

    assert {one["status"] for one in told} == {"applied"}
    assert [one["id"] for one in told] == [command["id"] for command in commands]


def test_a_line_that_shares_a_message_gets_what_it_would_get_alone(equipoise: Equipoise) -> None:
    first, second = books(equipoise)
    third, fourth = books(equipoise)
    amounts = (5, 0, 3)

    together = answers(
        equipoise("send", "--ordered", "--wait", "-", stdin=lines([transfer(first, second, it) for it in amounts]))
    )
    alone = [
        answers(equipoise("send", "--ordered", "--wait", "-", stdin=lines([transfer(third, fourth, amount)])))[0]
        for amount in amounts
    ]

    assert [one["status"] for one in together] == [one["status"] for one in alone]
    assert [one.get("sequence") for one in together] == [one.get("sequence") for one in alone] == [1, None, 2]


def test_ordered_without_waiting_prints_nothing_and_is_decided_at_the_end(equipoise: Equipoise) -> None:
    first, second = books(equipoise)

    done = equipoise("send", "--ordered", "-", stdin=lines([transfer(first, second, 9)]))

    assert (done.returncode, done.stdout) == (0, b"")
    (account,) = answers(equipoise("account", "--json", second))
    assert account["balance"] == 9


def test_who_writes_into_a_pipe_is_answered_before_the_next_line(working_urls: Urls) -> None:
    sender = subprocess.Popen(
        [*COMMAND, "send", "--wait", "-"],
        env=environment(working_urls),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert sender.stdin is not None and sender.stdout is not None
    with sender:
        for number in (1, 2, 3):
            sender.stdin.write(b'{"type":"nothing"}\n')
            sender.stdin.flush()

            assert json.loads(sender.stdout.readline())["line"] == number
        sender.stdin.close()
        assert sender.wait() == 0


def queued(urls: Urls) -> list[dict[str, Any]]:
    """Give what lies in the queue, oldest first."""
    if urls.broker_url.startswith("redis+socket://"):
        path, _, number = urls.broker_url.removeprefix("redis+socket://").partition("?virtual_host=")
        client = redis.Redis(unix_socket_path=path, db=int(number))
    else:
        client = redis.Redis.from_url(urls.broker_url)
    return [json.loads(raw) for raw in reversed(client.lrange("commands", 0, -1))]


def test_a_line_is_forwarded_byte_for_byte(quiet_urls: Urls) -> None:
    known = (
        b' {"amount":1e3, "type" : "transfers.post","note":"\xc3\xa9","id":"00000000-0000-4000-8000-00000000000a"}\r'
    )
    nan, unknown, broken = b'{"type":"batch","x":NaN}', b'{"type":"unheard.of"}', b"\xff{"

    done = call("send", "-", urls=quiet_urls, stdin=b"\n".join([known, b"", nan, unknown, broken]))

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    messages = queued(quiet_urls)
    assert [b64decode(message["body"]) for message in messages] == [
        b"[[]," + known + b"," + EMBED + b"]",
        b"[[]," + nan + b"," + EMBED + b"]",
        unknown,
        broken,
    ]
    unreadable = "commands.unreadable"
    assert [it["headers"]["task"] for it in messages] == ["transfers.post", "batch", unreadable, unreadable]
    assert all(message["headers"]["ignore_result"] is True for message in messages)
    assert all(message["content-type"] == "application/json" for message in messages)
    assert messages[0]["headers"]["argsrepr"] == "()"
    assert messages[0]["headers"]["kwargsrepr"] == (
        "{'type': 'transfers.post', 'id': '00000000-0000-4000-8000-00000000000a'}"
    )


def test_in_order_nothing_is_sent_before_what_stands_before_it_is_answered(quiet_urls: Urls) -> None:
    first, second, third = (transfer(new_id(), new_id(), 1) for _ in range(3))
    content = lines([first, second]) + b'{"type":"nothing"}\n' + lines([third])

    done = call("send", "--ordered", "--timeout", "0.3", "-", urls=quiet_urls, stdin=content)

    assert done.returncode == 75
    assert done.stderr.startswith(b"equipoise: no answer for 0.3 s: line 1 ")
    [together] = queued(quiet_urls)
    assert together["headers"]["task"] == "batch"
    assert json.loads(b64decode(together["body"]))[1]["commands"] == [first, second]


def test_without_a_worker_waiting_ends(quiet_urls: Urls) -> None:
    done = call("send", "--wait", "--timeout", "0.3", "-", urls=quiet_urls, stdin=b'\n{"type":"nothing"}\n')

    assert (done.returncode, done.stdout) == (75, b"")
    assert done.stderr.startswith(b"equipoise: no answer for 0.3 s: line 2 ")
    assert done.stderr.count(b"\n") == 1
    assert len(queued(quiet_urls)) == 1


@pytest.mark.parametrize("ordered", [[], ["--ordered"]], ids=["unordered", "ordered"])
def test_a_dry_run_tells_the_outcomes_and_leaves_nothing(ordered: list[str], equipoise: Equipoise) -> None:
    first, second = books(equipoise)
    commands = lines([transfer(first, second, 5), transfer(second, new_id(), 5)])

    tried = answers(equipoise("send", "--wait", "--dry-run", *ordered, "-", stdin=commands))
    done = answers(equipoise("send", "--wait", *ordered, "-", stdin=commands))

    assert [one["status"] for one in tried] == ["applied", "destination_not_found"]
    assert without_time(done) == without_time(tried)
