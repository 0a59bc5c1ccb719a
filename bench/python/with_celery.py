"""Celery with its prefork pool; results in Redis, everything that does not carry jobs switched off."""

import os

from celery import Celery

URL = os.environ["PEER_REDIS_URL"]
app = Celery("with_celery", broker=URL, backend=URL)


@app.task
def noop(_payload):
    return {"ok": True}


def fill(count, payload):
    for _ in range(count):
        noop.apply_async((payload,))


def workers(processes):
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR"]
    return ["celery", "--app", "with_celery", "worker", "--pool", "prefork", "--concurrency", str(processes), *quiet]


RESULTS = "celery-task-meta-*"
