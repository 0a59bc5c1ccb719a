"""Any number of submissions in constant memory, sent as lines of JSON.

A request has so few lines that it can be sent again as a whole: every line has an idempotency key,
so that none becomes two jobs. Each line has its own outcome.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeGuard

from crunch.api import documents, options
from crunch.api.calls import checked_key
from crunch.api.documents import JobDocument, parsed
from crunch.api.http import JSON, PROBLEM, Pause, Request, is_json
from crunch.api.payloads import encode_json
from crunch.api.retries import NOT_NOW, Attempts, perform
from crunch.api.tasks import encoded
from crunch.errors import JobsRefused, Problem, Refusal, UnexpectedResponse
from crunch.worker.values import checked_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crunch.api.calls import Calls
    from crunch.api.http import Flow, Response
    from crunch.api.options import SubmitOptions
    from crunch.worker.declaration import Task

MAX_LINES: Final = 1000
"""The most lines of one request: as many as the API accepts as a list."""
MAX_BYTES: Final = 1024 * 1024
"""From this size on, lines are sent: larger requests are not faster, and take longer to repeat."""
MAX_REFUSALS: Final = 100
"""How many rejected lines are kept; all are counted, and handed to `on_refused`."""
NDJSON: Final = "application/x-ndjson"


@dataclass(frozen=True)
class Accepted:
    """What became of a line that was not rejected."""

    job: JobDocument | None = None
    """None if the response only counts."""
    existing: bool = False
    """Whether no job was created, because this one holds the lock; False if the response counts."""


_Outcome: TypeAlias = Accepted | Problem


@dataclass
class Outcomes:
    """What became of some lines, in their order."""

    of_lines: list[_Outcome]
    existing: int
    """How many created no job, because another one holds their lock."""


@dataclass(frozen=True)
class Line:
    """One submission of a batch."""

    number: int
    key: str
    data: bytes


class Lines:
    """Collects submissions, and counts what became of them."""

    def __init__(
        self,
        calls: Calls,
        on_job: Callable[[JobDocument, bool], object] | None,
        on_refused: Callable[[Refusal], object] | None,
    ) -> None:
        """Take functions that are called for every accepted and every rejected line, in order.

        The first one gets the job, and whether it existed and holds the lock of the line.
        """
        self._calls, self._on_job, self._on_refused = calls, on_job, on_refused
        self._lines: list[Line] = []
        self._size = 0
        self._count = 0
        self.accepted = 0
        self.existing = 0
        self.refused = 0
        self.refusals: list[Refusal] = []

    def add(self, task: str, payload: bytes, key: str | None, given: SubmitOptions) -> int:
        """Add a submission whose payload is JSON, and return the number of its line."""
        key = checked_key(key)
        self._count += 1
        data = _line(task, payload, key, given)
        self._lines.append(Line(self._count, key, data))
        self._size += len(data)
        return self._count

    @property
    def full(self) -> bool:
        """Whether the lines are worth a request."""
        return len(self._lines) >= MAX_LINES or self._size >= MAX_BYTES

    def flush(self) -> Flow[None]:
        """Send what was collected, and record the outcomes. If that fails, it stays collected."""
        lines, with_jobs = self._lines, self._on_job is not None
        outcomes = yield from submit_lines(self._calls, lines, with_jobs=with_jobs)
        self._lines, self._size = [], 0
        not_rejected = sum(isinstance(it, Accepted) for it in outcomes.of_lines)
        self.accepted += not_rejected - outcomes.existing
        self.existing += outcomes.existing
        for line, outcome in zip(lines, outcomes.of_lines, strict=True):
            self._record(line, outcome)

    def _record(self, line: Line, outcome: _Outcome) -> None:
        if not isinstance(outcome, Problem):
            if self._on_job is not None and outcome.job is not None:
                self._on_job(outcome.job, outcome.existing)
            return
        self.refused += 1
        refusal = Refusal(line.number, line.key, outcome)
        if len(self.refusals) < MAX_REFUSALS:
            self.refusals.append(refusal)
        if self._on_refused is not None:
            self._on_refused(refusal)

    def check(self) -> None:
        """Raise `JobsRefused` if a line was rejected and there is no `on_refused`."""
        if self.refused and self._on_refused is None:
            raise JobsRefused(self.accepted, self.refused, self.refusals, self.existing)


def json_payload(task: str | Task[..., Any], payload: object) -> bytes:
    """Return a payload as JSON on one line: a batch contains nothing else."""
    body, content_type = encoded(task, payload, None)
    if not is_json(content_type):
        raise TypeError(f"a batch contains only JSON payloads, not {content_type}: use submit")
    return body if b"\n" not in body else encode_json(json.loads(body))


def _line(task: str, payload: bytes, key: str, given: SubmitOptions) -> bytes:
    if options.headers(given):
        raise TypeError("the jobs of a batch have no traceparent or tracestate")
    # The same bytes each time: a repeated line must be the same submission.
    others = {"idempotency_key": key, **options.members(given)}
    head = json.dumps({"task": checked_name("task", task)})[:-1]
    return b'%b, "payload": %b, %b' % (head.encode(), payload, json.dumps(others).encode()[1:])


def submit_lines(calls: Calls, lines: Sequence[Line], *, with_jobs: bool) -> Flow[Outcomes]:
    """Submit the lines until each is accepted or rejected for good.

    Lines that may be accepted later are sent again. If none of them is accepted for as long as the
    client tries, the problem of the first one is raised; sending all again later is safe.
    """
    outcomes: dict[int, _Outcome] = {}
    existing = 0
    pending = lines
    attempts = Attempts(calls.clock, calls.timeout)
    while pending:
        answers = yield from _sent(calls, pending, with_jobs=with_jobs)
        outcomes.update(zip((line.number for line in pending), answers.of_lines, strict=True))
        existing += answers.existing
        rejected_for_now = [problem for problem in answers.of_lines if _is_not_now(problem)]
        if rejected_for_now:
            if len(rejected_for_now) < len(pending):
                # Some were accepted: the time starts again.
                attempts.extend()
            yield Pause(attempts.pause_after_problem(rejected_for_now[0]))
        pending = [line for line in pending if _is_not_now(outcomes[line.number])]
    return Outcomes([outcomes[line.number] for line in lines], existing)


def _is_not_now(outcome: _Outcome) -> TypeGuard[Problem]:
    return isinstance(outcome, Problem) and outcome.status in NOT_NOW


def _sent(calls: Calls, lines: Sequence[Line], *, with_jobs: bool) -> Flow[Outcomes]:
    """Send the lines once, and return the outcome of each."""
    if with_jobs:
        body, kind = b'{"jobs": [%b]}' % b",".join(line.data for line in lines), JSON
    else:
        body, kind = b"\n".join(line.data for line in lines), NDJSON
    request = Request("POST", "/jobs/batch", {"Content-Type": kind}, body)
    response = yield from perform(request, calls.clock, calls.timeout)
    if response.content_type == PROBLEM or response.content_type != JSON:
        return (yield from _after_problem(calls, lines, response.problem(), with_jobs=with_jobs))
    if with_jobs:
        return _outcomes_of_items(response, len(lines))
    outcomes = _outcomes_of_lines(response, len(lines))
    if outcomes is None:
        # More were rejected than the response lists: as a list, every one has its answer.
        return (yield from _sent(calls, lines, with_jobs=True))
    return outcomes


def _after_problem(
    calls: Calls, lines: Sequence[Line], problem: Problem, *, with_jobs: bool
) -> Flow[Outcomes]:
    """Return the outcomes of lines that are too large together; every other problem is raised."""
    if problem.status != 413:
        raise problem
    if len(lines) == 1:
        return Outcomes([problem], 0)
    half = len(lines) // 2
    first = yield from _sent(calls, lines[:half], with_jobs=with_jobs)
    second = yield from _sent(calls, lines[half:], with_jobs=with_jobs)
    return Outcomes([*first.of_lines, *second.of_lines], first.existing + second.existing)


def _outcomes_of_items(response: Response, count: int) -> Outcomes:
    items: list[Any] = parsed(lambda of: list(of["items"]), response.json())
    if len(items) != count:
        raise UnexpectedResponse(f"{len(items)} outcomes for {count} jobs")
    outcomes = [parsed(lambda of: _outcome_of_item(of, response), item) for item in items]
    return Outcomes(outcomes, sum(isinstance(it, Accepted) and it.existing for it in outcomes))


def _outcome_of_item(item: Any, response: Response) -> _Outcome:
    if "job" in item:
        return Accepted(documents.job(item["job"]), bool(item["existing"]))
    return _problem(item["problem"], response)


def _outcomes_of_lines(response: Response, count: int) -> Outcomes | None:
    answer = response.json()
    names = ("accepted", "existing", "refused")
    counts = parsed(lambda of: [int(of[name]) for name in names], answer)
    if sum(counts) != count:
        raise UnexpectedResponse(f"{sum(counts)} outcomes for {count} jobs")
    _, existing, refused = counts
    errors: list[Any] = parsed(lambda of: list(of["errors"]), answer)
    if len(errors) < refused:
        return None
    outcomes: list[_Outcome] = [Accepted()] * count
    for error in errors:
        line, members = parsed(lambda of: (int(of["line"]), of["problem"]), error)
        outcomes[line - 1] = _problem(members, response)
    return Outcomes(outcomes, existing)


def _problem(members: Any, response: Response) -> Problem:
    return Problem.of(
        int(members["status"]),
        members,
        retry_after=response.retry_after,
        request_id=response.headers.get("x-request-id"),
    )
