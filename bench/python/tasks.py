"""The tasks that `crunch-bench children` measures."""

import time
from typing import Any

import numpy

import crunch


@crunch.task
def noop(_payload: Any) -> Any:
    return {"ok": True}


@crunch.task
def now(_payload: Any) -> int:
    """Microseconds since the Unix epoch."""
    return time.time_ns() // 1000


@crunch.task(max_payload=64 << 20, max_result=64 << 20)
def array(data: bytes) -> bytes:
    return (numpy.frombuffer(data, numpy.float64) + 1).tobytes()
