"""Controls the handlers of the task `staged` from a test."""

from __future__ import annotations

import json
import socket
from typing import Any, Final

TIMEOUT_S: Final = 60
"""Longer than any event takes, even on a busy machine."""


class Stage:
    """A listener that handlers connect to."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(TIMEOUT_S)

    @property
    def payload(self) -> dict[str, Any]:
        """The payload of a job whose handler connects here."""
        return {"stage": self._listener.getsockname()[1]}

    def actor(self) -> Actor:
        """Wait for the next handler to start."""
        connection, _ = self._listener.accept()
        return Actor(connection)

    def close(self) -> None:
        self._listener.close()


class Actor:
    """A handler that waits for instructions."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(TIMEOUT_S)
        self._connection = connection
        self._lines = connection.makefile("r")
        self.attempt: int = json.loads(self._lines.readline())["attempt"]

    def act(self, **instruction: Any) -> None:
        """Send an instruction."""
        self._connection.sendall(json.dumps(instruction).encode() + b"\n")

    def wait_for_stop(self) -> None:
        """Wait until the handler is asked to stop."""
        assert self._lines.readline() == '"stop"\n'
