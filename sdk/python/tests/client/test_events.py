"""The parser of server-sent events, as the WHATWG specifies them."""

from __future__ import annotations

import pytest

from crunch.events import Event, EventParser, ServerSentEvent

STREAM = (
    ": hello\nretry: 10\nid: 1\nevent: log\ndata: ä\ndata:  b\n\n"
    "data\n\nid\nevent: x\n\ndata: last\n\n"
)
EVENTS = [
    ServerSentEvent("log", "ä\n b", "1"),
    ServerSentEvent("message", "", "1"),
    ServerSentEvent("message", "last", ""),
]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
@pytest.mark.parametrize("begin", ["", "\ufeff"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_any_ends_of_lines_in_any_parts_are_the_same(begin: str, end: str, size: int) -> None:
    whole = (begin + STREAM.replace("\n", end)).encode()
    parser = EventParser()
    events = [
        event for at in range(0, len(whole), size) for event in parser.feed(whole[at : at + size])
    ]
    assert events == EVENTS
    assert parser.last_id == ""


def test_an_incomplete_event_does_not_count() -> None:
    parser = EventParser("7.0")
    assert parser.feed(b"id: 8.0\ndata: x\n") == []
    assert parser.last_id == "7.0"
    assert parser.feed(b"\n") == [ServerSentEvent("message", "x", "8.0")]
    assert parser.last_id == "8.0"


def test_an_id_without_data_counts() -> None:
    parser = EventParser()
    assert parser.feed(b"id: 3\n\n") == []
    assert parser.last_id == "3"


def test_an_id_with_a_null_is_ignored() -> None:
    parser = EventParser("1")
    parser.feed(b"id: 2\0\ndata: x\n\n")
    assert parser.last_id == "1"


def test_bytes_that_are_not_utf_8_break_nothing() -> None:
    assert EventParser().feed(b"data: \xff\n\n") == [ServerSentEvent("message", "\ufffd", "")]


def test_an_event_is_shown_with_what_it_has() -> None:
    event = Event("log", "8.0", number=1, line="x")
    assert repr(event) == "Event(type='log', id='8.0', number=1, line='x')"
