"""promtool reports nothing in /metrics, with every kind of event counted."""

import subprocess
import urllib.request

import httpx

from stage import TIMEOUT_S, URL, Stage, check


def generate_events(stage):
    """Runs jobs to each final status, waits for them, and sends requests that are rejected."""
    for act in [{"return": 1}, {"fail_for_good": "out of luck"}]:
        job = httpx.post(f"{URL}/jobs", json={"task": "act", "payload": stage.payload}).json()["id"]
        stage.wait_for_handler().send(**act)
        httpx.get(f"{URL}/jobs/{job}?wait=30", timeout=TIMEOUT_S)
    later = httpx.post(f"{URL}/jobs", json={"task": "echo", "delay_ms": 3_600_000}).json()["id"]
    check(httpx.post(f"{URL}/jobs/{later}/cancel").status_code, 200, "a job is canceled")
    check(httpx.post(f"{URL}/jobs", json={"task": "nope"}).status_code, 422, "a job is rejected")
    check(httpx.get(f"{URL}/nowhere").status_code, 404, "a path is unknown")


generate_events(Stage())
with urllib.request.urlopen(f"{URL}/metrics", timeout=TIMEOUT_S) as response:
    metrics = response.read()
finished = subprocess.run(["promtool", "check", "metrics"], input=metrics, capture_output=True, check=False)
output = (finished.stdout + finished.stderr).decode()
check((finished.returncode, output), (0, ""), f"promtool reports nothing in {len(metrics.splitlines())} lines")
