"""taskiq with its fastest broker, a list from which jobs are removed before they run; results in Redis."""

import asyncio
import os

from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

URL = os.environ["PEER_REDIS_URL"]
broker = ListQueueBroker(URL).with_result_backend(RedisAsyncResultBackend(URL))


@broker.task
async def noop(_payload: dict) -> dict:
    return {"ok": True}


def fill(count, payload):
    async def submit():
        await broker.startup()
        for _ in range(count):
            await noop.kiq(payload)
        await broker.shutdown()

    asyncio.run(submit())


def workers(processes):
    return ["taskiq", "worker", "with_taskiq:broker", "--workers", str(processes), "--log-level", "ERROR"]


# The id of a job, 32 hexadecimal digits.
RESULTS = "?" * 32
