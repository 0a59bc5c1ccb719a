"""A correct child of the worker, which `wrong.py` changes. It runs each job in a thread.

Its tasks are `a` and `b` (return their payload), `c` (fails with `on_purpose`), `d` (waits until it is canceled) and
`e` (prints its payload). It runs as many jobs at once as CRUNCH_CONCURRENCY says, by default one.
"""

import json
import os
import threading
import traceback

MAX_PAYLOAD = 1 << 20
MAX_RESULT = 1 << 20


class Failed(Exception):
    """The error of a job."""


class Job:
    """A job that runs."""

    def __init__(self, child, message, payload):
        self.child, self.message, self.payload = child, message, payload
        self.key = {"id": message["id"], "epoch": message["epoch"]}
        self.canceled = threading.Event()

    def send(self, type, body=None, **members):
        self.child.send({"type": type, **self.key, **members}, body)

    def done(self, result=b"null", **members):
        self.send("done", result, **members)

    def line(self, type, **members):
        """Returns a message about this job that is not sent."""
        return json.dumps({"type": type, **self.key, **members}).encode() + b"\n"


def echo(job):
    job.done(job.payload, content_type=job.message["content_type"])


def fail(job):
    raise Failed({"code": "on_purpose", "message": "this task always fails", "retryable": False})


def wait(job):
    while not job.canceled.wait(0.1):
        job.send("progress", progress=0.5, message="waiting to be canceled")
    raise Failed({"code": "canceled", "message": "stopped, because the job was canceled"})


def log(job):
    print(job.payload.decode(errors="replace"), flush=True)
    job.done()


def unknown(job):
    raise Failed({"code": "unknown_task", "message": "there is no such task", "retryable": False})


class Child:
    """Methods are looked up in the object for each call, so a fault can replace them."""

    def __init__(self, prefix=""):
        self.incoming = os.fdopen(int(os.environ["CRUNCH_IN_FD"]), "rb")
        self.outgoing = os.fdopen(int(os.environ["CRUNCH_OUT_FD"]), "wb")
        for pipe in self.incoming, self.outgoing:
            os.set_inheritable(pipe.fileno(), False)
        self.sending = threading.Lock()
        self.ending = threading.Lock()
        self.jobs = []
        self.draining = False
        self.max_result = MAX_RESULT
        self.concurrency = int(os.environ.get("CRUNCH_CONCURRENCY", 1))
        self.tasks = {prefix + name: task for name, task in zip("abcde", (echo, echo, fail, wait, log))}

    def write(self, data):
        with self.sending:
            self.outgoing.write(data)
            self.outgoing.flush()

    def send(self, message, body=None):
        if body is not None:
            message = {**message, "body": len(body)}
        self.write(json.dumps(message).encode() + b"\n" + (body or b""))

    def declaration(self):
        accepts = ["application/json", "application/octet-stream", "text/plain"]
        return [{"name": name, "accepts": accepts, "max_payload": MAX_PAYLOAD} for name in self.tasks]

    def hello(self):
        tasks = json.dumps(self.declaration()).encode()
        self.send({"type": "hello", "channel": 1, "concurrency": self.concurrency, "sdk": "wrong.py"}, tasks)

    def run(self):
        self.hello()
        self.read()
        os._exit(0)

    def read(self):
        """Reads messages until the input ends."""
        while (line := self.incoming.readline()).endswith(b"\n"):
            message = json.loads(line)
            size = message.get("body", 0)
            body = self.read_body(size)
            if len(body) < size:
                return
            receive = getattr(self, f"on_{message['type']}", None)
            if receive:
                receive(message, body)

    def read_body(self, size):
        return self.incoming.read(size)

    def on_hello(self, message, _):
        self.max_result = message["max_result"]

    def on_job(self, message, payload):
        job = Job(self, message, payload)
        with self.ending:
            self.jobs.append(job)
        threading.Thread(target=self.work, args=(job,), daemon=True).start()

    def on_cancel(self, message, _):
        for job in list(self.jobs):
            if job.key == {"id": message["id"], "epoch": message["epoch"]}:
                job.canceled.set()

    def on_ping(self, *_):
        self.send({"type": "pong"})

    def on_drain(self, *_):
        with self.ending:
            self.draining = True
            self.exit_if_drained()

    def work(self, job):
        try:
            self.answer(job)
        except BaseException:
            try:
                traceback.print_exc()
            finally:
                os._exit(1)
        with self.ending:
            self.jobs.remove(job)
            self.exit_if_drained()

    def answer(self, job):
        try:
            self.tasks.get(job.message["task"], unknown)(job)
        except Failed as error:
            job.send("failed", error=error.args[0])

    def exit_if_drained(self):
        if self.draining and not self.jobs:
            os._exit(0)
