"""HTTP/1.1 for the blocking client, over connections that are kept open.

Every wait has an end: connecting, sending and each read are limited by what is left of the call,
and by how long the other side may be silent.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import re
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

from crunch.api.http import SILENCE_S, NoResponse, Request, Response
from crunch.api.settings import CONNECT_TIMEOUT_S, MAX_BODY_BYTES, MAX_IDLE_S
from crunch.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crunch.api.settings import Address

MAX_IDLE: Final = 16
"""How many idle connections are kept: as many as threads usually share a client."""
_PART_BYTES: Final = 64 * 1024

_HEAD: Final = re.compile(r"[\t\n -~]*")

# Not epoll, which would need a descriptor of its own each time.
_Selector: Final = getattr(selectors, "PollSelector", selectors.SelectSelector)


class Transport(Protocol):
    """How the blocking client exchanges messages, and how it measures time."""

    def send(self, request: Request, timeout: float) -> Response:
        """Return the whole response; raise `NoResponse` if there is none."""
        ...

    def open(self, request: Request, timeout: float) -> tuple[Response, OpenBody | None]:
        """Return the head of a response and its body; of any response but 200, the whole."""
        ...

    def pause(self, seconds: float) -> None:
        """Do nothing for some seconds."""
        ...

    def clock(self) -> float:
        """Return the seconds since some moment."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


class OpenBody(Protocol):
    """The body of a response that is read in parts."""

    def read(self, timeout: float) -> bytes:
        """Return the next part; nothing at the end."""
        ...

    def close(self) -> None:
        """Stop reading."""
        ...


class Connections:
    """The connections to one API, for any number of threads."""

    def __init__(
        self, address: Address, headers: Mapping[str, str], tls: ssl.SSLContext | None
    ) -> None:
        """Take the headers of all requests, and how certificates are checked."""
        self._address, self._headers = address, headers
        self._tls = (tls or ssl.create_default_context()) if address.tls else None
        self._idle: deque[_Connection] = deque()
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def send(self, request: Request, timeout: float) -> Response:
        """Return the whole response; raise `NoResponse` if there is none."""
        deadline = time.monotonic() + timeout
        connection = self._acquire(deadline)
        try:
            head = connection.exchange(self._address.path, request, self._headers, deadline)
            response = Response(head.status, head.headers, connection.rest(request.silence))
        except BaseException:
            connection.close()
            raise
        self._release(connection)
        return response

    def open(self, request: Request, timeout: float) -> tuple[Response, OpenBody | None]:
        """Return the head of a response and its body; of any response but 200, the whole."""
        deadline = time.monotonic() + timeout
        connection = self._acquire(deadline)
        try:
            head = connection.exchange(self._address.path, request, self._headers, deadline)
            if head.status == 200:
                return head, connection
            response = Response(head.status, head.headers, connection.rest(request.silence))
        except BaseException:
            connection.close()
            raise
        self._release(connection)
        return response, None

    def pause(self, seconds: float) -> None:
        """Do nothing for some seconds."""
        time.sleep(seconds)

    def clock(self) -> float:
        """Return the seconds since some moment."""
        return time.monotonic()

    def close(self) -> None:
        """Close all idle connections; those in use are closed when they are not any more."""
        with self._lock:
            idle, self._idle = self._idle, deque()
        for connection in idle:
            connection.close()

    def _acquire(self, deadline: float) -> _Connection:
        """Return an idle connection that is still open, or a new one."""
        while (connection := self._take_idle()) is not None:
            if connection.is_usable():
                return connection
            connection.close()
        return _Connection(self._address, self._tls, deadline)

    def _take_idle(self) -> _Connection | None:
        with self._lock:
            if self._pid != os.getpid():
                # After a fork, the parent goes on using its connections.
                self._idle, self._pid = deque(), os.getpid()
            return self._idle.pop() if self._idle else None

    def _release(self, connection: _Connection) -> None:
        with self._lock:
            if connection.keep() and len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
                return
        connection.close()


class _Connection:
    """One connection, which serves one request after the other."""

    def __init__(self, address: Address, tls: ssl.SSLContext | None, deadline: float) -> None:
        self._host = address.host_header
        self._limit = _Limit(deadline)
        self._socket = _connected(address, tls, self._limit)
        self._response: http.client.HTTPResponse | None = None
        self._served = 0
        self._idle_since = 0.0

    def is_usable(self) -> bool:
        """Whether the connection was idle, and seems to be open."""
        if time.monotonic() - self._idle_since > MAX_IDLE_S:
            return False
        with _Selector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            # What can be read now is the end of the connection, or nothing that was asked for.
            return not selector.select(0)

    def exchange(
        self, base: str, request: Request, headers: Mapping[str, str], deadline: float
    ) -> Response:
        """Send the request and return the head of the response."""
        self._limit.start(deadline, request.silence)
        head = _head(self._host, base, request, headers)
        source = _LimitedSource(self._socket, self._limit)
        response = http.client.HTTPResponse(source, method=request.method)  # type: ignore[arg-type]
        stale = self._served > 0
        try:
            self._send(head, request.body or b"")
            response.begin()
        except (OSError, http.client.HTTPException) as error:
            # Only a connection that was closed before a first byte is a stale one.
            stale = stale and isinstance(error, ConnectionError | http.client.BadStatusLine)
            response.close()
            raise NoResponse(_reason(error), sent=True, stale=stale) from error
        self._response = response
        self._served += 1
        names = {name.lower(): value for name, value in response.headers.items()}
        return Response(response.status, names)

    def _send(self, head: bytes, body: bytes) -> None:
        try:
            # The limit is for all data together: a body may be large, and the other side slow.
            self._socket.settimeout(self._limit.remaining())
            if len(body) <= _PART_BYTES:
                self._socket.sendall(head + body)
            else:
                self._socket.sendall(head)
                self._socket.sendall(body)
        except (BrokenPipeError, ConnectionResetError):
            # A server that rejects a body does not read all of it; its response may have arrived.
            if not body:
                raise

    def rest(self, silence: float) -> bytes:
        """Return the rest of the body."""
        parts: list[bytes] = []
        size = 0
        self._limit.silence = silence
        while part := self._part():
            parts.append(part)
            size += len(part)
            if size > MAX_BODY_BYTES:
                raise NoResponse(f"a response of more than {MAX_BODY_BYTES} bytes", sent=True)
        return b"".join(parts)

    def read(self, timeout: float) -> bytes:
        """Return the next part of the body, as it arrives; nothing at the end."""
        self._limit.start(time.monotonic() + timeout, timeout)
        return self._part(at_once=True)

    def _part(self, *, at_once: bool = False) -> bytes:
        response = self._response
        if response is None:
            return b""
        # Before Python 3.11.8, read1() does not count towards an announced length.
        read = response.read1 if at_once and response.length is None else response.read
        try:
            part = read(_PART_BYTES)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NoResponse(_reason(error), sent=True) from error
        if not part and response.length:
            # A body that ends before its announced length.
            raise NoResponse("the connection was closed within the response", sent=True)
        return part

    def keep(self) -> bool:
        """Prepare the connection for the next request; false if it cannot have one."""
        response, self._response = self._response, None
        self._idle_since = time.monotonic()
        return response is not None and not response.will_close

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            if self._response is not None:
                self._response.close()
            self._socket.close()


class _Limit:
    """When the current exchange must end, and how long the other side may be silent."""

    def __init__(self, deadline: float) -> None:
        self.start(deadline, SILENCE_S)

    def start(self, deadline: float, silence: float) -> None:
        self._deadline, self.silence = deadline, silence

    def remaining(self) -> float:
        """Return the seconds until the end; raise `TimeoutError` after it."""
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("no response in time")
        return remaining


class _LimitedReader(io.RawIOBase):
    """Reads from a socket, each time no longer than the limit permits."""

    def __init__(self, sock: socket.socket, limit: _Limit) -> None:
        self._socket, self._limit = sock, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._socket.settimeout(min(self._limit.remaining(), self._limit.silence))
        return self._socket.recv_into(buffer)


class _WholeLines(io.BufferedReader):
    """Reads only whole lines: `http.client` takes the first half of a head for a head."""

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if not line.endswith(b"\n") and len(line) != size:
            raise http.client.RemoteDisconnected("the connection was closed within the response")
        return line


class _LimitedSource:
    """What `http.client.HTTPResponse` needs of a socket."""

    def __init__(self, sock: socket.socket, limit: _Limit) -> None:
        self._socket, self._limit = sock, limit

    def makefile(self, _mode: str) -> io.BufferedReader:
        return _WholeLines(_LimitedReader(self._socket, self._limit), _PART_BYTES)


def _connected(address: Address, tls: ssl.SSLContext | None, limit: _Limit) -> socket.socket:
    """Return a new connection."""
    try:
        timeout = min(CONNECT_TIMEOUT_S, limit.remaining())
        sock = socket.create_connection((address.host, address.port), timeout)
        try:
            # Requests are sent at once, and not when the last response was acknowledged.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock if tls is None else tls.wrap_socket(sock, server_hostname=address.host)
        except BaseException:
            sock.close()
            raise
    except ssl.SSLCertVerificationError as error:
        # Another attempt would get the same certificate.
        raise Unreachable(f"cannot connect to {address.url}: {error}") from error
    except OSError as error:
        reason = f"cannot connect to {address.url}: {_reason(error)}"
        raise NoResponse(reason, sent=False) from error


def _head(host: str, base: str, request: Request, headers: Mapping[str, str]) -> bytes:
    """Return the request line and the headers."""
    fields = {"Host": host, "Accept-Encoding": "identity", **headers, **request.header_fields()}
    if request.body is not None or request.method != "GET":
        fields["Content-Length"] = str(len(request.body or b""))
    lines = [f"{name}: {value}" for name, value in fields.items()]
    text = "\n".join((f"{request.method} {base}{request.path} HTTP/1.1", *lines))
    if not _HEAD.fullmatch(text) or text.count("\n") != len(lines):
        raise ValueError("a header contains a line break, or a character that is not ASCII")
    return text.replace("\n", "\r\n").encode("ascii") + b"\r\n\r\n"


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no response in time"
    if isinstance(error, ConnectionResetError):
        return "the connection was closed before the whole response had arrived"
    return str(error) or type(error).__name__
