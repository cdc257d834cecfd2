"""Lines as they come out of a file: whole, numbered, and looked at without being judged."""

import json
import os
from threading import Thread

from hypothesis import given
from hypothesis import strategies as st

from worker.sending.lines import Line, Reader, look


def read_all(chunks: list[bytes]) -> list[Line]:
    """Read from a pipe into which the chunks are written."""
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            for chunk in chunks:
                pipe.write(chunk)

    writer = Thread(target=write)
    writer.start()
    reader = Reader(reading)
    found: list[Line] = []
    while not reader.at_end:
        found += reader.read()
    writer.join()
    os.close(reading)
    return found


@given(chunks=st.lists(st.binary(max_size=20) | st.just(b"\n") | st.just(b'{"type":"batch"}\n')))
def test_however_a_file_arrives_its_lines_are_the_same(chunks: list[bytes]) -> None:
    content = b"".join(chunks)

    found = read_all(chunks)

    expected = [(number, line) for number, line in enumerate(content.split(b"\n"), 1) if line.strip()]
    assert [(line.number, line.content) for line in found] == expected


@given(value=st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_what_is_no_command_is_unreadable(value: object) -> None:
    line = look(1, json.dumps(value).encode())

    assert (line.task, line.id, line.may_share) == ("commands.unreadable", None, False)


def test_a_line_that_could_spoil_its_neighbours_goes_alone() -> None:
    sound = b'{"type":"transfers.post","id":"00000000-0000-4000-8000-00000000000a"}'
    deep = b'{"type":"transfers.post","metadata":' + b"[" * 500 + b"]" * 500 + b"}"

    assert look(1, sound).may_share
    assert not look(1, b'{"type":"transfers.post","amount":NaN}').may_share
    assert not look(1, b'{"type":"batch","commands":[]}').may_share
    assert not look(1, deep).may_share
    assert look(1, deep).task == "transfers.post"
