"""An API in memory: the routes that clients call, without a network."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from crunch.api.http import JSON, Request, Response, essence, is_json
from crunch.batch import NDJSON
from crunch.testing import fake_jobs
from crunch.testing.fake_jobs import DEFAULT_ATTEMPTS, Function, Job, Outcome, Submission
from crunch.testing.fake_locks import Locks, claim_of, complete, read_query
from crunch.testing.fake_problems import Rejected, invalid, parsed, to_json
from crunch.worker.declaration import Task
from crunch.worker.payloads import UnfitPayload

Reply: TypeAlias = Callable[[], Response]
"""Makes the response: late, so that it can show what a job has become meanwhile."""

_NUMBERS: Final = (
    "delay_ms",
    "timeout_ms",
    "deadline_ms",
    "start_within_ms",
    "max_attempts",
    "retention_ms",
)
_Accepted: TypeAlias = tuple[Job, Literal["new", "replayed", "existing"]]
_HEADERS: Final = {"replayed": "idempotency-replayed", "existing": "crunch-existing"}
"""What says that a submission created no job."""
_WAITING: Final = ("scheduled", "queued", "retrying")

MAX_WAIT_S: Final = 30 * 24 * 3600
"""How long clients may wait altogether: a wait without a timeout would never end."""


class Store:
    """The tasks and jobs of a fake API, and its clock, which only waiting moves."""

    def __init__(self, functions: Mapping[str, Function]) -> None:
        self.functions: Final = dict(functions)
        self.jobs: Final[dict[str, Job]] = {}
        self.now = 0.0
        self.next_problems: Final[list[Response]] = []
        self._deleted: Final[set[str]] = set()
        self._locks: Final = Locks()
        self._keys: Final[dict[tuple[str, str], tuple[object, str]]] = {}

    def start(self) -> Iterator[Job]:
        """Start all jobs that could run now: in rounds, each in the order of submission."""
        while due := [job for job in self.jobs.values() if self._is_due(job)]:
            # What an earlier one does may start, cancel or delay a later one.
            for job in filter(self._is_due, due):
                job.begin()
                self._locks.started(job, self.now)
                yield job

    def settle(self, job: Job, outcome: Outcome) -> None:
        """Record how an attempt ended."""
        job.settle(outcome, self.now)
        if job.ended:
            self._locks.ended(job, self.now)

    def _is_due(self, job: Job) -> bool:
        return job.status in _WAITING and job.due_at <= self.now

    def let_pass(self, seconds: float) -> None:
        """Move the clock."""
        self.now += seconds
        if self.now > MAX_WAIT_S:
            raise RuntimeError("the client waits for ever: no job that could still run ends")

    def take(self, request: Request) -> Reply:
        """Do what a request asks for, and return what makes its response."""
        if self.next_problems:
            response = self.next_problems.pop(0)
            return lambda: response
        address = urlsplit(request.path)
        query = dict(parse_qsl(address.query, keep_blank_values=True))
        for method, pattern, handle in _ROUTES:
            if method == request.method and (found := pattern.fullmatch(address.path)):
                try:
                    return handle(self, request, query, *found.groups())
                except Rejected as rejected:
                    return rejected.response
        return Rejected(404, "not-found", "there is no such path").response

    # Submissions

    def submit(self, request: Request, query: Mapping[str, str], task: str) -> Reply:
        options: dict[str, Any] = {"metadata": {}}
        for name, value in query.items():
            group, _, member = name.partition(".")
            if member:
                options.setdefault(group, {})[member] = value
            else:
                options[name] = int(value) if name in _NUMBERS else value
        if "unique" in options:
            options["unique"] = read_query(options["unique"])
        key = request.headers.get("Idempotency-Key")
        kind = essence(request.headers["Content-Type"])
        body = request.body or b""
        payload = parsed(body) if is_json(kind) else body
        if task not in self.functions:
            raise Rejected(404, "unknown-task", f'no worker ever declared a task "{task}"')
        submission = Submission(task, payload, kind, key, options, body)
        job, why = self._accept(submission, request.path, (request.path, kind, body), "")
        headers = {} if why == "new" else {_HEADERS[why]: "true"}
        return lambda: self._job(job, 200 if request.wait and job.ended else 202, **headers)

    def submit_batch(self, request: Request, _query: Mapping[str, str]) -> Reply:
        body = request.body or b""
        if request.headers["Content-Type"] == NDJSON:
            outcomes = [self._line(line, "") for line in body.splitlines() if line.strip()]
            refused = [
                {"line": number, "problem": it.members}
                for number, it in enumerate(outcomes, 1)
                if isinstance(it, Rejected)
            ]
            existing = sum(not isinstance(it, Rejected) and it[1] == "existing" for it in outcomes)
            lines = {
                "accepted": len(outcomes) - existing - len(refused),
                "existing": existing,
                "refused": len(refused),
                "errors": refused[:100],
            }
            return lambda: Response(202, {"content-type": JSON}, to_json(lines))
        jobs = [
            self._line(to_json(it), f"/jobs/{at}") for at, it in enumerate(parsed(body)["jobs"])
        ]
        return lambda: Response(
            202, {"content-type": JSON}, to_json({"items": [self._item(it) for it in jobs]})
        )

    def _line(self, line: bytes, base: str) -> _Accepted | Rejected:
        members = parsed(line)
        task, payload, key = (
            members.pop("task"),
            members.pop("payload"),
            members.pop("idempotency_key"),
        )
        members["metadata"] = {k: _label(v) for k, v in members.get("metadata", {}).items()}
        try:
            if task not in self.functions:
                raise invalid(f"{base}/task", f'no worker ever declared a task "{task}"')
            submission = Submission(task, payload, JSON, key, members, to_json(payload))
            identity = (task, payload, members)
            return self._accept(submission, "item", identity, f"{base}/payload")
        except Rejected as rejected:
            return rejected

    def _item(self, outcome: _Accepted | Rejected) -> dict[str, Any]:
        if isinstance(outcome, Rejected):
            return {"status": outcome.members["status"], "problem": outcome.members}
        job, why = outcome
        return {"status": 202, "existing": why == "existing", "job": job.document(self.now)}

    def _accept(self, submission: Submission, scope: str, identity: object, base: str) -> _Accepted:
        """Create a job, or return the one that its key created or that holds its lock."""
        path = scope.partition("?")[0]
        known = self._keys.get((path, submission.key)) if submission.key else None
        if known is not None:
            if known[0] != identity:
                raise Rejected(422, "idempotency-conflict", "the key was used for another request")
            return self._find(known[1]), "replayed"
        function = self.functions[submission.task]
        self._check(function, submission, base)
        declared = fake_jobs.declared_by(function)
        group = self._group(function, submission, base)
        claim = claim_of(submission, declared, group, base)
        job = Job(submission, declared, group, claim, self.now)
        if (existing := self._locks.enter(job, self.now)) is not None:
            return existing, "existing"
        self.jobs[job.token] = job
        if submission.key:
            self._keys[path, submission.key] = (identity, job.token)
        return job, "new"

    def _group(self, function: Function, submission: Submission, base: str) -> str | None:
        try:
            return fake_jobs.group_of(function, submission)
        except ValueError as error:
            if "group" in submission.options:
                # In a query, or in an item.
                if not base:
                    raise Rejected(400, "invalid-parameter", f"group: {error}") from None
                raise invalid(base.removesuffix("payload") + "group", str(error)) from None
            pointer = function.declaration["group"] if isinstance(function, Task) else ""
            raise invalid(base + pointer, str(error)) from None

    def _check(self, function: Function, submission: Submission, base: str) -> None:
        accepts = function.declaration["accepts"] if isinstance(function, Task) else None
        kind = JSON if is_json(submission.content_type) else submission.content_type
        if accepts is not None and kind not in accepts:
            detail = f"the body must be {' or '.join(accepts)}"
            raise Rejected(415, "unsupported-media-type", detail)
        try:
            fake_jobs.check(function, submission.body, kind)
        except UnfitPayload as unfit:
            pointer, _, detail = unfit.message.partition(": ")
            raise invalid(base + (pointer if pointer.startswith("/") else ""), detail) from None

    # Jobs

    def read(self, request: Request, _query: Mapping[str, str], token: str) -> Reply:
        job = self._find(token)

        def reply() -> Response:
            if request.wait and not job.ended:
                # The time that the API would have waited has passed.
                self.let_pass(request.wait)
            return self._job(job, 200)

        return reply

    def listing(self, _request: Request, query: Mapping[str, str]) -> Reply:
        documents = [job.document(self.now, listed=True) for job in reversed(self.jobs.values())]
        members = {"status": "status", "task": "task", "queue": "queue", "error": "error_group"}
        given = [(member, query[name]) for name, member in members.items() if name in query]
        labels = [(name[9:], query[name]) for name in query if name.startswith("metadata.")]
        times = [(name, query[name]) for name in query if name.endswith(("_after", "_before"))]
        items = [
            it
            for it in documents
            if all(it[member] == value for member, value in given)
            and all(it["metadata"].get(label) == value for label, value in labels)
            and all(_is_within(it, name, bound) for name, bound in times)
        ]
        return lambda: _page(items)

    def errors(self, _request: Request, query: Mapping[str, str]) -> Reply:
        groups: dict[str, dict[str, Any]] = {}
        for job in self.jobs.values():
            document = job.document(self.now)
            if document["status"] != "failed" or not _is_of(document, query):
                continue
            group = groups.pop(document["error_group"], None)
            groups[document["error_group"]] = {
                "id": document["error_group"],
                "queue": document["queue"],
                "task": document["task"],
                "error": document["error"],
                "job": document["id"],
                "first_at": group["first_at"] if group else document["finished_at"],
                "last_at": document["finished_at"],
                "failures": job.attempt + (group["failures"] if group else 0),
                "failed_jobs": 1 + (group["failed_jobs"] if group else 0),
            }
        return lambda: _page([*reversed(groups.values())])

    def result(self, _request: Request, _query: Mapping[str, str], token: str) -> Reply:
        job = self._find(token)
        if job.status != "succeeded":
            raise Rejected(409, "job-not-finished", f"the job is {job.status}")
        return lambda: Response(200, {"content-type": job.last.content_type}, job.last.result)

    def payload(self, _request: Request, _query: Mapping[str, str], token: str) -> Reply:
        submission = self._find(token).submission
        return lambda: Response(200, {"content-type": submission.content_type}, submission.body)

    def attempts(self, _request: Request, _query: Mapping[str, str], token: str) -> Reply:
        job = self._find(token)
        items = [
            {
                "number": number,
                "worker": "fake",
                "host": "fake",
                "started_at": job.started_at,
                "finished_at": job.finished_at,
                "outcome": "failed" if outcome.status == "retried" else outcome.status,
                "error": outcome.error,
            }
            for number, outcome in enumerate(job.history, 1)
        ]
        return lambda: _page(items)

    def logs(self, _request: Request, _query: Mapping[str, str], token: str) -> Reply:
        return lambda: _page([data for kind, data in self.events(token) if kind == "log"])

    def cancel(self, _request: Request, _query: Mapping[str, str], token: str) -> Reply:
        job = self._find(token)
        if job.ended and job.status != "canceled":
            raise Rejected(409, "job-finished", "the job has already ended")
        if not job.ended:
            job.cancel()
            self._locks.ended(job, self.now)
        return lambda: self._job(job, 200)

    def retry(self, _request: Request, _query: Mapping[str, str], token: str) -> Reply:
        job = self._find(token)
        if job.status not in ("failed", "canceled"):
            detail = "only failed and canceled jobs can be retried"
            raise Rejected(409, "job-not-retryable", detail)
        self._locks.take_again(job, self.now)
        job.queue_again(self.now)
        return lambda: self._job(job, 202)

    def delete(self, _request: Request, _query: Mapping[str, str], token: str) -> Reply:
        job = self._find(token)
        if not job.ended:
            raise Rejected(409, "job-not-finished", "the job has not ended")
        del self.jobs[token]
        self._locks.deleted(job, self.now)
        self._deleted.add(token)
        return lambda: Response(204)

    def events(self, token: str) -> list[tuple[str, dict[str, Any]]]:
        """Return what happened to a job, as the names and data of events."""
        job = self._find(token)
        events: list[tuple[str, dict[str, Any]]] = []
        number = 0
        at = job.started_at or job.created_at
        for attempt, outcome in enumerate(job.history, 1):
            events.append(("status", {"status": "running", "attempt": attempt, "at": at}))
            for fraction, message in outcome.progress:
                data = {"progress": fraction, "progress_message": message, "at": at}
                events.append(("progress", data))
            for line in outcome.logs:
                number += 1
                data = {"number": number, "attempt": attempt, "at": at, "line": line}
                events.append(("log", data))
        document = job.document(self.now)
        events.append(
            (
                "status",
                {"status": document["status"], "attempt": job.attempt, "at": job.finished_at},
            )
        )
        return [*events, ("done", document)] if job.ended else events

    # Lists of other things

    def tasks(self, _request: Request, _query: Mapping[str, str]) -> Reply:
        return lambda: _page([_task(name, it) for name, it in sorted(self.functions.items())])

    def task(self, _request: Request, _query: Mapping[str, str], name: str) -> Reply:
        if name not in self.functions:
            raise Rejected(404, "not-found", "there is no such task")
        return lambda: Response(
            200, {"content-type": JSON}, to_json(_task(name, self.functions[name]))
        )

    def queues(self, _request: Request, _query: Mapping[str, str]) -> Reply:
        return lambda: _page([self._queue(name) for name in self._queue_names()])

    def queue(self, _request: Request, _query: Mapping[str, str], name: str) -> Reply:
        if name not in self._queue_names():
            raise Rejected(404, "not-found", "there is no such queue")
        return lambda: Response(200, {"content-type": JSON}, to_json(self._queue(name)))

    def workers(self, _request: Request, _query: Mapping[str, str]) -> Reply:
        return lambda: _page([])

    def _queue_names(self) -> list[str]:
        used = {job.document(self.now)["queue"] for job in self.jobs.values()}
        return sorted(used | {_task(name, it)["queue"] for name, it in self.functions.items()})

    def _queue(self, name: str) -> dict[str, Any]:
        documents = [job.document(self.now) for job in self.jobs.values()]
        states = [it["status"] for it in documents if it["queue"] == name]
        names = ("queued", "scheduled", "retrying", "running", "failed")
        return {
            "name": name,
            "paused": False,
            "counts": {state: states.count(state) for state in names},
            "oldest_age_ms": None,
            "finished_last_minute": states.count("succeeded"),
            "workers": 0,
            "parked": [],
        }

    def _find(self, token: str) -> Job:
        if token in self._deleted:
            raise Rejected(410, "gone", "the job was deleted")
        if token not in self.jobs:
            raise Rejected(404, "not-found", "there is no such job")
        return self.jobs[token]

    def _job(self, job: Job, status: int, **headers: str) -> Response:
        if not job.ended:
            headers["retry-after"] = "1"
        return Response(status, {"content-type": JSON, **headers}, to_json(job.document(self.now)))


_JOB: Final = r"/jobs/([^/]+)"
_ROUTES: Final[tuple[tuple[str, re.Pattern[str], Callable[..., Reply]], ...]] = (
    ("POST", re.compile(r"/tasks/([^/]+)/jobs"), Store.submit),
    ("POST", re.compile(r"/jobs/batch"), Store.submit_batch),
    ("GET", re.compile(r"/jobs"), Store.listing),
    ("GET", re.compile(_JOB), Store.read),
    ("DELETE", re.compile(_JOB), Store.delete),
    ("GET", re.compile(f"{_JOB}/result"), Store.result),
    ("GET", re.compile(f"{_JOB}/payload"), Store.payload),
    ("GET", re.compile(f"{_JOB}/attempts"), Store.attempts),
    ("GET", re.compile(f"{_JOB}/logs"), Store.logs),
    ("POST", re.compile(f"{_JOB}/cancel"), Store.cancel),
    ("POST", re.compile(f"{_JOB}/retry"), Store.retry),
    ("GET", re.compile(r"/errors"), Store.errors),
    ("GET", re.compile(r"/tasks"), Store.tasks),
    ("GET", re.compile(r"/tasks/([^/]+)"), Store.task),
    ("GET", re.compile(r"/queues"), Store.queues),
    ("GET", re.compile(r"/queues/([^/]+)"), Store.queue),
    ("GET", re.compile(r"/workers"), Store.workers),
)


def _is_of(document: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    """Whether a job is of the task and queue of a query, as far as it names them."""
    return all(document[name] == query.get(name, document[name]) for name in ("task", "queue"))


def _label(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_within(document: Mapping[str, Any], name: str, bound: str) -> bool:
    """Return whether a time of a job is within a bound, such as `created_after`."""
    member, _, side = name.rpartition("_")
    at = document[f"{member}_at"]
    if at is None:
        return False
    time, limit = (datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (at, bound))
    return time >= limit if side == "after" else time < limit


def _page(items: list[Any]) -> Response:
    return Response(200, {"content-type": JSON}, to_json({"items": items, "next_cursor": None}))


def _task(name: str, function: Function) -> dict[str, Any]:
    declared = fake_jobs.declared_by(function)
    return {
        "name": name,
        "queue": declared.get("queue", name),
        "description": declared.get("description", ""),
        "accepts": declared.get("accepts", [JSON]),
        "content_type": declared.get("content_type", JSON),
        "timeout_ms": declared.get("timeout_ms", 600_000),
        "max_attempts": declared.get("max_attempts", DEFAULT_ATTEMPTS),
        "priority": declared.get("priority", "normal"),
        "retention_ms": declared.get("retention_ms"),
        "start_within_ms": declared.get("start_within_ms"),
        "max_payload": declared.get("max_payload", 262_144),
        "max_result": declared.get("max_result"),
        "payload_schema": declared.get("payload_schema"),
        "result_schema": declared.get("result_schema"),
        "indexes": declared.get("indexes", []),
        "group": declared.get("group"),
        "unique": complete(declared["unique"]) if "unique" in declared else None,
        "workers": 1,
    }
