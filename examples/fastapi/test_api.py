"""Tests of the service without a network: tasks are functions here, not jobs of a worker."""

import ast
from pathlib import Path

import api
import crunch.testing
import pytest
from fastapi.testclient import TestClient


def estimate(payload):
    if payload.get("points") == 0:
        raise crunch.Fail("no_points", "there is nothing to estimate from")
    return {"area": 1.5, "standard_error": 0.1}


@pytest.fixture
def tasks():
    with crunch.testing.fake(api.jobs, {"mandelbrot.area": estimate}, hold=True) as tasks:
        yield tasks


@pytest.fixture
def http(tasks):
    return TestClient(api.app)


def test_a_submission_gets_a_token_and_later_its_result(http, tasks):
    accepted = http.post("/crunch", json={"points": 10})
    assert accepted.status_code == 202
    location = accepted.headers["Location"]
    assert location == f"/result/{accepted.json()['token']}"

    waiting = http.get(location)
    assert waiting.status_code == 202
    assert waiting.headers["Retry-After"] == "1"

    tasks.run()
    ended = http.get(location)
    assert ended.status_code == 200
    assert ended.json() == {"area": 1.5, "standard_error": 0.1}


def test_a_failed_job_is_a_problem(http, tasks):
    location = http.post("/crunch", json={"points": 0}).headers["Location"]
    tasks.run()
    failed = http.get(location)
    assert failed.status_code == 422
    assert failed.headers["Content-Type"] == "application/problem+json"
    assert failed.json()["error"]["code"] == "no_points"


def test_the_same_key_is_the_same_job(http):
    headers = {"Idempotency-Key": "order-17"}
    first = http.post("/crunch", json={"points": 10}, headers=headers).json()
    again = http.post("/crunch", json={"points": 10}, headers=headers).json()
    assert again["token"] == first["token"]
    other = http.post("/crunch", json={"points": 11}, headers=headers)
    assert other.status_code == 422
    assert other.json()["type"] == "/problems/idempotency-conflict"


def test_an_unknown_token_is_404(http):
    assert http.get("/result/unknown").status_code == 404


def test_an_outage_is_503(http, tasks):
    tasks.respond(503, "unavailable", times=1000)
    response = http.post("/crunch", json={})
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"


def test_the_service_imports_nothing_of_the_tasks():
    source = Path(api.__file__).read_text()
    assert len(source.splitlines()) <= 25
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports for alias in node.names} | {
        node.module for node in imports if isinstance(node, ast.ImportFrom)
    }
    assert not names & {"mytasks", "numpy"}
