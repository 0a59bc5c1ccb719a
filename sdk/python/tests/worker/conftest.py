from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from crunch.testing.channel import FakeWorker

CHILDREN = Path(__file__).parent / "children"

Start = Callable[..., FakeWorker]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts children with modules of the folder `children`; their hello is received."""
    with ExitStack() as workers:

        def started(*modules: str, hello: bool = True, **options: Any) -> FakeWorker:
            options.setdefault("cwd", CHILDREN)
            worker = workers.enter_context(FakeWorker(*modules, **options))
            if hello:
                worker.hello()
            return worker

        yield started


@pytest.fixture
def functions(start: Start) -> FakeWorker:
    return start("functions")


@pytest.fixture
def coroutines(start: Start) -> FakeWorker:
    return start("coroutines")
