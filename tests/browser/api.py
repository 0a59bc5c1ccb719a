"""Calls of the API, for what a script prepares, and for what it checks."""

import json
import os
import time
import urllib.error
import urllib.request

from stage import TIMEOUT_S, URL

KEY = os.environ.get("CRUNCH_KEY")


def call(method, path, body=None, content_type="application/json"):
    """Returns status and body of an answer."""
    headers = {"Content-Type": content_type}
    if KEY:
        headers["Authorization"] = f"Bearer {KEY}"
    request = urllib.request.Request(URL + path, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def get(path):
    """Returns a document; its numbers are texts, with all digits."""
    status, body = call("GET", path)
    if status != 200:
        raise SystemExit(f"{path}: {status} {body.decode()}")
    return json.loads(body, parse_int=str, parse_float=str)


def submit(task, payload, **options):
    """Submits a job, and returns its id."""
    body = json.dumps({"task": task, "payload": payload, **options}).encode()
    status, answer = call("POST", "/jobs", body)
    if status != 202:
        raise SystemExit(f"{task}: {status} {answer.decode()}")
    return json.loads(answer)["id"]


def submit_lines(jobs):
    """Submits many jobs as one body of lines."""
    lines = "\n".join(json.dumps(job) for job in jobs).encode()
    status, answer = call("POST", "/jobs/batch", lines, "application/x-ndjson")
    accepted = json.loads(answer).get("accepted")
    if status not in (200, 202) or accepted != len(jobs):
        raise SystemExit(f"{len(jobs)} jobs: {status} {answer.decode()[:500]}")


def wait_for(what, condition, limit_s=TIMEOUT_S):
    """Waits until a condition has a value that counts as true, and returns it."""
    end = time.monotonic() + limit_s
    while not (value := condition()):
        if time.monotonic() > end:
            raise SystemExit(f"not in {limit_s} s: {what}")
        time.sleep(0.05)
    return value


def wait_for_status(job, status):
    """Waits until a job has this status."""
    wait_for(f"{job} is {status}", lambda: get(f"/jobs/{job}")["status"] == status)
