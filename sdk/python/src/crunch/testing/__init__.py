"""Tests of tasks without a worker, an API or Redis; tests of clients without an API.

`run` runs one attempt of a job in this process, by the code that a child runs: it reads the
payload, calls the function and decides what its result or its exception means. `fake` lets a client
call functions instead of an API.
"""

from __future__ import annotations

from crunch.testing.attempts import Error, Progress, Report, run, run_async

# Last, because it uses the others. The function replaces the module of the same name.
from crunch.testing.fake import FakeApi, fake

__all__ = ["Error", "FakeApi", "Progress", "Report", "fake", "run", "run_async"]
