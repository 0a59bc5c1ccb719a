"""azure-core: its poller follows a job with each polling algorithm, and distinguishes success, failure and cancellation."""

import urllib.request

from azure.core import PipelineClient
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import HeadersPolicy, RedirectPolicy, RequestIdPolicy, RetryPolicy
from azure.core.polling import LROPoller
from azure.core.polling.base_polling import (
    LocationPolling,
    LROBasePolling,
    OperationResourcePolling,
    StatusCheckPolling,
)
from azure.core.rest import HttpRequest

from stage import TIMEOUT_S, URL, Stage, check

# The policies of Azure's clients.
CLIENT = PipelineClient(URL, policies=[RequestIdPolicy(), HeadersPolicy(), RedirectPolicy(), RetryPolicy()])


def begin(path, body, *algorithms, **keywords):
    """Submits a job and returns a poller, which chooses from these polling algorithms; from all, if none is given."""
    request = HttpRequest("POST", URL + path, json=body, **keywords)
    initial = CLIENT.send_request(request, _return_pipeline_response=True)
    initial.http_response.raise_for_status()
    polling = LROBasePolling(timeout=1, lro_algorithms=[algorithm() for algorithm in algorithms] or None)
    return LROPoller(CLIENT, initial, lambda response: response.http_response.json(), polling)


def wait_for_result(poller):
    """Returns the job document when the job has ended."""
    job = poller.result(timeout=TIMEOUT_S)
    assert poller.done(), "the poller has not ended"
    return job


def wait_for_failure(poller):
    """Returns the status and the error code of a poller that must not succeed."""
    try:
        job = wait_for_result(poller)
    except HttpResponseError as error:
        return poller.status(), error.error.code if error.error else None
    raise SystemExit(f"the poller reports a success: {job}")


def job_id(poller):
    return poller.polling_method()._initial_response.http_response.json()["id"]


def test_success(stage):
    for what, path, body, algorithms in [
        ("POST /jobs with all algorithms", "/jobs", {"task": "act", "payload": stage.payload}, []),
        ("POST /jobs by Operation-Location", "/jobs", {"task": "act", "payload": stage.payload}, [OperationResourcePolling]),
        ("POST /tasks/{task}/jobs", "/tasks/act/jobs", stage.payload, []),
    ]:
        poller = begin(path, body, *algorithms)
        actor = stage.wait_for_handler()
        actor.send(progress=[0.5, "half"])
        actor.send(**{"return": {"answer": 42}})
        job = wait_for_result(poller)
        check((poller.status(), job["id"], job["result"]), ("succeeded", actor.id, {"answer": 42}), what)


def test_short_routes():
    for what, algorithms in [
        ("POST /crunch with all algorithms", []),
        ("POST /crunch by Operation-Location", [OperationResourcePolling]),
        ("POST /crunch by Location, that is /result/{token}", [LocationPolling]),
    ]:
        job = wait_for_result(begin("/crunch", {"photons": 200_000}, *algorithms))
        check((job["status"], job["result"]["photons"]), ("succeeded", 200_000), what)


def test_failure(stage):
    poller = begin("/jobs", {"task": "act", "payload": stage.payload})
    stage.wait_for_handler().send(fail_for_good="out of luck")
    check(wait_for_failure(poller), ("failed", "task_failed"), "a failed job is a failure")


def test_cancellation(stage):
    poller = begin("/jobs", {"task": "act", "payload": stage.payload})
    actor = stage.wait_for_handler()
    cancel(actor.id)
    actor.wait_for_stop_request()
    check(wait_for_failure(poller), ("canceled", "canceled"), "a running job that is canceled is a failure")
    poller = begin("/jobs", {"task": "act", "payload": stage.payload, "delay_ms": 3_600_000})
    cancel(job_id(poller))
    check(wait_for_failure(poller), ("canceled", "canceled"), "a scheduled job that is canceled is a failure")


def test_status_code_only():
    """With only the status code of /result/{token}, 200 means that the job has ended; the body has the status (docs/api.md)."""
    poller = begin("/crunch", {"photons": 1}, LocationPolling, params={"delay_ms": 3_600_000})
    cancel(job_id(poller))
    job = wait_for_result(poller)
    check((job["status"], job["error"]["code"]), ("canceled", "canceled"), "with Location only, a canceled job is a document")


def test_waiting_submissions():
    """The response to a submission with `wait` is final: StatusCheckPolling, which never polls, accepts it."""
    job = wait_for_result(begin("/crunch", {"photons": 1000}, StatusCheckPolling, params={"wait": "30"}))
    check(job["status"], "succeeded", "POST /crunch?wait=30 by the status code")
    job = wait_for_result(begin("/crunch", {"photons": 1000}, headers={"Prefer": "wait=30"}))
    check(job["status"], "succeeded", "POST /crunch with Prefer: wait and all algorithms")


def test_continuation(stage):
    """Another poller continues from the continuation token of the first."""
    first = begin("/jobs", {"task": "act", "payload": stage.payload})
    token = first.continuation_token()
    stage.wait_for_handler().send(**{"return": 1})
    second = LROPoller.from_continuation_token(
        LROBasePolling(timeout=1), token, client=CLIENT, deserialization_callback=lambda response: response.http_response.json()
    )
    check(wait_for_result(second)["result"], 1, "a poller continues from a continuation token")
    wait_for_result(first)


def cancel(job):
    request = urllib.request.Request(f"{URL}/jobs/{job}/cancel", method="POST")
    urllib.request.urlopen(request, timeout=TIMEOUT_S).close()


stage = Stage()
test_success(stage)
test_short_routes()
test_failure(stage)
test_cancellation(stage)
test_status_code_only()
test_waiting_submissions()
test_continuation(stage)
