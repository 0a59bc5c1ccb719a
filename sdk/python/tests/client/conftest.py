"""Both kinds of clients, a real API, and a server that misbehaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from crunch.aio import AsyncClient
from crunch.client import Client

from .both import Blocking, Loop
from .scripted import ScriptedServer
from .stack import Stack
from .stage import Stage

MakeClient = Callable[..., Any]
KINDS = ("blocking", "asyncio")


@pytest.fixture(scope="session")
def stack(binaries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A real API with a worker."""
    with Stack(binaries, tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def make_client(kind: str, loop: Loop) -> Iterator[MakeClient]:
    """Makes clients of one kind, all with the calls of the blocking one."""
    with ExitStack() as opened:

        def make(url: str, **arguments: Any) -> Any:
            arguments.setdefault("timeout", 60)
            if kind == "blocking":
                return opened.enter_context(Client(url, **arguments))
            return opened.enter_context(Blocking(AsyncClient(url, **arguments), loop))

        yield make


@pytest.fixture
def client(stack: Stack, make_client: MakeClient) -> Any:
    """A client of the real API."""
    return make_client(stack.url)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server that does what a test says, in this order."""
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()
