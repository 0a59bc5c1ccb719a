"""The tasks. Only the worker's processes import this, and NumPy with it."""

from dataclasses import dataclass
from typing import Annotated

import crunch
import numpy as np

POINTS_AT_ONCE = 20_000
"""Points that are followed together: some milliseconds of work between two reports of progress."""


@dataclass
class Sampling:
    points: Annotated[int, crunch.Range(1, 100_000_000)] = 1_000_000
    iterations: Annotated[int, crunch.Range(1, 100_000)] = 200
    seed: Annotated[int, crunch.Range(0)] = 0


@dataclass
class Area:
    area: float
    standard_error: float


@crunch.task("mandelbrot.area", timeout="10m", max_attempts=2)
def area(sampling: Sampling, job: crunch.Job) -> Area:
    """Estimates the area of the Mandelbrot set: the share of random points that stay bounded."""
    random = np.random.default_rng(sampling.seed)
    inside = done = 0
    while done < sampling.points:
        count = min(POINTS_AT_ONCE, sampling.points - done)
        inside += bounded(random, count, sampling.iterations)
        done += count
        job.progress(done / sampling.points, f"{done} points")
    share = inside / sampling.points
    whole = 4.0 * 4.0  # Real and imaginary parts are from -2 to 2.
    error = whole * (share * (1 - share) / sampling.points) ** 0.5
    return Area(whole * share, error)


def bounded(random: np.random.Generator, count: int, iterations: int) -> int:
    """Returns how many of some random points are still near the origin after the iterations."""
    c = random.uniform(-2, 2, count) + 1j * random.uniform(-2, 2, count)
    z = np.zeros_like(c)
    for _ in range(iterations):
        z = z * z + c
        near = np.abs(z) <= 2
        z, c = z[near], c[near]
    return len(z)
