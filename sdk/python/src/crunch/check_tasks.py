"""The tasks that `crunch-worker check-channel -- python3 -m crunch crunch.check_tasks` needs."""

from __future__ import annotations

import time

import crunch


@crunch.task(accepts=["application/json"], content_type="application/json")
def echo(payload: bytes) -> bytes:
    """Returns its payload unchanged."""
    return payload


@crunch.task(accepts=["application/json"])
def fail(payload: bytes) -> None:
    """Fails with the code `on_purpose`, for good."""
    raise crunch.Fail("on_purpose", f"asked to fail by {len(payload)} bytes")


@crunch.task(accepts=["application/json"])
def wait(payload: bytes, job: crunch.Job) -> None:
    """Reports progress, and runs until it is canceled."""
    begun = time.monotonic()
    while True:
        passed = time.monotonic() - begun
        # Never complete: half after a second, two thirds after two.
        job.progress(passed / (1 + passed), f"{passed:.1f} s, {len(payload)} bytes")
        time.sleep(0.01)


@crunch.task(accepts=["application/json"])
def log(payload: bytes) -> None:
    """Prints its payload."""
    print(payload.decode())
