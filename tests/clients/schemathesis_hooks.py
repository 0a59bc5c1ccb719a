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

PAGED = ("/jobs", "/jobs/actions", "/jobs/{id}/logs", "/errors", "/actions", "/queues", "/workers", "/tasks")
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
        for member in ("at", "key", "address", "job", "worker", "filter", "count"):
            options.pop(member, None)
    # At most 360 steps are between two times.
    if case.operation.path == "/history":
        for bound in ("from", "to"):
            if TIME.match(str(options.get(bound, ""))):
                del options[bound]
    # Times before 1970 are rejected.
    for bound in ("created_after", "created_before", "finished_after", "finished_before"):
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
    # Clients cannot submit to the queue of webhook deliveries.
    if options.get("queue") == "crunch.webhooks":
        del options["queue"]
