"""A child whose tasks return what it got: `trace` (that of the job), `variables` (the names of all) and `payload`.

The result of `payload` must be a whole number. While the folder CRUNCH_TEST_FOLDER has a file
`is-broken`, `machine` reports that this machine cannot run it; then it returns the number of the attempt.
"""

import json
import os

from correct import Child, Failed, echo


def machine(job):
    path = os.path.join(os.environ["CRUNCH_TEST_FOLDER"], "is-broken")
    if os.path.exists(path):
        raise Failed({"message": "there is no device", "machine": True, "code": "ignored", "retryable": False})
    job.done(str(job.message["attempt"]).encode())


def later(job):
    """Puts its job off once, and then fails once with a time for the next attempt."""
    path = os.path.join(os.environ["CRUNCH_TEST_FOLDER"], "times")
    times = os.path.getsize(path) if os.path.exists(path) else 0
    with open(path, "a") as file:
        file.write("x")
    if times == 0:
        raise Failed({"snooze_ms": 200, "message": "ignored"})
    if times == 1:
        raise Failed({"message": "busy", "after_ms": 0})
    job.done(str(job.message["attempt"]).encode())


class Reports(Child):
    def __init__(self):
        super().__init__()
        trace = lambda job: job.done(json.dumps(job.message.get("trace")).encode())
        variables = lambda job: job.done(json.dumps(sorted(os.environ)).encode())
        self.tasks = {"trace": trace, "variables": variables, "payload": echo, "machine": machine, "later": later}

    def declaration(self):
        schemas = {"payload": {"result_schema": {"type": "integer"}}}
        return [{"name": name, **schemas.get(name, {})} for name in self.tasks]


if __name__ == "__main__":
    Reports().run()
