"""Lines of imported files: what each is taken for, and what is said of those that are nothing."""

import io
import json
from typing import Any

import orjson
import pytest

from models.commands import COMMANDS, OpenLedger, PostTransfer
from tests.factories import new_id
from worker.porting import exporting
from worker.porting.judging import Judged, Name, judged
from worker.porting.lines import MAX_LINE_BYTES, Line, lines
from worker.porting.opening import OpeningBalance
from worker.porting.rows import BadHeader, Header

NAME = Name("a name", str)
LEDGER = {"type": "ledgers.open", "id": new_id(), "ledger": "a", "currency": "EUR", "scale": 2}


def line(content: bytes, number: int = 1) -> Line:
    return Line(number, content, len(content))


def of_json(fields: Any) -> Judged:
    return judged(line(orjson.dumps(fields)), NAME, None)


def header(names: str) -> Header:
    return Header(names.encode(), [*COMMANDS.values(), OpeningBalance])


def of_row(names: str, row: str) -> Judged:
    return judged(line(row.encode()), NAME, header(names))


def test_lines_are_numbered_as_an_editor_does() -> None:
    file = io.BytesIO(b"\xef\xbb\xbfone\r\n\n \r\nfour\nfive")

    found = list(lines(file))

    assert [(it.number, it.content, it.ends_at) for it in found] == [(1, b"one", 8), (4, b"four", 17), (5, b"five", 21)]


def test_of_a_line_that_is_too_long_only_the_beginning_is_kept() -> None:
    file = io.BytesIO(b"a" * (3 * MAX_LINE_BYTES) + b"\nnext\n" + b"b" * (MAX_LINE_BYTES + 1))

    first, second, third = lines(file)

    assert (first.is_too_long, len(first.content), second.content) == (True, MAX_LINE_BYTES + 1, b"next")
    assert (second.number, second.is_too_long, third.number, third.is_too_long) == (2, False, 3, True)
    assert third.ends_at == file.tell()
    assert judged(first, NAME, None).detail == f"more than {MAX_LINE_BYTES} bytes"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "type: missing"),
        (b"7", "not a JSON object"),
        (b"\xff{}", "not UTF-8"),
        (b"\x00\x01\x02", "not JSON"),
        (b'{"type": "transfers.send"}', "type: 'transfers.send' is no command"),
        (b'{"type": 7}', "type: what is not a text is no command"),
        (b'{"type": "ledgers.open", "ledger": "a", "currency": "EUR", "scale": 2.0}', "a number with a fraction"),
        (b'{"type": "ledgers.open", "ledger": "a", "currency": "EUR", "scale": NaN}', "NaN"),
        (b'{"type": "ledgers.open", "ledger": "a", "currency": "EUR", "scale": true}', "scale: "),
        (b'{"type": "ledgers.open", "ledger": "a", "ledger": "b", "currency": "E", "scale": 2}', "stands twice"),
        (b'{"type": "ledgers.open", "ledger": "a", "currency": "EUR", "scale": 2, "x": 1}', "x: unknown field"),
        (b'{"type": "ledgers.open", "id": "A", "ledger": "a", "currency": "EUR", "scale": 2}', "id: not a UUID"),
        (b'{"type": "ledgers.open"} {"type": "ledgers.open"}', "not JSON"),
        (b'{"type": "ledgers.open"},{}],{', "not JSON"),
        (b'{"type": "opening_balance", "account_id": "x", "amount": 1}', "account_id: not a UUID"),
        (b'{"type": "opening_balance", "amount": 1}', "account_id: field required"),
        (b'{"type": "opening_balance", "amount": 1.5}', "a number with a fraction"),
        (b'{"type": "opening_balance", "amount": 1, "amount": 2}', "stands twice"),
        (b'{"type": "opening_balance", "kind": "x", "account_id": "%s", "amount": 1}' % new_id().encode(), "kind: unk"),
        (b'{"type": "opening_balance", "metadata": {"a": "%s"}}' % (b"x" * 17_000), "a command may have 16384"),
        (b'{"type": "ledgers.open", "currency": "%s"}' % (b"x" * 17_000), "a command may have 16384"),
    ],
)
def test_what_the_contract_does_not_admit_is_said_of_a_line(content: bytes, said: str) -> None:
    found = judged(line(content), NAME, None)

    assert found.item is None
    assert said in (found.detail or "")


def test_a_line_without_an_id_gets_one_of_its_place_in_the_import() -> None:
    fields = {name: value for name, value in LEDGER.items() if name != "id"}
    content = orjson.dumps(fields)

    one, same, moved, renamed = (
        judged(line(content, number), Name(name, str), None).id
        for number, name in ((1, "a"), (1, "a"), (2, "a"), (1, "b"))
    )

    assert one == same
    assert len({one, moved, renamed}) == 3
    assert judged(line(orjson.dumps(LEDGER)), NAME, None).id == LEDGER["id"]


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "\ud800"},
        {"type": "ledgers.open", "id": "\ud800"},
        {"type": "ledgers.open", "ledger": "\ud800", "currency": "EUR", "scale": 2},
        {"type": "ledgers.open", "\ud800": 1},
        {"type": "opening_balance", "\ud800": 1},
        {"type": "opening_balance", "account_id": "\ud800", "amount": 1},
        {"type": "transfers.post", "metadata": {"\ud800": "\ud800"}},
        {"type": "batch", "commands": [{"type": "\ud800"}]},
    ],
    ids=str,
)
def test_what_utf_8_cannot_write_is_spelt_out_in_what_is_told(fields: Any) -> None:
    content = json.dumps(fields).encode()
    twice = content.replace(b"{", b'{"\\udfff":1,"\\udfff":2,', 1)

    for one in (judged(line(it), NAME, None) for it in (content, twice)):
        assert orjson.dumps([one.id, one.type, one.detail])


@pytest.mark.parametrize("amount", [0, 10**15, -(10**15)])
def test_an_opening_balance_may_be_negative(amount: int) -> None:
    found = of_json({"type": "opening_balance", "account_id": new_id(), "amount": amount})

    assert isinstance(found.item, OpeningBalance)
    assert found.item.amount == amount


# -- Rows --------------------------------------------------------------------------------------------------------------


def test_a_row_is_the_command_of_its_cells() -> None:
    names = "amount,type,source_id,destination_id,metadata,kind,up_to,effective_at"
    one, two = new_id(), new_id()

    found = of_row(names, f'7,transfers.post,{one},{two},"{{""a"": [1, null]}}","a, ""b""",true,2020-02-29T12:00:00Z')

    assert isinstance(found.item, PostTransfer), found.detail
    assert (found.item.amount, found.item.metadata, found.item.kind) == (7, {"a": [1, None]}, 'a, "b"')
    assert (found.item.up_to, found.item.source_id) == (True, one)


def test_an_empty_cell_is_no_field_and_null_is_null() -> None:
    names = "type,account_id,ledger,min_balance,max_balance"

    found = of_row(names, f"accounts.open,{new_id()},null,null,")

    assert found.item is not None
    assert (found.item.ledger, found.item.min_balance) == ("null", None)  # type: ignore[union-attr]
    assert "max_balance" not in found.item.model_fields_set  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("ledgers.open,a,EUR", "3 cells; the first row names 4"),
        ("ledgers.open,a,EUR,2,", "5 cells; the first row names 4"),
        ('ledgers.open,a,EUR,"2', "not CSV"),
        ("ledgers.open,a,EUR,2.0", "scale: a number with a fraction"),
        ("ledgers.open,a,EUR,two", "scale: input should be a valid integer"),
        ('ledgers.open,a,EUR,"2,""x"":1"', "scale: input should be a valid integer"),
        ('ledgers.open,a,EUR,"""2"""', "scale: input should be a valid integer"),
        ("ledgers.open,a,EUR,", "scale: field required"),
        (",a,EUR,2", "type: missing"),
        ("ledgers.open,a,\x07,2", "control or bidirectional character U+0007"),
        (r'ledgers.open,a,"""\u0007""",2', "control or bidirectional character U+0007"),
        ("ledgers.open,a," + "x" * 20_000 + ",2", "a command may have 16384"),
        ("ledgers.open,a," + "x" * 2_000_000 + ",2", "not CSV: field larger than field limit"),
    ],
)
def test_what_the_contract_does_not_admit_is_said_of_a_row(row: str, said: str) -> None:
    found = of_row("type,ledger,currency,scale", row)

    assert found.item is None
    assert said in (found.detail or "")


def test_a_text_in_quotes_of_its_own_is_read_as_json_where_it_is_json() -> None:
    names = "type,ledger,currency,scale"

    found = [of_row(names, f"ledgers.open,{ledger},EUR,2") for ledger in ('"""a"""', '"""a"')]

    assert isinstance(found[0].item, OpenLedger)
    assert found[0].item.ledger == "a"
    assert "ledger: " in (found[1].detail or "")


@pytest.mark.parametrize("names", ["type,amuont", "type,type", "type,", "\x00\x01", 'type,"', "type,Amount", "{}"])
def test_a_first_row_that_names_no_columns_is_refused(names: str) -> None:
    with pytest.raises(BadHeader):
        header(names)


def test_every_column_of_an_export_is_a_field_of_some_command_and_there_once() -> None:
    fields = {name for model in COMMANDS.values() for name in model.model_fields}

    assert set(exporting.COLUMNS) <= fields
    assert len(set(exporting.COLUMNS)) == len(exporting.COLUMNS)
