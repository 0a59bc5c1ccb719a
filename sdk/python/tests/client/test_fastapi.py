"""The responses of a service with FastAPI, with both kinds of clients."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from fastapi import Body, FastAPI, Response
from fastapi.testclient import TestClient

import crunch
import crunch.fastapi
from crunch.aio import AsyncClient
from crunch.client import Client
from crunch.testing import FakeApi, fake

NOWHERE = "http://127.0.0.1:1"


def refuse(_: object) -> None:
    raise crunch.Fail("no_light", "it is dark")


TASKS: dict[str, Any] = {
    "echo": lambda payload: payload,
    "large": lambda _: list(range(20000)),
    "picture": lambda _: crunch.Result(b"\x89PNG", "image/png"),
    "refuse": refuse,
}


def blocking_app() -> tuple[FastAPI, Client]:
    app, jobs = FastAPI(), Client(NOWHERE)

    @app.post("/{task}")
    def submit(task: str, body: Annotated[Any, Body()] = None, key: str | None = None) -> Response:
        job = jobs.submit(task, body, key=key)
        return crunch.fastapi.accepted(job, f"/result/{job.token}")

    @app.get("/result/{token}")
    def result(token: str, wait: float = 0) -> Response:
        return crunch.fastapi.answer(jobs.get(token, wait=wait))

    return app, jobs


def async_app() -> tuple[FastAPI, AsyncClient]:
    app, jobs = FastAPI(), AsyncClient(NOWHERE)

    @app.post("/{task}")
    async def submit(
        task: str, body: Annotated[Any, Body()] = None, key: str | None = None
    ) -> Response:
        job = await jobs.submit(task, body, key=key)
        return crunch.fastapi.accepted(job, f"/result/{job.token}")

    @app.get("/result/{token}")
    async def result(token: str, wait: float = 0) -> Response:
        return crunch.fastapi.answer(await jobs.get(token, wait=wait))

    return app, jobs


class Service:
    """A service, and the fake API behind it."""

    def __init__(self, app: FastAPI, jobs: Client | AsyncClient) -> None:
        crunch.fastapi.handle_errors(app)
        self.http = TestClient(app)
        self.api: FakeApi = fake(jobs, TASKS, hold=True)

    def submit(self, task: str, body: Any = None, **query: str) -> Any:
        return self.http.post(f"/{task}", json=body, params=query)

    def result_of(self, task: str, body: Any = None) -> Any:
        location = self.submit(task, body).headers["location"]
        self.api.run()
        return self.http.get(location)


@pytest.fixture(params=[blocking_app, async_app])
def service(request: pytest.FixtureRequest) -> Service:
    return Service(*request.param())


def test_a_submission_is_accepted(service: Service) -> None:
    response = service.submit("echo", {"a": 1})
    assert response.status_code == 202
    token = response.json()["token"]
    assert response.json() == {"token": token, "status": "queued"}
    assert response.headers["location"] == f"/result/{token}"
    assert response.headers["retry-after"] == "1"
    assert response.headers["cache-control"] == "no-store"


def test_a_job_that_has_not_ended_is_202(service: Service) -> None:
    location = service.submit("echo", 1).headers["location"]
    response = service.http.get(location, params={"wait": 30})
    assert response.status_code == 202
    assert response.headers["retry-after"] == "1"
    assert response.json() == {
        "token": location.rpartition("/")[2],
        "status": "queued",
        "progress": None,
        "message": None,
    }


def test_a_result_is_200(service: Service) -> None:
    response = service.result_of("echo", {"a": "Ü"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"a": "Ü"}


def test_null_is_a_result(service: Service) -> None:
    assert service.result_of("echo").json() is None


def test_a_large_result_is_fetched(service: Service) -> None:
    response = service.result_of("large")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == list(range(20000))


def test_a_result_has_its_content_type(service: Service) -> None:
    response = service.result_of("picture")
    assert response.status_code == 200
    assert response.content == b"\x89PNG"
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-content-type-options"] == "nosniff"


def test_a_result_that_is_gone_meanwhile_is_a_problem() -> None:
    app = FastAPI()
    with Client(NOWHERE) as jobs, fake(jobs, TASKS) as api:
        job = jobs.submit("picture").wait()
        app.get("/")(lambda: crunch.fastapi.answer(job))
        api.respond(410, "trimmed", "Redis was nearly full")
        response = TestClient(app).get("/")
    assert response.status_code == 410
    assert response.json()["type"] == "/problems/trimmed"


def test_a_failed_job_is_422(service: Service) -> None:
    response = service.result_of("refuse")
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {
        "type": "/problems/job-failed",
        "title": "The job failed",
        "status": 422,
        "detail": "it is dark",
        "error": {"code": "no_light", "message": "it is dark"},
    }


def test_a_message_can_be_left_out() -> None:
    with Client(NOWHERE) as jobs, fake(jobs, TASKS):
        response = crunch.fastapi.answer(jobs.submit("refuse").wait(), with_message=False)
    assert response.status_code == 422
    assert b"no_light" in bytes(response.body)
    assert b"dark" not in bytes(response.body)


def test_a_canceled_job_is_409() -> None:
    with Client(NOWHERE) as jobs, fake(jobs, TASKS):
        response = crunch.fastapi.answer(jobs.submit("echo", delay="1h").cancel())
    assert response.status_code == 409
    assert b"/problems/job-canceled" in bytes(response.body)


@pytest.mark.parametrize("token", ["nothing", "00000000-0000-0000-0000-000000000000", "a b"])
def test_a_token_that_is_none_is_404(service: Service, token: str) -> None:
    response = service.http.get(f"/result/{token}")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "/problems/not-found"


def test_wrong_keys_are_400_and_conflicts_422(service: Service) -> None:
    assert service.submit("echo", 1, key="a b").status_code == 400
    assert service.submit("echo", 1, key="a").status_code == 202
    response = service.submit("echo", 2, key="a")
    assert response.status_code == 422
    assert response.json()["type"] == "/problems/idempotency-conflict"


def test_what_is_not_json_outside_python_is_400(service: Service) -> None:
    headers = {"Content-Type": "application/json"}
    for body in (b"NaN", b'"\\ud800"'):
        response = service.http.post("/echo", content=body, headers=headers)
        assert response.status_code == 400
        assert response.json()["type"] == "/problems/malformed-json"


@pytest.mark.parametrize(
    ("status", "slug", "becomes", "pause"),
    [
        (422, "invalid-submission", 422, None),
        (413, "payload-too-large", 413, None),
        (503, "full", 503, "7"),
        (429, "rate-limited", 503, "7"),
        (404, "unknown-task", 503, "1"),
        (401, "unauthorized", 502, None),
        (403, "forbidden", 502, None),
        (500, "internal", 502, None),
    ],
)
def test_problems_concern_the_client_or_not(
    service: Service, status: int, slug: str, becomes: int, pause: str | None
) -> None:
    service.api.respond(
        status, slug, "secret" if becomes == 502 else "why", times=100, retry_after=7
    )
    response = service.submit("echo", 1)
    assert response.status_code == becomes
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers.get("retry-after") == pause
    assert response.json()["status"] == becomes
    assert "secret" not in response.text


def test_an_api_that_is_not_there_is_503() -> None:
    error = crunch.Unreachable("nobody is there")
    response = crunch.fastapi.problem(error)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert b"nobody" not in bytes(response.body)
