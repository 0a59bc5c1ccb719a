"""Tests with a Redis, the API and a worker, whose binaries are in the folder CRUNCH_BIN: `./check` sets it."""

import json
import os
import select
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path

import crunch
import pytest
from crunch.errors import JobCanceled, PayloadInvalid

from golden import GOLDEN, RAYS
from stack import Stack

HERE = Path(__file__).parent

WAIT_S = 60
"""How long anything may take before a test fails: much longer than it does on a busy machine."""

pytestmark = pytest.mark.skipif("CRUNCH_BIN" not in os.environ, reason="CRUNCH_BIN is not set: run ./check")


@pytest.fixture(scope="module")
def stack():
    with Stack(os.environ["CRUNCH_BIN"]) as stack:
        yield stack


@pytest.fixture
def client(stack):
    with crunch.Client(stack.url) as client:
        yield client


def start(client, **slab):
    """Submits a job and returns it once a process traces its rays."""
    job = client.submit("crunch", slab)
    next(event for event in job.events(timeout=WAIT_S) if event.progress)
    return job


def maps(pid):
    """Returns the files that a process has mapped, among them its libraries."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line.split(maxsplit=5)[5] for line in lines if len(line.split(maxsplit=5)) == 6}


def tracers(pid):
    """Returns the ids of the processes below this one that have NumPy loaded."""
    found, unvisited = set(), [pid]
    while unvisited:
        pid = unvisited.pop()
        lists = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children")]
        children = [int(child) for child in " ".join(lists).split()]
        unvisited += children
        found |= {child for child in children if any("numpy" in path for path in maps(child))}
    return found


def test_post_crunch_traces_rays(stack, client):
    """The path of the API's users: POST /crunch, then GET /result/{token}."""
    request = urllib.request.Request(
        f"{stack.url}/crunch", json.dumps({"rays": RAYS}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=WAIT_S) as response:
        assert response.status == 202
        token = json.load(response)["token"]
    with urllib.request.urlopen(f"{stack.url}/result/{token}?wait=30", timeout=WAIT_S) as response:
        job = json.load(response)
    assert (job["status"], job["queue"], job["result"]) == ("succeeded", "optics", GOLDEN[0])
    assert job["progress_message"] == f"{RAYS} of {RAYS} rays"


def test_the_api_maps_no_python_while_a_job_runs(stack, client):
    job = start(client, rays=2000)
    assert tracers(stack.pid("worker")), "no process of the worker has NumPy loaded"
    foreign = [path for path in maps(stack.pid("api")) if "python" in path.lower() or "numpy" in path.lower()]
    assert foreign == []
    assert job.refresh().document.status == "running"
    job.cancel()


def test_a_canceled_job_ends_and_its_process_stays(stack, client):
    """A process that has not stopped its job three seconds after the cancel is killed, and another one is started."""
    before = tracers(stack.pid("worker"))
    job = start(client, rays=2000)
    job.cancel()
    with pytest.raises(JobCanceled):
        job.result(timeout=WAIT_S)
    assert client.submit("crunch", {"rays": RAYS, "seed": 1}).result(timeout=WAIT_S) == GOLDEN[1]
    assert tracers(stack.pid("worker")) == before


def test_the_batch_has_the_sum_of_the_golden_counts(stack):
    command = [sys.executable, str(HERE / "sum.py"), "--seeds", str(len(GOLDEN)), "--rays", str(RAYS)]
    env = {**os.environ, "CRUNCH_URL": stack.url}
    output = subprocess.run(command, env=env, capture_output=True, text=True, timeout=WAIT_S, check=True).stdout
    rows = dict(line.rsplit(maxsplit=3)[:2] for line in output.splitlines() if len(line.split()) == 4)
    total = sum((Counter(counts) for counts in GOLDEN.values()), Counter())
    assert {fate.strip(): int(rays) for fate, rays in rows.items() if fate != "edges"} == total
    edges = sum(total[edge] for edge in ("left", "right", "near", "far"))
    assert int(rows["edges"]) == edges
    assert f"optical efficiency of the edges: {100 * edges / total.total():.1f} %" in output


def test_the_api_rejects_a_payload_outside_the_limits(client):
    with pytest.raises(PayloadInvalid) as rejected:
        client.submit("crunch", {"rays": 2001})
    assert [violation.pointer for violation in rejected.value.errors] == ["/rays"]


def test_the_log_of_a_job_is_empty(client):
    """pvtrace, its libraries and this example print nothing."""
    job = client.submit("crunch", {"rays": 20})
    job.result(timeout=WAIT_S)
    assert [line.line for line in job.logs()] == []


def test_run_leaves_no_process(tmp_path):
    """The processes that stack.py starts end with it, even if it is killed."""
    program = (
        "import sys, time\n"
        f"sys.path.insert(0, {str(HERE)!r})\n"
        "from stack import Stack\n"
        f"stack = Stack({os.environ.get('CRUNCH_BIN')!r}).__enter__()\n"
        "print(*(stack.pid(name) for name in ('redis', 'api', 'worker')), flush=True)\n"
        "time.sleep(3600)\n"
    )
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    killed = subprocess.Popen([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in killed.stdout.readline().split()]
    assert len(pids) == 3
    descriptors = [os.pidfd_open(pid) for pid in [*pids, *tracers(pids[2])]]
    killed.kill()
    killed.wait()
    for descriptor in descriptors:
        ended, _, _ = select.select([descriptor], [], [], WAIT_S)
        assert ended
        os.close(descriptor)
    killed.stdout.close()
