"""Crunch: tasks in Python, and a client for the HTTP API.

Names are imported when they are used: a client imports nothing of the worker side, and a worker's
process imports nothing of the client.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crunch import testing as testing
    from crunch.aio import AsyncClient as AsyncClient
    from crunch.api.limits import Rate as Rate
    from crunch.client import Client as Client
    from crunch.errors import Conflict as Conflict
    from crunch.errors import Error as Error
    from crunch.errors import Forbidden as Forbidden
    from crunch.errors import Gone as Gone
    from crunch.errors import IdempotencyConflict as IdempotencyConflict
    from crunch.errors import InvalidKey as InvalidKey
    from crunch.errors import JobCanceled as JobCanceled
    from crunch.errors import JobFailed as JobFailed
    from crunch.errors import JobsRefused as JobsRefused
    from crunch.errors import Locked as Locked
    from crunch.errors import NotFound as NotFound
    from crunch.errors import PayloadInvalid as PayloadInvalid
    from crunch.errors import Problem as Problem
    from crunch.errors import Refusal as Refusal
    from crunch.errors import ResultUnreadable as ResultUnreadable
    from crunch.errors import TooManyRequests as TooManyRequests
    from crunch.errors import Unauthorized as Unauthorized
    from crunch.errors import Unavailable as Unavailable
    from crunch.errors import UnexpectedResponse as UnexpectedResponse
    from crunch.errors import UnknownTask as UnknownTask
    from crunch.errors import Unreachable as Unreachable
    from crunch.errors import Violation as Violation
    from crunch.errors import WaitTimeout as WaitTimeout
    from crunch.unique import Unique as Unique
    from crunch.worker.batches import batched as batched
    from crunch.worker.declaration import Backoff as Backoff
    from crunch.worker.declaration import Task as Task
    from crunch.worker.declaration import task as task
    from crunch.worker.failures import Canceled as Canceled
    from crunch.worker.failures import Fail as Fail
    from crunch.worker.failures import MachineFault as MachineFault
    from crunch.worker.failures import Retry as Retry
    from crunch.worker.failures import Snooze as Snooze
    from crunch.worker.hints import Length as Length
    from crunch.worker.hints import Range as Range
    from crunch.worker.job import Job as Job
    from crunch.worker.job import current_job as current_job
    from crunch.worker.results import Result as Result

__version__ = "0.1.0"

_HOMES = {
    "AsyncClient": "crunch.aio",
    "Backoff": "crunch.worker.declaration",
    "Canceled": "crunch.worker.failures",
    "Client": "crunch.client",
    "Conflict": "crunch.errors",
    "Error": "crunch.errors",
    "Fail": "crunch.worker.failures",
    "Forbidden": "crunch.errors",
    "Gone": "crunch.errors",
    "IdempotencyConflict": "crunch.errors",
    "Job": "crunch.worker.job",
    "InvalidKey": "crunch.errors",
    "JobCanceled": "crunch.errors",
    "JobFailed": "crunch.errors",
    "JobsRefused": "crunch.errors",
    "Length": "crunch.worker.hints",
    "Locked": "crunch.errors",
    "MachineFault": "crunch.worker.failures",
    "NotFound": "crunch.errors",
    "PayloadInvalid": "crunch.errors",
    "Problem": "crunch.errors",
    "Range": "crunch.worker.hints",
    "Rate": "crunch.api.limits",
    "Result": "crunch.worker.results",
    "Refusal": "crunch.errors",
    "ResultUnreadable": "crunch.errors",
    "Retry": "crunch.worker.failures",
    "Snooze": "crunch.worker.failures",
    "Task": "crunch.worker.declaration",
    "TooManyRequests": "crunch.errors",
    "Unauthorized": "crunch.errors",
    "Unavailable": "crunch.errors",
    "UnexpectedResponse": "crunch.errors",
    "Unique": "crunch.unique",
    "UnknownTask": "crunch.errors",
    "Unreachable": "crunch.errors",
    "Violation": "crunch.errors",
    "WaitTimeout": "crunch.errors",
    "batched": "crunch.worker.batches",
    "current_job": "crunch.worker.job",
    "task": "crunch.worker.declaration",
}


def __getattr__(name: str) -> Any:
    if name == "testing":
        return importlib.import_module("crunch.testing")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'crunch' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    # The next access finds it without this function.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, "testing"})
