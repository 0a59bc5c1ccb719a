"""dramatiq with its default of eight threads a process; results in Redis."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

URL = os.environ["PEER_REDIS_URL"]
broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL), store_results=True))
dramatiq.set_broker(broker)


@dramatiq.actor
def noop(_payload):
    return {"ok": True}


def fill(count, payload):
    for _ in range(count):
        noop.send(payload)


def workers(processes):
    return ["dramatiq", "with_dramatiq", "--processes", str(processes), "--skip-logging"]


# A digest of 32 hexadecimal digits.
RESULTS = "?" * 32
