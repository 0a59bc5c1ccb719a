"""When a request is repeated, and after how long.

Repeated are connections that fail and responses that say "not now", for a limited time, and only if
nothing can happen twice: submissions carry an idempotency key, so they are repeatable.
"""

from __future__ import annotations

import logging
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from crunch.api.http import NoResponse, Open, Pause, Send
from crunch.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from crunch.api.http import Flow, Request, Response
    from crunch.errors import Problem

_log = logging.getLogger("crunch")

FIRST_PAUSE_S: Final = 0.1
"""A restarted API is back within a second: the first repetitions come soon."""
LONGEST_PAUSE_S: Final = 5.0
"""Longer pauses would waste the time that is left, unless the API asks for them."""
NOT_NOW: Final = (429, 503)
"""Statuses that ask to repeat the request later."""
_LOST_BEHIND_A_PROXY: Final = (502, 504)
"""A proxy got no response from the API: the request may have taken effect."""


class Attempts:
    """Counts the attempts of one request, and decides whether there is another one."""

    def __init__(self, clock: Callable[[], float], timeout: float) -> None:
        self._clock = clock
        self._timeout = timeout
        self._failures = 0
        self._is_logged = False
        self.extend()

    def extend(self) -> None:
        """Start the time again: the other side is there, even if an attempt fails."""
        self._deadline = self._clock() + self._timeout

    @property
    def remaining(self) -> float:
        """The seconds that are left."""
        return self._deadline - self._clock()

    def pause_after_response(self, request: Request, response: Response) -> float | None:
        """Return how long to wait before the next attempt; None if this is the response."""
        if not _says_not_now(request, response):
            return None
        problem = response.problem()
        return self._next_pause(str(problem), problem.retry_after or 0.0)

    def pause_after_failure(self, request: Request, failure: NoResponse) -> float:
        """Return how long to wait before the next attempt. Without one, raise what is known."""
        repeatable = request.repeatable or not failure.sent
        if repeatable and failure.stale and self._failures == 0:
            # An idle connection was closed by the other side, which is no sign of an outage.
            self._failures += 1
            return 0.0
        pause = self._next_pause(failure.reason, 0.0) if repeatable else None
        if pause is None:
            raise Unreachable(f"{request.method} {_route(request)}: {failure.reason}") from failure
        return pause

    def pause_after_problem(self, problem: Problem) -> float:
        """Return how long to wait after a part of a request was rejected for now."""
        pause = self._next_pause(str(problem), problem.retry_after or 0.0)
        if pause is None:
            raise problem
        return pause

    def _next_pause(self, reason: str, at_least: float) -> float | None:
        """Return the next pause, or None if no time is left for another attempt."""
        backoff = min(FIRST_PAUSE_S * 2.0**self._failures, LONGEST_PAUSE_S)
        # Clients that were rejected together must not return together.
        pause = max(at_least, 0.0) + backoff * random.uniform(0.5, 1.0)  # noqa: S311
        if pause >= self.remaining:
            return None
        if not self._is_logged:
            _log.warning("%s; retrying for up to %.0f s", reason, self.remaining)
            self._is_logged = True
        self._failures += 1
        return pause


def perform(request: Request, clock: Callable[[], float], timeout: float) -> Flow[Response]:
    """Return the response to a request, which is repeated for `timeout` seconds if need be.

    The time that the request asks the API to wait comes on top. The response may be a problem.
    """
    return (yield from _repeated(Send, request, clock, timeout))


def opened(request: Request, clock: Callable[[], float], timeout: float) -> Flow[Response]:
    """Return the head of a response whose body is read later; the rest is as for `perform`."""
    return (yield from _repeated(Open, request, clock, timeout))


def _repeated(
    effect: type[Send] | type[Open], request: Request, clock: Callable[[], float], timeout: float
) -> Flow[Response]:
    until = clock() + request.wait
    attempts = Attempts(clock, timeout + request.wait)
    while True:
        try:
            response = yield effect(request, max(attempts.remaining, 0.0))
        except NoResponse as failure:
            yield Pause(attempts.pause_after_failure(request, failure))
        else:
            pause = attempts.pause_after_response(request, response)
            if pause is None:
                return response
            yield Pause(pause)
        request = replace(request, wait=min(request.wait, max(0, int(until - clock()))))


def _says_not_now(request: Request, response: Response) -> bool:
    if response.status in _LOST_BEHIND_A_PROXY:
        return request.repeatable
    if response.status not in NOT_NOW:
        return False
    return request.repeatable or not response.problem().outcome_unknown


def _route(request: Request) -> str:
    """Return the path without the query, which may contain what clients consider private."""
    return request.path.partition("?")[0]
