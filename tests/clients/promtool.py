"""promtool: what it thinks of /metrics, once every kind of thing has been counted."""

import subprocess
import urllib.request

import httpx

from stage import PATIENCE, URL, Stage, check


def have_counted(stage):
    """Jobs of each end, refusals, waits, and a stream."""
    for act in [{"return": 1}, {"fail_for_good": "out of luck"}]:
        job = httpx.post(f"{URL}/jobs", json={"task": "act", "payload": stage.payload}).json()["id"]
        stage.enters().told(**act)
        httpx.get(f"{URL}/jobs/{job}?wait=30", timeout=PATIENCE)
    later = httpx.post(f"{URL}/jobs", json={"task": "echo", "delay_ms": 3_600_000}).json()["id"]
    check(httpx.post(f"{URL}/jobs/{later}/cancel").status_code, 200, "a job is canceled")
    check(httpx.post(f"{URL}/jobs", json={"task": "nope"}).status_code, 422, "a job is refused")
    check(httpx.get(f"{URL}/nowhere").status_code, 404, "a path is unknown")


have_counted(Stage())
with urllib.request.urlopen(f"{URL}/metrics", timeout=PATIENCE) as answer:
    figures = answer.read()
judgement = subprocess.run(["promtool", "check", "metrics"], input=figures, capture_output=True, check=False)
said = (judgement.stdout + judgement.stderr).decode()
check((judgement.returncode, said), (0, ""), f"promtool has nothing against {len(figures.splitlines())} lines")
