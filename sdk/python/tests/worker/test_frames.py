"""How the worker's bytes become messages."""

from __future__ import annotations

import os
import random
import select
from collections.abc import Iterator
from contextlib import suppress

import pytest

from crunch.worker.channel import Channel, WorkerGoneError
from crunch.worker.frames import MAX_LINE_BYTES, Frame, FrameReader, ProtocolError

KNOWN = frozenset({"job", "ping"})

STREAM = (
    b'{"type":"ping"}\n'
    b'{"type":"later","body":3}\n\n\n\n'
    b'{"type":"job","body":5}\nab\ncd'
    b'{"type":"job","body":0}\n'
    b'{"body":2,"type":"job","unknown":[{}]}\nxy'
    + b'{"type":"later","body":200000}\n'
    + b"x" * 200_000
    + b'{"type":"job","body":150000}\n'
    + b"y" * 150_000
    + b'{"type":"ping"}\r\n'
)
FRAMES = [
    ("ping", b""),
    ("later", b""),
    ("job", b"ab\ncd"),
    ("job", b""),
    ("job", b"xy"),
    ("later", b""),
    ("job", b"y" * 150_000),
    ("ping", b""),
]


class Pipe:
    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.reader = FrameReader(self.reading, KNOWN)

    def send(self, data: bytes) -> list[Frame]:
        """Writes what fits into the pipe, and reads messages, until all is written."""
        frames: list[Frame] = []
        for at in range(0, len(data), 4096):
            os.write(self.writing, data[at : at + 4096])
            while select.select([self.reading], [], [], 0)[0]:
                assert self.reader.fill()
                while (frame := self.reader.next()) is not None:
                    frames.append(frame)
        return frames

    def close(self) -> None:
        for fd in (self.reading, self.writing):
            with suppress(OSError):
                os.close(fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def read(pipe: Pipe, sizes: Iterator[int]) -> list[tuple[str, bytes]]:
    """Reads the stream in pieces of these sizes."""
    frames: list[Frame] = []
    at = 0
    while at < len(STREAM):
        size = next(sizes)
        frames += pipe.send(STREAM[at : at + size])
        at += size
    return [(frame.message["type"], frame.body) for frame in frames]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 4096])
def test_messages_are_the_same_however_they_are_cut(pipe: Pipe, size: int) -> None:
    assert read(pipe, iter(lambda: size, 0)) == FRAMES


@pytest.mark.parametrize("seed", range(20))
def test_messages_are_the_same_in_random_pieces(pipe: Pipe, seed: int) -> None:
    numbers = random.Random(seed)
    assert read(pipe, iter(lambda: numbers.choice([1, 10, 100, 5000]), 0)) == FRAMES


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"hello\n", "not JSON"),
        (b"\n", "not JSON"),
        (b"\xff\xfe\n", "not JSON"),
        (b"[1]\n", "not a JSON object with a type"),
        (b'"job"\n', "not a JSON object with a type"),
        (b"{}\n", "not a JSON object with a type"),
        (b'{"type":5}\n', "not a JSON object with a type"),
        (b"[" * 100_000 + b"\n", "not JSON"),
        (b'{"type":"job","body":-1}\n', "a body of -1 bytes"),
        (b'{"type":"job","body":"5"}\n', "a body of '5' bytes"),
        (b'{"type":"job","body":1.5}\n', "a body of 1.5 bytes"),
        (b'{"type":"job","body":true}\n', "a body of True bytes"),
        (b'{"type":"job","body":67108865}\n', "more than 67108864"),
        (b"x" * (MAX_LINE_BYTES + 1), "a line of more than 262144 bytes"),
    ],
)
def test_what_is_no_message_is_an_error(pipe: Pipe, line: bytes, why: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        pipe.send(line)
    assert why in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_body_of_an_unknown_type_takes_no_memory(pipe: Pipe) -> None:
    assert len(pipe.send(b'{"type":"later","body":18446744073709551615}\n')) == 1
    for _ in range(100):
        assert pipe.send(b"x" * 4096) == []
        assert pipe.reader._data == b""


def test_the_end_of_the_input_is_seen(pipe: Pipe) -> None:
    pipe.send(b'{"type":"job","body":5}\nab')
    os.close(pipe.writing)
    assert not pipe.reader.fill()


def test_random_bytes_are_messages_or_errors(pipe: Pipe) -> None:
    numbers = random.Random(0)
    for _ in range(2000):
        data = bytearray(STREAM[:120])
        for _ in range(numbers.randrange(1, 5)):
            data[numbers.randrange(len(data))] = numbers.randrange(256)
        reader = FrameReader(pipe.reading, KNOWN)
        os.write(pipe.writing, data)
        with suppress(ProtocolError):
            reader.fill()
            while reader.next() is not None:
                pass


def test_a_channel_that_must_not_wait_does_not(pipe: Pipe) -> None:
    """Something else may have read the message that an event loop has reported."""
    other_reading, other_writing = os.pipe()
    try:
        channel = Channel(pipe.reading, other_writing)
        channel.never_wait()
        channel.read()
        assert channel.next_read() is None
        os.write(pipe.writing, b'{"type":"ping"}\n')
        channel.read()
        assert channel.next_read() == Frame({"type": "ping"}, b"")
        assert channel.poll() is None
        os.close(pipe.writing)
        with pytest.raises(WorkerGoneError):
            channel.poll()
    finally:
        os.close(other_reading)
        os.close(other_writing)
