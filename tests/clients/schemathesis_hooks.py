"""What a schema cannot say of a request, said to schemathesis; every change to a case has its reason.

Only what would be valid by itself is changed: what is wrong stays wrong, and must be refused.
"""

import itertools
import re

import schemathesis

NUMBERS = itertools.count()
TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]")
# By the Redis of this run: any other is refused with 503, rightly.
DURABILITIES = ("fsync", "replica", "fsync,replica")


@schemathesis.hook
def before_call(context, case, kwargs):
    options = case.query if isinstance(case.query, dict) else {}
    settle(options)
    if isinstance(case.body, dict):
        jobs = case.body.get("jobs", [case.body])
        for job in jobs if isinstance(jobs, list) else []:
            if isinstance(job, dict) and "task" in job:
                settle(job)
    # A held answer costs its time.
    if re.fullmatch(r"[0-9]+", str(options.get("wait", ""))):
        options["wait"] = "0"
    # A cursor is what a page before gave, or nothing.
    if case.operation.path in ("/jobs", "/jobs/{id}/logs", "/queues", "/workers", "/tasks"):
        options.pop("cursor", None)
    # Before 1970 there was no time, and no job.
    for bound in ("created_after", "created_before"):
        if TIME.match(str(options.get(bound, ""))):
            options[bound] = "2000" + options[bound][4:]
    # Who uses one key for two requests is refused: to use it for one is up to the client.
    key = (case.headers or {}).get("Idempotency-Key")
    if key and (valid := re.fullmatch(r'"([!-~]{1,255})"|([!#-~](?:[!-~]{0,253}[!#-~])?)', key)):
        used_once = f"{(valid[1] or valid[2])[:200]}{next(NUMBERS)}"
        case.headers["Idempotency-Key"] = f'"{used_once}"' if valid[1] else used_once


def settle(options):
    """Options of a submission, in a query or a body."""
    if options.get("durability") in DURABILITIES:
        options["durability"] = "memory"
    # A time must be within a year, and stands for a delay: only one of both may be there.
    if TIME.match(str(options.get("run_at", ""))):
        del options["run_at"]
    # It must be that of the header, if both are there, and used once.
    if isinstance(options.get("idempotency_key"), str):
        del options["idempotency_key"]
    # Nothing can be submitted to the queue of deliveries.
    if options.get("queue") == "crunch.webhooks":
        del options["queue"]
