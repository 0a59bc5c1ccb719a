"""An HTTP server that answers as a test says: also wrongly, slowly, partly or not at all."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from typing_extensions import Self

TIMEOUT_S: Final = 60
"""Longer than any client here waits."""
TOKEN: Final = "01a20c36-14f1-8000-8f8f-f34074aa25aa"


@dataclass(frozen=True)
class Received:
    """A request that arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: int
    """The number of the connection, from 1."""


Step = Callable[[socket.socket], bool]
"""Answers a request; returns whether the connection stays open."""


class ScriptedServer:
    """Does one step for each request."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._steps: list[Step] = []
        self._lock = threading.Lock()
        self._closing = False
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self.requests: Final[list[Received]] = []
        self.reads_bodies = True

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closing = True
            open_ = [self._listener, *self._connections]
        for sock in open_:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def script(self, *steps: Step) -> None:
        """Add what is done for the next requests."""
        self._steps.extend(steps)

    @property
    def done(self) -> bool:
        """Whether every step was needed."""
        return not self._steps

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(TIMEOUT_S)
            with self._lock:
                if self._closing:
                    connection.close()
                    return
                self._connections.append(connection)
                number = len(self._connections)
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with (
            contextlib.suppress(OSError, ValueError),
            connection,
            connection.makefile("rb") as file,
        ):
            while (request := _read(file, number, body=self.reads_bodies)) is not None:
                with self._lock:
                    self.requests.append(request)
                    step = self._steps.pop(0) if self._steps else reply(500, {"title": "no step"})
                if not step(connection):
                    return


def _read(file: Any, number: int, *, body: bool) -> Received | None:
    first = file.readline().decode().split()
    if not first:
        return None
    headers: dict[str, str] = {}
    while line := file.readline().decode().strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    content = file.read(int(headers.get("content-length", 0))) if body else b""
    return Received(first[0], first[1], headers, content, number)


def reply(status: int, body: Any = None, /, **headers: str) -> Step:
    """Answer with JSON, or with a problem; `retry_after="1"` becomes a header."""

    def step(connection: socket.socket) -> bool:
        connection.sendall(encoded(status, body, **headers))
        return True

    return step


def encoded(status: int, body: Any = None, /, **headers: str) -> bytes:
    """Return a whole response."""
    content = (
        b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    )
    fields = {"content_type": kind_of(status), "content_length": str(len(content)), **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + content


def kind_of(status: int) -> str:
    return "application/json" if status < 300 else "application/problem+json"


def problem(status: int, slug: str, /, retry_after: str | None = None, **members: Any) -> Step:
    """Answer with a problem of the API."""
    document = {
        "type": f"/problems/{slug}",
        "title": slug,
        "status": status,
        "detail": "",
        **members,
    }
    headers = {} if retry_after is None else {"retry_after": retry_after}
    return reply(status, document, **headers)


def cut(part: bytes = b"") -> Step:
    """Send a part of a response, or nothing, and close the connection."""

    def step(connection: socket.socket) -> bool:
        connection.sendall(part)
        return False

    return step


def silence(until: threading.Event, part: bytes = b"") -> Step:
    """Send a part of a response, and nothing more until the test ends."""

    def step(connection: socket.socket) -> bool:
        connection.sendall(part)
        until.wait(TIMEOUT_S)
        return False

    return step


def stream(*parts: bytes, ends: bool = True, until: threading.Event | None = None) -> Step:
    """Answer with a stream of events in these parts; without `ends` the connection is cut."""

    def step(connection: socket.socket) -> bool:
        head = b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        for part in parts:
            connection.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        if until is not None:
            until.wait(TIMEOUT_S)
        if ends:
            connection.sendall(b"0\r\n\r\n")
        return ends

    return step


def event(kind: str, id_: str, **data: Any) -> bytes:
    """Return an event as the API writes it."""
    return f"event: {kind}\nid: {id_}\ndata: {json.dumps(data)}\n\n".encode()


def job(status: str = "queued", /, **members: Any) -> dict[str, Any]:
    """Return a job document."""
    document: dict[str, Any] = {
        "id": TOKEN,
        "token": TOKEN,
        "task": "echo",
        "queue": "echo",
        "priority": "normal",
        "group": None,
        "unique": None,
        "status": status,
        "progress": None,
        "progress_message": None,
        "worker": None,
        "attempt": 1,
        "max_attempts": 3,
        "snoozes": 0,
        "cancel_requested": False,
        "created_at": "2026-11-28T22:28:31.758Z",
        "run_at": None,
        "started_at": None,
        "finished_at": None,
        "expires_at": None,
        "payload_size": 2,
        "result": None,
        "result_size": None,
        "result_content_type": None,
        "result_omitted": None,
        "error": None,
        "error_group": None,
        "waiting_for": None,
        "schedule": None,
        "metadata": {},
        "links": {},
    }
    if status == "succeeded":
        document |= {"result_content_type": "application/json", "result_size": 4}
    return document | members


@contextlib.contextmanager
def free_event() -> Iterator[threading.Event]:
    """Give an event that is set at the end, so that no thread waits any longer."""
    event = threading.Event()
    try:
        yield event
    finally:
        event.set()
