"""RQ with a worker for each process, which forks for each job as it always does; results in Redis."""

import os

from redis import Redis
from rq import Queue

URL = os.environ["PEER_REDIS_URL"]


def noop(_payload):
    return {"ok": True}


def fill(count, payload):
    queue = Queue(connection=Redis.from_url(URL))
    for _ in range(count):
        queue.enqueue("with_rq.noop", payload)


def workers(processes):
    return ["rq", "worker-pool", "--num-workers", str(processes), "--url", URL, "--logging-level", "ERROR"]


RESULTS = "rq:results:*"
