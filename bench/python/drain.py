"""Measures how fast another task system for Python empties a queue of jobs that do nothing.

    PEER_REDIS_URL=redis://127.0.0.1:6379 python drain.py celery --jobs 6000 --processes 4

Prints jobs a second. The Redis must be empty, and of no other use. The first tenth of the jobs is not counted: the
processes start meanwhile.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from redis import Redis

PEERS = ("celery", "dramatiq", "rq", "taskiq")
INTERVAL_S = 0.1
DEADLINE_S = 300


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--processes", type=int, required=True)
    parser.add_argument("--payload", type=int, default=100, help="bytes of JSON")
    options = parser.parse_args()
    peer = importlib.import_module(f"with_{options.peer}")
    redis = Redis.from_url(os.environ["PEER_REDIS_URL"])
    payload = {"pad": "x" * (options.payload - len(json.dumps({"pad": ""})))}
    peer.fill(options.jobs, payload)
    program, *arguments = peer.workers(options.processes)
    command = [Path(sys.executable).with_name(program), *arguments]
    workers = subprocess.Popen(command, cwd=Path(__file__).parent, stdout=sys.stderr)
    try:
        print(round(rate(options.jobs, lambda: count(redis, peer.RESULTS), workers), 1))
    finally:
        workers.terminate()
        try:
            workers.wait(30)
        except subprocess.TimeoutExpired:
            workers.kill()
            workers.wait()


def count(redis, pattern):
    # Takes Redis a few milliseconds, so it is done seldom.
    return sum(1 for _ in redis.scan_iter(pattern, count=10_000))


def rate(jobs, ended, workers):
    """Returns jobs a second, from the first tenth to the last job."""
    deadline = time.monotonic() + DEADLINE_S
    first = None
    while True:
        results, now = ended(), time.monotonic()
        if first is None and results >= jobs / 10:
            first = results, now
        if results >= jobs:
            return (results - first[0]) / (now - first[1])
        if workers.poll() is not None or now > deadline:
            sys.exit(f"the workers ended with {workers.poll()}" if now <= deadline else f"only {results} jobs ended")
        time.sleep(INTERVAL_S)


if __name__ == "__main__":
    main()
