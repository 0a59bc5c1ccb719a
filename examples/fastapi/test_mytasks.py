"""Tests of the task without a worker. They need NumPy, as the worker does."""

import crunch.testing
import pytest

pytest.importorskip("numpy")

from mytasks import Sampling, area  # noqa: E402


def test_the_area_is_about_one_and_a_half():
    report = crunch.testing.run(area, Sampling(points=200_000, iterations=100, seed=1))
    assert report.status == "succeeded"
    assert abs(report.result["area"] - 1.52) < 4 * report.result["standard_error"]
    assert report.progress[-1].fraction == 1


def test_the_same_seed_has_the_same_result():
    first, again = (crunch.testing.run(area, Sampling(points=1000, seed=2)) for _ in range(2))
    assert first.result == again.result


def test_points_are_limited():
    report = crunch.testing.run(area, payload=b'{"points": 0}')
    assert report.status == "rejected"
    assert "/points" in report.error.message


def test_a_canceled_job_stops():
    report = crunch.testing.run(area, Sampling(points=100_000_000), cancel_after=0.01)
    assert report.status == "canceled"
