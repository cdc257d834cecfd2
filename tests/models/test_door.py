"""The door: each limit of the wire contract at its edge, whatever arrives, and never an exception."""

import hashlib
import json
import sys
import unicodedata
from typing import Any

import pytest
from celery import chain, chord, group, signature
from hypothesis import example, given
from hypothesis import strategies as st

from models import contract
from models.commands import COMMANDS, Batch, Command
from models.dead_letters import DeadLetter, Reason
from tests.factories import new_id
from worker.intake.door import Delivery, Judged, judge

A, B, C = (f"{digit}0000000-0000-4000-8000-000000000000" for digit in "abc")
POST: dict[str, Any] = {"id": A, "source_id": B, "destination_id": C, "amount": 5}
OPEN: dict[str, Any] = {"id": A, "account_id": B, "ledger": "m"}
LEDGER: dict[str, Any] = {"id": A, "ledger": "m", "currency": "EUR", "scale": 2}
OTHER = "a0000000-0000-4000-8000-000000000001"


def door(body: bytes, task: str = "transfers.post") -> Judged:
    return judge(Delivery(task, "task-1", "commands", body, raw=body))


def sent(
    kwargs: str, task: str = "transfers.post", args: str = "[]", embed: str = "{}"
) -> Command | Batch | DeadLetter:
    """Judge a command of which `kwargs` is the text."""
    return door(f"[{args}, {kwargs}, {embed}]".encode("utf-8", "surrogatepass"), task).item


def command(fields: dict[str, Any], task: str = "transfers.post") -> Command | Batch | DeadLetter:
    return sent(json.dumps(fields), task)


def with_value(name: str, value: str) -> str:
    """The text of a transfer, in which one field is exactly `value`."""
    return json.dumps(POST | {name: "@"}).replace('"@"', value)


def nested(levels: int) -> str:
    """Metadata that makes a command of so many levels, the command itself being the first."""
    return '{"a":' * (levels - 1) + "1" + "}" * (levels - 1)


def refusal(item: Command | Batch | DeadLetter) -> str:
    assert isinstance(item, DeadLetter)
    assert item.reason is Reason.MALFORMED
    return item.detail


REFUSED = {
    "an unknown field": (with_value("colour", "1"), "colour: unknown field"),
    "a dry_run that is no boolean": (with_value("dry_run", "1"), "dry_run: input should be a valid boolean"),
    "a float": (with_value("amount", "5.0"), "amount: a number with a fraction"),
    "an exponent": (with_value("amount", "5e0"), "amount: a number with a fraction"),
    "an exponent without end": (with_value("amount", "1E+1000000"), "amount: a number with a fraction"),
    "a float in metadata": (with_value("metadata", '{"a": [0.1]}'), "metadata.a.0: a number with a fraction"),
    "NaN": (with_value("amount", "NaN"), "amount: NaN"),
    "NaN in metadata": (with_value("metadata", '{"a": NaN}'), "metadata.a: NaN"),
    "Infinity": (with_value("amount", "Infinity"), "amount: Infinity"),
    "minus Infinity": (with_value("amount", "-Infinity"), "amount: -Infinity"),
    "a boolean for a number": (with_value("amount", "true"), "amount: "),
    "a number for a boolean": (with_value("up_to", "1"), "up_to: "),
    "a text for a number": (with_value("amount", '"5"'), "amount: "),
    "null for a number": (with_value("amount", "null"), "amount: "),
    "nothing to move": (with_value("amount", "0"), "amount: "),
    "minus nothing": (with_value("amount", "-0"), "amount: "),
    "less than nothing": (with_value("amount", "-1"), "amount: "),
    "one too much": (with_value("amount", str(10**15 + 1)), "amount: "),
    "what BIGINT cannot hold": (with_value("amount", str(2**63)), "amount: a number out of range"),
    "10,000 digits": (with_value("amount", "9" * 10_000), "amount: a number out of range"),
    "10,000 digits in metadata": (
        with_value("metadata", f'{{"a": -{"9" * 10_000}}}'),
        "metadata.a: a number out of range",
    ),
    "a key twice": (json.dumps(POST)[:-1] + ', "amount": 6}', "the key 'amount' stands twice"),
    "a key twice, once escaped": (json.dumps(POST)[:-1] + ', "\\u0061mount": 6}', "the key 'amount' stands twice"),
    "a key twice in metadata": (with_value("metadata", '{"a": 1, "a": 1}'), "metadata: the key 'a' stands twice"),
    "a tab, escaped": (with_value("kind", '"a\\tb"'), "kind: control or bidirectional character U+0009"),
    "NUL, escaped": (with_value("kind", '"\\u0000"'), "kind: control or bidirectional character U+0000"),
    "DEL, raw": (with_value("kind", '"\x7f"'), "kind: control or bidirectional character U+007F"),
    "a C1 control, raw": (with_value("kind", '"\x85"'), "kind: control or bidirectional character U+0085"),
    "an override, raw": (with_value("kind", '"\u202e"'), "kind: control or bidirectional character U+202E"),
    "an isolate, escaped": (with_value("kind", '"\\u2066"'), "kind: control or bidirectional character U+2066"),
    "a mark, raw": (with_value("metadata", '{"a": "\u200f"}'), "metadata.a: control or bidirectional character U+200F"),
    "an override in a key": (with_value("metadata", '{"\u202e": 1}'), "control or bidirectional character U+202E"),
    "an escaped tab in a key": (with_value("metadata", '{"\\t": 1}'), "control or bidirectional character U+0009"),
    "an override in an unknown field": (json.dumps(POST)[:-1] + ', "\u202e": 6}', "character U+202E"),
    "a lone surrogate": (with_value("kind", '"\\ud800"'), "kind: control or bidirectional character U+D800"),
    "a control character, raw": (with_value("kind", '"a\tb"'), "not JSON: "),
    "a surrogate, raw": (with_value("kind", '"\ud800"'), "not UTF-8: "),
    "no end": (json.dumps(POST)[:-1], "not JSON: "),
    "9 levels": (with_value("metadata", nested(9)), "nested deeper than 8 levels"),
    "hundreds of levels": (with_value("metadata", nested(700)), "nested deeper than"),
    "thousands of brackets": (with_value("metadata", "[" * 5_000), "nested deeper than"),
    "too long a kind": (with_value("kind", json.dumps("k" * 64)), "kind: "),
    "an empty kind": (with_value("kind", '""'), "kind: "),
    "the nil id": (with_value("id", json.dumps(contract.NIL_ID)), "id: "),
    "the id of all ones": (with_value("source_id", json.dumps(contract.ALL_ONES_ID)), "source_id: "),
    "an id in capitals": (with_value("id", json.dumps(A.upper())), "id: "),
    "an id without hyphens": (with_value("id", json.dumps(A.replace("-", ""))), "id: "),
    "an id in braces": (with_value("id", json.dumps(f"{{{A}}}")), "id: "),
    "an id with a line break": (with_value("id", json.dumps(f"{A}\n")), "id: "),
    "an id of other digits": (with_value("id", json.dumps(A.replace("0", "\N{ARABIC-INDIC DIGIT ZERO}"))), "id: "),
    "a number for an id": (with_value("id", "5"), "id: "),
    "no id": (json.dumps({name: value for name, value in POST.items() if name != "id"}), "id: "),
    "a moment without a zone": (with_value("effective_at", '"2026-11-23T12:00:00"'), "effective_at: "),
    "a moment as a number": (with_value("effective_at", "1"), "effective_at: "),
    "a moment that never was": (with_value("effective_at", '"2026-02-30T12:00:00Z"'), "effective_at: no such moment"),
    "a moment before all time": (
        with_value("effective_at", '"0001-01-01T00:00:00+14:00"'),
        "effective_at: no such moment",
    ),
    "a list for metadata": (with_value("metadata", "[1]"), "metadata: "),
    "another type in the fields": (
        with_value("type", '"ledgers.open"'),
        "type: the message was sent as 'transfers.post'",
    ),
    "a list for a type": (with_value("type", "[" * 500 + "]" * 500), "type: the message was sent as 'transfers.post'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_door_refuses(name: str) -> None:
    text, reason = REFUSED[name]

    assert reason in refusal(sent(text))


def test_what_is_hidden_or_reorders_a_text_is_refused_and_no_other_character() -> None:
    explicit = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    implicit = {"ARABIC LETTER MARK", "LEFT-TO-RIGHT MARK", "RIGHT-TO-LEFT MARK"}
    everything = [chr(number) for number in range(sys.maxunicode + 1)]

    refused = {character for character in everything if contract.FORBIDDEN_CHARACTERS.search(character)}

    assert refused == {
        character
        for character in everything
        if unicodedata.category(character) in ("Cc", "Cs")
        or unicodedata.bidirectional(character) in explicit
        or unicodedata.name(character, "") in implicit
    }


@pytest.mark.parametrize("name", REFUSED)
def test_a_malformed_member_of_a_batch_is_a_dead_letter_alone(name: str) -> None:
    text, reason = REFUSED[name]
    typed = text if '"type"' in text else '{"type": "transfers.post", ' + text[1:]
    good = json.dumps(POST | {"id": OTHER, "type": "transfers.post"})

    item = sent(f'{{"id": "{new_id()}", "commands": [{good}, {typed}, [{typed}, {good}]]}}', "batch")

    if reason.startswith(("not ", "nested")) and isinstance(item, DeadLetter):
        assert "not " in item.detail  # not JSON at all: nobody knows where its members begin
        return
    assert isinstance(item, Batch)
    sound, alone, chain = item.commands
    assert isinstance(sound, Command)
    assert isinstance(alone, DeadLetter)
    assert isinstance(chain, tuple)
    assert [type(member) for member in chain] == [DeadLetter, type(sound)]
    assert alone.id != chain[0].id
    if not reason.startswith("type: the message"):
        assert reason in alone.detail


@pytest.mark.parametrize(
    ("task", "fields", "reason"),
    [
        ("ledgers.open", LEDGER | {"ledger": "M"}, "ledger: "),
        ("ledgers.open", LEDGER | {"ledger": ""}, "ledger: "),
        ("ledgers.open", LEDGER | {"ledger": "m" * 64}, "ledger: "),
        ("ledgers.open", LEDGER | {"ledger": "m\n"}, "ledger: "),
        ("ledgers.open", LEDGER | {"ledger": "m é"}, "ledger: "),
        ("ledgers.open", LEDGER | {"scale": 19}, "scale: "),
        ("ledgers.open", LEDGER | {"scale": -1}, "scale: "),
        ("ledgers.open", LEDGER | {"currency": ""}, "currency: "),
        ("ledgers.open", LEDGER | {"currency": "C" * 17}, "currency: "),
        ("accounts.open", OPEN | {"min_balance": -(2**63)}, "min_balance: "),
        ("accounts.open", OPEN | {"max_balance": 2**63}, "max_balance: "),
        ("accounts.open", OPEN | {"max_balance": False}, "max_balance: "),
        ("accounts.open", OPEN | {"owner_id": "me"}, "owner_id: "),
        ("transfers.posted", POST, "type: 'transfers.posted' is no command"),
        ("commands.unreadable", POST, "type: missing"),
        ("commands.unreadable", POST | {"type": "x"}, "not a JSON object"),
    ],
)
def test_the_door_refuses_of_other_types(task: str, fields: dict[str, Any], reason: str) -> None:
    if task == "commands.unreadable":
        body = json.dumps([fields] if reason.startswith("not") else fields).encode()
        assert reason in refusal(door(body, task).item)
    else:
        assert reason in refusal(command(fields, task))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("null", "the body must be"),
        ("{}", "the body must be"),
        ("[[], {}]", "the body must be"),
        ("[[], [], {}]", "the body must be"),
        (f"[[1], {json.dumps(POST)}, {{}}]", "positional arguments"),
        (f"[{{}}, {json.dumps(POST)}, {{}}]", "positional arguments"),
        (f"[[], {json.dumps(POST)}, 1]", "embed"),
        ("", "not JSON"),
        ("\ufeff[]", "not JSON"),
        ("[" * 15_000, "nested"),
        ("[" * 300 + "]" * 300, "the body must be"),
    ],
)
def test_the_door_refuses_what_is_no_celery_body(text: str, reason: str) -> None:
    assert reason in refusal(door(text.encode()).item)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"commands": [{}]}', "id: "),
        ('{"id": "%(id)s\\n", "commands": [{}]}', "id: "),
        ('{"id": "%(id)s"}', "commands: "),
        ('{"id": "%(id)s", "commands": []}', "commands: "),
        ('{"id": "%(id)s", "commands": {}}', "commands: "),
        ('{"id": "%(id)s", "commands": [{}], "more": 1}', "more: unknown field"),
        ('{"id": "%(id)s", "commands": [{}], "\\u202e": 1}', "character U+202E"),
        ('{"id": "%(id)s", "commands": [{}], "commands": [{}]}', "the key 'commands' stands twice"),
        ('{"id": "%(id)s", "commands": [{}], "more": %(deep)s, "more": %(deep)s}', "nested deeper than 8"),
        ('{"id": "%(id)s", "commands": [{}], "type": "transfers.post"}', "type: "),
    ],
)
def test_the_door_refuses_a_batch(text: str, reason: str) -> None:
    filled = text % {"id": new_id(), "deep": "[" * 400 + "]" * 400}

    assert reason in refusal(sent(filled, "batch"))


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("[]", "a chain has at least one command"),
        ("[[{}]]", "a command is a JSON object"),
        ("null", "a command is a JSON object"),
        ("{}", "type: missing"),
        ('{"type": "batch"}', "type: batches do not nest"),
        ('{"type": "nonsense\\u202e"}', "type: 'nonsense\\u202e' is no command"),
        ('{"type": {"a": [' + "[" * 400 + "]" * 400 + "]}}", "type: what is not a text is no command"),
        ("[" * 400 + "]" * 400, "a command is a JSON object"),
    ],
)
def test_what_is_no_command_is_malformed_in_its_place(entry: str, reason: str) -> None:
    item = sent(f'{{"id": "{new_id()}", "commands": [{entry}]}}', "batch")

    assert isinstance(item, Batch)
    assert reason in refusal(item.members[0])


@pytest.mark.parametrize(
    "fields",
    [
        POST,
        POST | {"type": "transfers.post"},
        POST | {"amount": 1},
        POST | {"amount": 10**15},
        POST | {"kind": "k" * 63, "up_to": True},
        POST | {"effective_at": "0001-01-01T00:00:00Z"},
        POST | {"effective_at": "9999-12-31T23:59:59.999999+14:00"},
        POST | {"metadata": {}},
        POST | {"metadata": {"": None, "emoji": "😀", "number": 2**63 - 1, "quote": '"\\/'}},
        POST | {"metadata": json.loads(nested(8))},
    ],
)
def test_the_door_admits_a_transfer(fields: dict[str, Any]) -> None:
    assert isinstance(command(fields), Command)


@pytest.mark.parametrize(
    ("task", "fields"),
    [
        ("ledgers.open", LEDGER | {"ledger": "m" * 63, "currency": "C" * 16, "scale": 18}),
        ("ledgers.open", LEDGER | {"scale": 0}),
        ("accounts.open", OPEN | {"min_balance": -(2**63 - 1), "max_balance": 2**63 - 1}),
        ("accounts.open", OPEN | {"min_balance": None, "max_balance": None}),
    ],
)
def test_the_door_admits_of_other_types(task: str, fields: dict[str, Any]) -> None:
    assert isinstance(command(fields, task), Command)


def test_a_command_may_have_16_KiB_and_not_a_byte_more() -> None:  # noqa: N802  (the unit is spelled so)
    embed = json.dumps(dict.fromkeys(("callbacks", "errbacks", "chain", "chord")))
    padding = contract.MAX_COMMAND_BYTES - len(json.dumps(POST | {"metadata": {"a": ""}}))

    most = sent(json.dumps(POST | {"metadata": {"a": "x" * padding}}), embed=embed)
    more = sent(json.dumps(POST | {"metadata": {"a": "x" * (padding + 1)}}), embed=embed)
    white = sent(json.dumps(POST) + " " * 4_000 + "\n" * 200, embed=embed)
    wide = sent("{" + " " * contract.MAX_COMMAND_BYTES + json.dumps(POST)[1:], embed=embed)

    assert isinstance(most, Command)
    assert "16385 bytes" in refusal(more)
    assert isinstance(white, Command)
    assert "bytes" in refusal(wide)


def test_a_member_may_have_16_KiB_as_it_was_sent() -> None:  # noqa: N802
    typed = POST | {"type": "transfers.post"}
    padding = contract.MAX_COMMAND_BYTES - len(json.dumps(typed | {"metadata": {"a": ""}}))
    members = [typed | {"id": new_id(), "metadata": {"a": "x" * size}} for size in (padding, padding + 1)]

    item = sent(json.dumps({"id": new_id(), "commands": members}), "batch")

    assert isinstance(item, Batch)
    most, more = item.commands
    assert isinstance(most, Command)
    assert isinstance(more, DeadLetter)


def test_a_malformed_member_is_kept_byte_for_byte() -> None:
    members = [
        '{"amount": 1, "amount": 2}',
        ' {"rate" : 1.50e0 , "\\u0061":[ ]} '.strip(),
        "123456789012345678901234567890",
    ]
    one, two, three = members
    body = f'{{ "id": "{new_id()}" , "commands" : [ {one}, [ {two} ,{three} ] , [] ] }}'

    item = sent(body, "batch")

    assert isinstance(item, Batch)
    assert [letter.body.decode() for letter in item.members if isinstance(letter, DeadLetter)] == [*members, "[]"]


def test_a_batch_may_have_10_000_commands_those_in_chains_counted() -> None:
    def of(count: int) -> Command | Batch | DeadLetter:
        members = [[{}] * 10, *[{}] * (count - 10)]
        return command({"id": A, "commands": members}, "batch")

    assert isinstance(of(10_000), Batch)
    assert "more than 10000" in refusal(of(10_001))


def test_a_batch_of_more_than_16_MiB_is_refused() -> None:  # noqa: N802
    text = '{"id": "%s", "commands": [{}%s]}'
    padding = 16 * 1024 * 1024 - len(text % (A, ""))

    assert isinstance(sent(text % (A, " " * padding), "batch"), Batch)
    assert "bytes" in refusal(sent(text % (A, " " * (padding + 1)), "batch"))


def test_the_same_bytes_give_the_same_dead_letters() -> None:
    bad = {"id": A, "type": "transfers.post"}
    text = json.dumps({"id": B, "commands": [bad, bad, [bad]]})
    first, second = sent(text, "batch"), sent(text, "batch")

    assert isinstance(first, Batch)
    assert first == second
    ids = [member.id for member in first.members]
    assert len(set(ids)) == 3
    assert sent("{}") == sent("{}") != sent("{ }")


def test_a_dead_letter_tells_whose_it_is_and_keeps_the_bytes() -> None:
    body = f"[[], {json.dumps(POST | {'amount': 0})}, {{}}]".encode()
    letter = door(body).item

    assert isinstance(letter, DeadLetter)
    assert (letter.command_id, letter.task, letter.task_id, letter.queue, letter.body) == (
        A, "transfers.post", "task-1", "commands", body,
    )  # fmt: skip


@pytest.mark.parametrize("id", [f"{A}\n", f" {A}", A.upper(), contract.NIL_ID, 5, None, [A]])
def test_a_dead_letter_names_no_command_by_what_is_no_id(id: object) -> None:
    letter = command(POST | {"id": id})

    assert isinstance(letter, DeadLetter)
    assert letter.command_id is None


@pytest.mark.parametrize("embed", ["{}", "null", '{"callbacks": null, "errbacks": [], "chain": null, "chord": null}'])
def test_a_message_that_celery_has_nothing_more_to_do_with_is_not_linked(embed: str) -> None:
    assert not door(f"[[], {json.dumps(POST)}, {embed}]".encode()).linked
    assert door(json.dumps([[], POST, {"callbacks": [LINK]}]).encode()).linked


LINK: dict[str, Any] = dict(signature("shop.paid", options={"queue": "shop"}))
GROUP = LINK | {"task": "celery.group", "subtask_type": "group", "kwargs": {"tasks": [LINK]}}
OURS = dict(signature("transfers.post", kwargs=POST, immutable=True))


@pytest.mark.parametrize(
    "link",
    [
        LINK,
        OURS,
        LINK | {"args": [1], "kwargs": {"a": 1}, "options": {"countdown": 1, "link": LINK, "link_error": [OURS]}},
        chain(signature("a"), signature("b"), group(signature("c"), signature("d"))),
        group(signature("a"), chain(signature("b"), signature("c"))),
        chord([signature("a"), signature("b")], signature("c")),
        chord(group(signature("a"), signature("b")), chain(signature("c"), signature("d"))),
    ],
)
def test_what_celery_writes_to_follow_a_command_is_taken(link: Any) -> None:
    link = json.loads(json.dumps(link))

    for embed in ({"callbacks": [link]}, {"errbacks": [LINK, link]}, {"chain": [LINK, link]}, {"chord": link}):
        assert door(json.dumps([[], POST, embed]).encode()).linked


@pytest.mark.parametrize(
    "link",
    [
        {},
        {"task": 5},
        *({name: LINK[name] for name in LINK if name != gone} for gone in ("task", "args", "kwargs", "options")),
        *(LINK | {"task": it} for it in ("", None, 5, "celery.map", "celery.chord")),
        LINK | {"args": {}},
        LINK | {"kwargs": []},
        *(LINK | {"subtask_type": it} for it in ("nothing", "xmap", "chord", 5, ["chain"])),
        LINK | {"immutable": 1},
        LINK | {"chord_size": "1"},
        LINK | {"colour": "red"},
        *(
            LINK | {"options": it}
            for it in (
                None, [], {"queue": 5}, {"queue": ""}, {"countdown": "1"}, {"countdown": -1}, {"countdown": 1.5},
                {"countdown": 10**9},
                {"serializer": "nope"}, {"compression": "nope"}, {"connection": "x"}, {"stamped_headers": 5},
                {"link": [{}]}, {"link_error": 5}, {"chain": [5]}, {"chord": {}}, {"task_id": 5}, {"headers": 5},
                {"priority": True}, {"retry_policy": {"max_retries": "x"}},
            )
        ),
        OURS | {"immutable": False},
        OURS | {"args": [1]},
        OURS | {"task": "upkeep.verify", "immutable": False},
        LINK | {"task": "celery.chain", "subtask_type": "chain"},
        LINK | {"task": "celery.chain", "subtask_type": "chain", "kwargs": {"tasks": []}},
        GROUP | {"kwargs": {"tasks": [LINK, {}]}},
        GROUP | {"options": {"link": LINK}},
        LINK | {"task": "celery.chord", "subtask_type": "chord", "kwargs": {"header": [LINK], "body": None}},
        LINK | {"task": "celery.chord", "subtask_type": "chord", "kwargs": {"header": [5], "body": LINK}},
    ],
)  # fmt: skip
def test_a_link_that_celery_could_not_send_is_malformed(link: Any) -> None:
    for embed in ({"callbacks": [LINK, link]}, {"errbacks": [link]}, {"chain": [link, LINK]}, {"chord": link}):
        assert "embed: " in refusal(door(json.dumps([[], POST, embed]).encode()).item)


def test_canvases_in_canvases_end_somewhere() -> None:
    link = LINK
    for _ in range(9):
        link = LINK | {"task": "celery.chain", "subtask_type": "chain", "kwargs": {"tasks": [link]}, "options": {}}

    assert "embed: " in refusal(door(json.dumps([[], POST, {"callbacks": [link]}]).encode()).item)


# Values of which some are what the contract asks for, so that not all fail at the first field.
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from([A, "m", *COMMANDS])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
names = st.sampled_from(["id", "type", "amount", "source_id", "destination_id", "metadata", "ledger", "commands", ""])
payloads = st.dictionaries(names, values, max_size=6) | st.fixed_dictionaries(
    {name: st.just(value) for name, value in POST.items()}, optional={"metadata": values, "kind": values}
)
commands = st.lists(payloads | st.lists(payloads, max_size=3), max_size=4)
batches = st.fixed_dictionaries({"id": st.just(B), "commands": commands})
tasks = st.sampled_from([*COMMANDS, "batch", "commands.unreadable", "nonsense"])


@given(payload=payloads | batches | values, task=tasks, cut=st.integers(0, 400), junk=st.binary(max_size=3))
@example(payload={"id": B, "commands": [{"type": [[]]}]}, task="batch", cut=400, junk=b"")
def test_whatever_arrives_the_door_gives_a_command_or_a_dead_letter(
    payload: object, task: str, cut: int, junk: bytes
) -> None:
    whole = json.dumps([[], payload, {}]).encode()

    for body in (whole, whole[:cut] + junk + whole[cut:], json.dumps(payload).encode(), whole[:cut], junk):
        item = door(body, task).item
        assert isinstance(item, Command | Batch | DeadLetter)
        assert item == door(body, task).item


@given(body=st.binary(max_size=200), task=tasks)
def test_no_bytes_make_the_door_raise(body: bytes, task: str) -> None:
    assert isinstance(door(body, task).item, DeadLetter)


@pytest.mark.parametrize("levels", [90, 300, 450, 800, sys.getrecursionlimit(), 20_000, 200_000])
@pytest.mark.parametrize("bracket", ["[", '{"a":', '{"metadata":', '[{"type":'])
@pytest.mark.parametrize(
    "place", ['{"id": %s}', '{"type": %s}', '{"id": "x", "commands": [%s]}', '{"metadata": %s, "metadata": %s}', "%s"]
)
@pytest.mark.parametrize("task", ["transfers.post", "batch", "commands.unreadable"])
def test_no_depth_makes_the_door_raise(levels: int, bracket: str, place: str, task: str) -> None:
    closing = {"[": "]", "{": "}"}
    deep = bracket * levels + "1" + "".join(closing[sign] for sign in reversed(bracket) if sign in closing) * levels
    text = place.replace("%s", deep)

    for body in (f"[[], {text}, {{}}]", f"[[], {{}}, {text}]", text):
        assert isinstance(door(body.encode(), task).item, Batch | DeadLetter)


def test_each_message_is_hashed_once_however_many_of_its_members_are_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []

    def sha256(content: bytes) -> Any:
        hashed.append(len(content))
        return hashlib.new("sha256", content)

    monkeypatch.setattr("worker.intake.door.hashlib.sha256", sha256)
    item = command({"id": A, "commands": [{}] * 1_000}, "batch")

    assert isinstance(item, Batch)
    assert sum(size > 1_000 for size in hashed) <= 2  # the message, and what all its members are
