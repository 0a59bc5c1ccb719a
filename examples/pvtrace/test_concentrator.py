"""Tests of the task alone: no Redis, no API, no worker."""

import ast
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import crunch.testing
import numpy as np
import pytest
from pvtrace import Event, Ray, photon_tracer
from pvtrace.common.errors import GeometryError

import pvtrace_scene
from concentrator import Slab, trace
from golden import GOLDEN, RAYS

HERE = Path(__file__).parent


def counts(**slab):
    """Runs the task and returns its result."""
    return crunch.testing.run(trace, Slab(**slab)).result


# The other seeds are those of the batch in test_stack.py.
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_seed_has_its_golden_counts(seed):
    assert counts(rays=RAYS, seed=seed) == GOLDEN[seed]


def test_nothing_of_an_earlier_job_changes_the_counts():
    counts(rays=7, seed=5, size_cm=(2, 3, 0.5), dye_absorption_per_cm=0)
    canceled = crunch.testing.run(trace, Slab(), cancel_after=0.2)
    assert canceled.status == "canceled"
    np.random.seed(99)
    assert counts(rays=RAYS, seed=1) == GOLDEN[1]


def test_another_process_has_the_same_counts():
    program = (
        "import crunch.testing, concentrator\n"
        f"print(crunch.testing.run(concentrator.trace, concentrator.Slab(rays={RAYS}, seed=2)).result)"
    )
    # Hashes of strings, and so the order of sets, differ between processes. Here they surely do.
    env = {**os.environ, "PYTHONHASHSEED": "1"}
    ran = subprocess.run([sys.executable, "-c", program], cwd=HERE, env=env, capture_output=True, text=True, check=True)
    assert ast.literal_eval(ran.stdout) == GOLDEN[2]


def test_a_canceled_job_stops():
    report = crunch.testing.run(trace, Slab(rays=2000), cancel_after=0.2)
    assert report.status == "canceled"
    assert all(progress.fraction < 1 for progress in report.progress)


def test_a_canceled_job_traces_no_other_ray(monkeypatch):
    calls = break_rays(monkeypatch, set())
    assert crunch.testing.run(trace, Slab(), cancel_after=0).status == "canceled"
    assert len(calls) == 1


def test_progress_is_reported_every_ten_rays():
    report = crunch.testing.run(trace, Slab(rays=25))
    assert [progress.message for progress in report.progress] == ["10 of 25 rays", "20 of 25 rays", "25 of 25 rays"]
    assert [progress.fraction for progress in report.progress] == [0.4, 0.8, 1.0]
    assert report.logs == []


@pytest.mark.parametrize(
    ("payload", "pointer"),
    [
        ({"rays": 2001}, "/rays"),
        ({"rays": 0}, "/rays"),
        ({"seed": 2**32}, "/seed"),
        ({"size_cm": [5, 5, 0]}, "/size_cm/2"),
        ({"size_cm": [5, 5]}, "/size_cm"),
        ({"refractive_index": 0.9}, "/refractive_index"),
        ({"wavelength_nm": 300}, "/wavelength_nm"),
        ({"photons": 5}, "/photons"),
    ],
)
def test_a_payload_outside_the_limits_is_rejected(payload, pointer):
    report = crunch.testing.run(trace, payload=json.dumps(payload).encode())
    assert report.status == "rejected"
    assert report.error.message.startswith(f"{pointer}: ")


@pytest.mark.parametrize(
    "slab",
    [
        {"refractive_index": 1},
        {"refractive_index": 3},
        {"wavelength_nm": 350},
        {"wavelength_nm": 850},
        {"dye_absorption_per_cm": 0},
        {"dye_absorption_per_cm": 1000},
        {"size_cm": (0.05, 0.05, 0.05)},
        {"size_cm": (0.05, 0.05, 100)},
        {"size_cm": (100, 100, 0.05)},
        {"size_cm": (100, 100, 100)},
    ],
)
def test_every_ray_is_traced_at_the_limits_of_the_payload(slab):
    found = counts(rays=20, **slab)
    assert sum(found.values()) == 20
    assert found["untraced"] == found["missed"] == 0


def test_without_a_dye_no_light_reaches_the_edges():
    found = counts(rays=200, dye_absorption_per_cm=0)
    assert {fate for fate, count in found.items() if count} <= {"top", "bottom", "absorbed", "reflected"}
    # Of light that falls vertically on glass, 4 % are reflected.
    assert 0 < found["reflected"] < 25


def test_the_dye_sends_light_to_all_edges():
    found = counts(rays=200)
    assert all(found[edge] > 5 for edge in pvtrace_scene.EDGES)


def test_a_ray_that_never_leaves_is_killed(monkeypatch):
    monkeypatch.setattr(pvtrace_scene, "MAX_STEPS", 1)
    found = counts(rays=20)
    assert found["killed"] > 10


def test_a_ray_that_cannot_be_traced_is_counted_and_logged(monkeypatch):
    break_rays(monkeypatch, {3})
    report = crunch.testing.run(trace, Slab(rays=100))
    assert report.result["untraced"] == 1
    assert sum(report.result.values()) == 100
    [line] = report.logs
    assert line == "WARNING pvtrace_scene: ray 3 cannot be traced: GeometryError: Point is on multiple surfaces."


def test_a_job_fails_for_good_if_many_rays_cannot_be_traced(monkeypatch):
    break_rays(monkeypatch, {3, 6})
    report = crunch.testing.run(trace, Slab(rays=100))
    assert report.status == "failed"
    assert report.error.code == "untraceable"
    assert "2 of 6 rays" in report.error.message


def break_rays(monkeypatch, numbers):
    """Lets pvtrace raise an exception for the rays with these numbers; returns a list of its calls."""
    follow, calls = photon_tracer.follow, []

    def broken(*arguments, **options):
        calls.append(1)
        if len(calls) in numbers:
            raise GeometryError("Point is on multiple surfaces.")
        return follow(*arguments, **options)

    monkeypatch.setattr(photon_tracer, "follow", broken)
    return calls


def history(*steps):
    """Makes the history of a ray from events, each with a position or at the center."""
    steps = [step if isinstance(step, tuple) else (step, (0, 0, 0)) for step in steps]
    return [(Ray(position, (0, 0, -1), 555.0), event) for event, position in steps]


@pytest.mark.parametrize(
    ("position", "face"),
    [
        ((-2, 0.9, 0.4), "left"),
        ((2, -0.9, -0.4), "right"),
        ((1.9, -1, 0), "near"),
        ((-1.9, 1, 0), "far"),
        ((1.9, 0.9, -0.5), "bottom"),
        ((-1.9, 0.9, 0.5), "top"),
        # A face is met up to a rounding error.
        ((1.9999999999999996, 0, 0), "right"),
        ((2.0000000000000004, 0.9999999, 0), "right"),
    ],
)
def test_a_ray_that_leaves_is_counted_at_its_face(position, face):
    left = history(Event.GENERATE, Event.TRANSMIT, Event.EMIT, (Event.TRANSMIT, position), (Event.EXIT, (9, 9, 9)))
    assert pvtrace_scene.classify(left, (4, 2, 1)) == face


@pytest.mark.parametrize(
    ("events", "fate"),
    [
        ([Event.GENERATE, Event.EXIT], "missed"),
        ([Event.GENERATE, Event.REFLECT, Event.EXIT], "reflected"),
        ([Event.GENERATE, Event.TRANSMIT, Event.ABSORB], "absorbed"),
        ([Event.GENERATE, Event.TRANSMIT, Event.REFLECT, Event.KILL], "killed"),
    ],
)
def test_a_ray_that_does_not_leave_is_counted_by_its_events(events, fate):
    assert pvtrace_scene.classify(history(*events), (4, 2, 1)) == fate


def test_the_import_leaves_no_trace():
    """Neither output, nor a changed root logger, nor empty modules in place of others."""
    program = (
        "import logging, sys\n"
        "import concentrator\n"
        "assert logging.getLogger().level == logging.WARNING, logging.getLogger().level\n"
        "assert logging.getLogger().handlers == [], logging.getLogger().handlers\n"
        "left = {'pandas', 'meshcat', 'embreex', 'IPython'} & {name.partition('.')[0] for name in sys.modules}\n"
        "assert not left, left\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=HERE, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_packages_that_are_not_wanted_may_be_installed(tmp_path):
    for name in ("pandas", "meshcat"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('imported')")
    embree = tmp_path / "embreex"
    embree.mkdir()
    # What trimesh imports of it.
    for name, text in (("__init__", ""), ("rtcore_scene", ""), ("mesh_construction", "TriangleMesh = object")):
        (embree / f"{name}.py").write_text(text)
    program = "import concentrator, trimesh, embreex\nassert not trimesh.ray.has_embree"
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], cwd=HERE, env=env, check=True)


def test_logging_that_was_set_up_before_is_kept():
    program = (
        "import logging, sys\n"
        "logging.basicConfig(level=logging.ERROR, stream=sys.stdout)\n"
        "before = logging.getLogger().handlers[:]\n"
        "import concentrator\n"
        "assert logging.getLogger().handlers == before\n"
        "assert logging.getLogger().level == logging.ERROR\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=HERE, check=True)


def test_every_fate_is_in_the_result():
    assert tuple(counts(rays=1)) == pvtrace_scene.FATES


def test_golden_counts_are_complete():
    assert all(sum(GOLDEN[seed].values()) == RAYS for seed in GOLDEN)
    assert Counter(map(tuple, GOLDEN.values())) == {pvtrace_scene.FATES: len(GOLDEN)}
