"""A relay in front of a real API that cuts connections after a number of bytes of the responses."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from typing_extensions import Self

TIMEOUT_S: Final = 60


class Relay:
    """Relays connections; each number of `cuts` is how many bytes one of them gets, in order."""

    def __init__(self, url: str, cuts: list[int]) -> None:
        address = urlsplit(url)
        self._api = (address.hostname, address.port or 80)
        self.cuts = cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = [self._listener]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._sockets:
            _close(sock)
        for thread in self._threads:
            thread.join()

    def _start(self, function: object, *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                api = socket.create_connection(self._api, TIMEOUT_S)
                self._sockets += [client, api]
                limit = self.cuts.pop(0) if self.cuts else None
                self._start(_copy, client, api, None)
                self._start(_copy, api, client, limit)


def _copy(source: socket.socket, target: socket.socket, limit: int | None) -> None:
    """Copy at most `limit` bytes, then close both."""
    with contextlib.suppress(OSError):
        while limit is None or limit > 0:
            part = source.recv(65536 if limit is None else limit)
            if not part:
                break
            target.sendall(part)
            limit = None if limit is None else limit - len(part)
        if limit == 0:
            # What comes now is lost: the API responds to a request that it has processed.
            source.recv(1)
    _close(source)
    _close(target)


def _close(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
