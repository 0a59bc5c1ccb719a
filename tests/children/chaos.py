"""A child of the chaos run: does with each job what the handler in `tests/src/chaos/orders.rs` does.

It records the start and the end of each run in the ledger that CRUNCH_TEST_LEDGER names, as the worker that it belongs
to. Two signals make it wrong: after SIGUSR1 it exits during its next job; after SIGUSR2 it answers every job three
times, first for an older epoch.
"""

import json
import os
import signal
import time

from correct import Child, Failed

# A larger result is passed by file, as the worker passes a larger payload.
BY_FILE_ABOVE = 1 << 20


def worker():
    """Returns the id of the worker: the parent of the launcher, which is the parent of this process."""
    with open(f"/proc/{os.getppid()}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[1])


class Chaos(Child):
    def __init__(self):
        super().__init__()
        self.tasks = {"chaos.server": self.work_for}
        self.worker = worker()
        self.ledger = os.open(os.environ["CRUNCH_TEST_LEDGER"], os.O_WRONLY | os.O_APPEND)
        self.exits = self.repeats = False
        signal.signal(signal.SIGUSR1, lambda *_: setattr(self, "exits", True))
        signal.signal(signal.SIGUSR2, lambda *_: setattr(self, "repeats", True))

    def hello(self):
        # Without a body: the file lists its task.
        self.send({"type": "hello", "channel": 1, "concurrency": self.concurrency, "features": ["file"]})

    def on_job(self, message, payload):
        if "file" in message:
            with open(message["file"], "rb") as file:
                payload = file.read()
        super().on_job(message, payload)

    def record(self, moment, job):
        line = f"{moment} {job.key['id']} {job.key['epoch']} {self.worker} {time.time_ns() // 1_000_000} child\n"
        os.write(self.ledger, line.encode())

    def work_for(self, job):
        order = json.loads(job.payload)
        self.record("start", job)
        if self.exits:
            os._exit(1)
        if order["busy_ms"] and job.canceled.wait(order["busy_ms"] / 1000):
            raise Failed({"message": "asked to stop"})
        if order["snoozes"] and job.key["epoch"] % 3 == 0:
            raise Failed({"snooze_ms": 100})
        if job.message["attempt"] <= order["fails"]:
            raise Failed({"message": "fails as ordered"})
        self.record("end", job)
        self.succeed(job, result(order, job))

    def succeed(self, job, value):
        if self.repeats:
            job.done(b'"the answer of an older epoch"', epoch=job.key["epoch"] - 1)
        if len(value) > BY_FILE_ABOVE:
            path = os.path.join(os.environ["CRUNCH_DIR"], f"{job.key['id']}.{job.key['epoch']}")
            with open(path, "wb") as file:
                file.write(value)
            job.send("done", file=path)
        else:
            job.done(value)
        if self.repeats:
            job.done(b'"the second answer"')


def result(order, job):
    value = {"number": order["number"], "epoch": job.key["epoch"]}
    if received := len(order.get("padding", "")):
        value["received"] = received
    if order["returns"]:
        value["padding"] = "x" * order["returns"]
    return json.dumps(value).encode()


if __name__ == "__main__":
    Chaos().run()
