"""Where the API is, and how a client presents itself."""

from __future__ import annotations

import os
import platform
from typing import Final
from urllib.parse import urlsplit

import crunch

DEFAULT_URL: Final = "http://127.0.0.1:8080"
DEFAULT_TIMEOUT_S: Final = 30.0
"""Long enough for a restart of the API, short enough to notice that there is none."""
DEFAULT_WAIT_S: Final = 600.0
"""How long waits for the end of a job take by default: as long as an attempt may, by default."""
MAX_IDLE_S: Final = 30.0
"""How long a connection may be idle: many proxies close theirs after a minute."""
CONNECT_TIMEOUT_S: Final = 10.0
"""A host that does not answer a connection for this long is not there."""
MAX_BODY_BYTES: Final = 128 * 1024 * 1024
"""The largest response: twice the largest result. What sends more is not the API."""


class Settings:
    """What a client was given, or else what the environment says."""

    def __init__(self, url: str | None, key: str | None, timeout: float) -> None:
        if not 0 < timeout < float("inf"):
            raise ValueError(f"timeout: {timeout!r} is not a number of seconds above 0")
        self.address: Final = Address(url or os.environ.get("CRUNCH_URL") or DEFAULT_URL)
        self.timeout: Final = timeout
        python = platform.python_version()
        self.headers: Final = {"User-Agent": f"crunch-sdk/{crunch.__version__} python/{python}"}
        if key := key or os.environ.get("CRUNCH_KEY"):
            self.headers["Authorization"] = f"Bearer {key}"


class Address:
    """The address of an API: scheme, host, port, and the path that its routes begin with."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or port == -1
            or parts.query
            or parts.fragment
            or parts.username is not None
        ):
            raise ValueError(f"url: {url!r} is not http:// or https://, a host, a port and a path")
        self.tls: Final = parts.scheme == "https"
        self.host: Final[str] = parts.hostname
        self.port: Final = port or (443 if self.tls else 80)
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = self.port == (443 if self.tls else 80)
        self.host_header: Final = host if default else f"{host}:{self.port}"
        self.path: Final = parts.path.rstrip("/")
        self.url: Final = f"{parts.scheme}://{parts.netloc}{self.path}"
