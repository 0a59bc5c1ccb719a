"""Tests of tasks without a worker, an API or Redis; tests of clients without an API.

`run` runs one attempt of a job in this process, by the code that a child runs: it reads the
payload, calls the function and decides what its result or its exception means.
"""

from __future__ import annotations

from crunch.testing.attempts import Error, Progress, Report, run, run_async

__all__ = ["Error", "Progress", "Report", "run", "run_async"]
