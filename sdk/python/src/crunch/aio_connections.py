"""HTTP/1.1 for the asyncio client, over httpx."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from typing import TYPE_CHECKING, Final, Protocol

from crunch.api.http import NoResponse, Response
from crunch.api.settings import CONNECT_TIMEOUT_S, MAX_BODY_BYTES, MAX_IDLE_S
from crunch.errors import Unreachable

try:
    import httpx
except ImportError as error:
    raise ImportError(
        "crunch.AsyncClient needs httpx: pip install './sdk/python[client]'; crunch.Client does not"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from crunch.api.http import Request
    from crunch.api.settings import Address

MAX_CONNECTIONS: Final = 1000
"""Far more than one event loop keeps busy, far fewer than an API accepts from one address."""
MAX_IDLE: Final = 100
"""How many idle connections are kept."""


class AsyncTransport(Protocol):
    """How the asyncio client exchanges messages, and how it measures time."""

    async def send(self, request: Request, timeout: float) -> Response:
        """Return the whole response; raise `NoResponse` if there is none."""
        ...

    async def open(self, request: Request, timeout: float) -> tuple[Response, AsyncOpenBody | None]:
        """Return the head of a response and its body; of any response but 200, the whole."""
        ...

    async def pause(self, seconds: float) -> None:
        """Do nothing for some seconds."""
        ...

    def clock(self) -> float:
        """Return the seconds since some moment."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class AsyncOpenBody(Protocol):
    """The body of a response that is read in parts."""

    async def read(self, timeout: float) -> bytes:
        """Return the next part; nothing at the end."""
        ...

    async def close(self) -> None:
        """Stop reading."""
        ...


class _HttpxBody:
    def __init__(self, response: httpx.Response, url: str) -> None:
        self._response, self._url = response, url
        self._parts = response.aiter_raw()

    async def read(self, timeout: float) -> bytes:
        with _no_response(self._url):
            return await asyncio.wait_for(anext(self._parts, b""), timeout)

    async def close(self) -> None:
        with contextlib.suppress(httpx.HTTPError):
            await self._response.aclose()


class AsyncConnections:
    """The connections to one API, for one event loop at a time."""

    def __init__(
        self,
        address: Address,
        headers: Mapping[str, str],
        tls: ssl.SSLContext | None,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self._address, self._tls, self._custom = address, tls, transport
        self._url = address.url
        # Compressed content would have to be unpacked before its size is known.
        self._headers = {**headers, "Accept-Encoding": "identity"}
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def send(self, request: Request, timeout: float) -> Response:
        """Return the whole response; raise `NoResponse` if there is none."""
        with _no_response(self._url):
            return await asyncio.wait_for(self._whole(request), timeout)

    async def open(self, request: Request, timeout: float) -> tuple[Response, AsyncOpenBody | None]:
        """Return the head of a response and its body; of any response but 200, the whole."""
        with _no_response(self._url):
            return await asyncio.wait_for(self._open(request), timeout)

    async def pause(self, seconds: float) -> None:
        """Do nothing for some seconds."""
        await asyncio.sleep(seconds)

    def clock(self) -> float:
        """Return the seconds since some moment."""
        return time.monotonic()

    async def close(self) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        # Connections of an event loop that has ended cannot be closed any more.
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.aclose()

    async def _whole(self, request: Request) -> Response:
        limits = httpx.Timeout(request.silence, connect=CONNECT_TIMEOUT_S)
        response = await self._start(request, limits)
        try:
            return Response(response.status_code, _names(response), await _body(response))
        finally:
            await response.aclose()

    async def _open(self, request: Request) -> tuple[Response, AsyncOpenBody | None]:
        # Each part has a limit of its own, because a stream is silent for longer than a response.
        limits = httpx.Timeout(request.silence, connect=CONNECT_TIMEOUT_S, read=None)
        response = await self._start(request, limits)
        head = Response(response.status_code, _names(response))
        if head.status == 200:
            return head, _HttpxBody(response, self._url)
        try:
            return Response(head.status, head.headers, await _body(response)), None
        finally:
            await response.aclose()

    async def _start(self, request: Request, limits: httpx.Timeout) -> httpx.Response:
        client = self._client_of_this_loop()
        url = self._address.url + request.path
        fields = request.header_fields()
        built = client.build_request(
            request.method, url, content=request.body, headers=fields, timeout=limits
        )
        return await client.send(built, stream=True)

    def _client_of_this_loop(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._loop = loop
            limits = httpx.Limits(
                max_connections=MAX_CONNECTIONS,
                max_keepalive_connections=MAX_IDLE,
                keepalive_expiry=MAX_IDLE_S,
            )
            self._client = httpx.AsyncClient(
                headers=self._headers,
                limits=limits,
                transport=self._custom,
                # As the blocking client: no proxies of the environment.
                trust_env=False,
                verify=self._tls or (ssl.create_default_context() if self._address.tls else False),
            )
        return self._client


def _names(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


async def _body(response: httpx.Response) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_raw():
        parts.append(part)
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise NoResponse(f"a response of more than {MAX_BODY_BYTES} bytes", sent=True)
    return b"".join(parts)


@contextlib.contextmanager
def _no_response(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        reason = f"cannot connect to {url}: {_reason(error)}"
        if _is_about_certificates(error):
            # Another attempt would get the same certificate.
            raise Unreachable(reason) from error
        raise NoResponse(reason, sent=False) from error
    except (httpx.TransportError, asyncio.TimeoutError) as error:
        # A connection that had been kept open may be closed when the request arrives.
        stale = isinstance(error, httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError)
        raise NoResponse(_reason(error), sent=True, stale=stale) from error


def _is_about_certificates(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return cause is not None


def _reason(error: BaseException) -> str:
    if isinstance(error, httpx.TimeoutException | asyncio.TimeoutError):
        return "no response in time"
    return str(error) or type(error).__name__
