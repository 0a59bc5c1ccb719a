"""Constraints on requests that a schema cannot express; each change of a case has its reason.

Changes only values that are valid on their own: invalid values stay invalid, and the API must reject them.
"""

import itertools
import re

import schemathesis

NUMBERS = itertools.count()
TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]")
# The Redis of this run provides none of these: the API correctly returns 503.
DURABILITIES = ("fsync", "replica", "fsync,replica")

PAGED = ("/jobs", "/jobs/actions", "/jobs/{id}/logs", "/errors", "/actions", "/queues", "/queues/{queue}/groups", "/schedules",
         "/workers", "/tasks")
STATUSES = ("scheduled", "queued", "running", "retrying", "succeeded", "failed", "canceled")
# A status to which each action applies.
APPLIES_TO = {"cancel": "queued", "retry": "failed", "delete": "failed"}


@schemathesis.hook
def before_call(context, case, kwargs):
    options = case.query if isinstance(case.query, dict) else {}
    adjust_options(options)
    if isinstance(case.body, dict):
        jobs = case.body.get("jobs", [case.body])
        for job in jobs if isinstance(jobs, list) else []:
            if isinstance(job, dict) and "task" in job:
                adjust_options(job)
        # A limit must limit something.
        if case.operation.path == "/queues/{queue}/limit" and not any(case.body.values()):
            case.body["concurrency"] = 1
        if case.operation.path.startswith("/schedules/"):
            adjust_schedule(case.body)
    # A response that waits takes time.
    if re.fullmatch(r"[0-9]+", str(options.get("wait", ""))):
        options["wait"] = "0"
    # A valid cursor comes only from an earlier page.
    if case.operation.path in PAGED:
        options.pop("cursor", None)
    # An action must apply to the status; a status may be left out only where there is an error.
    action = options.get("action")
    if isinstance(action, str) and action in APPLIES_TO:
        status = options.setdefault("status", "failed")
        if isinstance(status, str) and status in STATUSES:
            options["status"] = APPLIES_TO[action]
    # An action by filter gets the members of an action that was logged, which it does not have.
    if case.operation.path == "/jobs/actions":
        for member in ("at", "key", "address", "group", "job", "worker", "filter", "count"):
            options.pop(member, None)
    # At most 360 steps are between two times.
    if case.operation.path == "/history":
        for bound in ("from", "to"):
            if TIME.match(str(options.get(bound, ""))):
                del options[bound]
    # Times before 1970 are rejected.
    for bound in ("created_after", "created_before", "finished_after", "finished_before", "from", "to"):
        if TIME.match(str(options.get(bound, ""))):
            options[bound] = "2000" + options[bound][4:]
    # How to search is only for lists with a label; and an index has no long values.
    label = options.get("metadata.{name}")
    if isinstance(label, str):
        options["metadata.{name}"] = label.encode()[:64].decode(errors="ignore")
    else:
        options.pop("search", None)
    # A client must not reuse a key for a different request: that is rejected.
    key = (case.headers or {}).get("Idempotency-Key")
    if key and (valid := re.fullmatch(r'"([!-~]{1,255})"|([!#-~](?:[!-~]{0,253}[!#-~])?)', key)):
        unique = f"{(valid[1] or valid[2])[:200]}{next(NUMBERS)}"
        case.headers["Idempotency-Key"] = f'"{unique}"' if valid[1] else unique


def adjust_schedule(body):
    """Adjusts a schedule, or the period of a backfill."""
    # Lines of cron, time zones and times have grammars that a schema cannot express.
    if isinstance(body.get("cron"), str):
        body["cron"] = "* * * * *"
    if isinstance(body.get("time_zone"), str):
        body["time_zone"] = "UTC"
    for bound in ("start_at", "end_at", "to"):
        if isinstance(body.get(bound), str):
            del body[bound]
    # There may be a thousand ticks between two times.
    if isinstance(body.get("from"), str):
        body["from"], body["to"] = "2000-01-01T00:00:00Z", "2000-01-01T00:01:00Z"
    # One of the two says when the ticks are, and a time zone is only for cron.
    if "task" in body and isinstance(body.get("cron"), str):
        body.pop("every_ms", None)
    elif "task" in body:
        if body.get("every_ms") is None:
            body["every_ms"] = 1000
        body.pop("time_zone", None)
    # These are only for `all`.
    if body.get("missed") in (None, "skip", "once"):
        body.pop("missed_at_most", None)
        body.pop("missed_within_ms", None)
    # The task must be declared, and the payload fit.
    if re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,63}", str(body.get("task", ""))):
        body["task"], body["payload"] = "crunch", {}
    if isinstance(body.get("job"), dict):
        adjust_options(body["job"])
        # The API of this run has no secret to sign webhooks with.
        body["job"].pop("webhook", None)
        # The names of labels have 1 to 64 bytes.
        body["job"].pop("metadata", None)


def adjust_options(options):
    """Adjusts the options of a submission, in a query or a body."""
    if options.get("durability") in DURABILITIES:
        options["durability"] = "memory"
    # A time must be within a year, and is an alternative to a delay: only one of them may be set.
    if TIME.match(str(options.get("run_at", ""))):
        del options["run_at"]
    # It must be unique, and equal to the header if both are set.
    if isinstance(options.get("idempotency_key"), str):
        del options["idempotency_key"]
    if isinstance(options.get("unique"), dict):
        adjust_unique(options["unique"])
    # The name of a group has at most 128 bytes; a schema can only limit its characters.
    group = options.get("group")
    if isinstance(group, str) and len(group) <= 128:
        options["group"] = group.encode()[:128].decode(errors="ignore")
    # Clients cannot submit to the queue of webhook deliveries.
    if options.get("queue") == "crunch.webhooks":
        del options["queue"]


def adjust_unique(unique):
    """Adjusts what a job is unique by."""
    # Another job may hold the lock; and what is done then excludes some ways to hold it.
    if unique.get("on_conflict") in ("reject", "replace", "keep_latest"):
        unique["on_conflict"] = "existing"
    if isinstance(unique.get("max_wait_ms"), int):
        del unique["max_wait_ms"]
    if unique.get("until") in ("start", "end") and isinstance(unique.get("for_ms"), int):
        del unique["for_ms"]
    # Places are JSON Pointers, and an alternative to a key. A key has at most 255 bytes.
    fields, key = unique.get("fields"), unique.get("key")
    if isinstance(key, str) and len(key) <= 255:
        unique["key"] = key.encode()[:255].decode(errors="ignore")
    if isinstance(fields, list) and all(isinstance(field, str) for field in fields):
        del unique["fields"]
    # A payload may have numbers that not all programs read as the same.
    if key is None and not unique.get("fields"):
        unique["key"] = "k"
