"""azure-core: its poller follows a job by each of its ways, and tells success from failure and from cancellation."""

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

from stage import PATIENCE, URL, Stage, check

# As the clients of Azure put it together.
CLIENT = PipelineClient(URL, policies=[RequestIdPolicy(), HeadersPolicy(), RedirectPolicy(), RetryPolicy()])


def begin(path, body, *ways, **keywords):
    """Submits and returns a poller; `ways` are those that the poller may choose from, all of them unless said."""
    request = HttpRequest("POST", URL + path, json=body, **keywords)
    initial = CLIENT.send_request(request, _return_pipeline_response=True)
    initial.http_response.raise_for_status()
    polling = LROBasePolling(timeout=1, lro_algorithms=[way() for way in ways] or None)
    return LROPoller(CLIENT, initial, lambda answer: answer.http_response.json(), polling)


def finished(poller):
    """The job document at its end."""
    job = poller.result(timeout=PATIENCE)
    assert poller.done(), "the poller has not ended"
    return job


def refused(poller):
    """How a poller that must not succeed tells it."""
    try:
        job = finished(poller)
    except HttpResponseError as error:
        return poller.status(), error.error.code if error.error else None
    raise SystemExit(f"the poller took this for a success: {job}")


def job_of(poller):
    return poller.polling_method()._initial_response.http_response.json()["id"]


def succeeds(stage):
    for what, path, body, ways in [
        ("POST /jobs by all ways", "/jobs", {"task": "act", "payload": stage.payload}, []),
        ("POST /jobs by Operation-Location", "/jobs", {"task": "act", "payload": stage.payload}, [OperationResourcePolling]),
        ("POST /tasks/{task}/jobs", "/tasks/act/jobs", stage.payload, []),
    ]:
        poller = begin(path, body, *ways)
        actor = stage.enters()
        actor.told(progress=[0.5, "half"])
        actor.told(**{"return": {"answer": 42}})
        job = finished(poller)
        check((poller.status(), job["id"], job["result"]), ("succeeded", actor.id, {"answer": 42}), what)


def short_way():
    for what, ways in [
        ("POST /crunch by all ways", []),
        ("POST /crunch by Operation-Location", [OperationResourcePolling]),
        ("POST /crunch by Location, that is /result/{token}", [LocationPolling]),
    ]:
        job = finished(begin("/crunch", {"photons": 200_000}, *ways))
        check((job["status"], job["result"]["photons"]), ("succeeded", 200_000), what)


def fails(stage):
    poller = begin("/jobs", {"task": "act", "payload": stage.payload})
    stage.enters().told(fail_for_good="out of luck")
    check(refused(poller), ("failed", "task_failed"), "a failed job is a failure")


def is_canceled(stage):
    poller = begin("/jobs", {"task": "act", "payload": stage.payload})
    actor = stage.enters()
    cancel(actor.id)
    actor.is_asked_to_stop()
    check(refused(poller), ("canceled", "canceled"), "a running job that is canceled is a failure")
    poller = begin("/jobs", {"task": "act", "payload": stage.payload, "delay_ms": 3_600_000})
    cancel(job_of(poller))
    check(refused(poller), ("canceled", "canceled"), "a scheduled job that is canceled is a failure")


def code_alone():
    """Whoever goes by the code of /result/{token} alone learns that it has ended, and reads how (docs/api.md)."""
    poller = begin("/crunch", {"photons": 1}, LocationPolling, params={"delay_ms": 3_600_000})
    cancel(job_of(poller))
    job = finished(poller)
    check((job["status"], job["error"]["code"]), ("canceled", "canceled"), "by Location alone a canceled job is a document")


def at_once():
    """An answer that was waited for is final; StatusCheckPolling, which never asks again, is content."""
    job = finished(begin("/crunch", {"photons": 1000}, StatusCheckPolling, params={"wait": "30"}))
    check(job["status"], "succeeded", "POST /crunch?wait=30 by the status code")
    job = finished(begin("/crunch", {"photons": 1000}, headers={"Prefer": "wait=30"}))
    check(job["status"], "succeeded", "POST /crunch with Prefer: wait by all ways")


def goes_on_elsewhere(stage):
    """A poller's continuation token, taken up by another poller."""
    first = begin("/jobs", {"task": "act", "payload": stage.payload})
    token = first.continuation_token()
    stage.enters().told(**{"return": 1})
    second = LROPoller.from_continuation_token(
        LROBasePolling(timeout=1), token, client=CLIENT, deserialization_callback=lambda answer: answer.http_response.json()
    )
    check(finished(second)["result"], 1, "a continuation token is taken up")
    finished(first)


def cancel(job):
    request = urllib.request.Request(f"{URL}/jobs/{job}/cancel", method="POST")
    urllib.request.urlopen(request, timeout=PATIENCE).close()


stage = Stage()
succeeds(stage)
short_way()
fails(stage)
is_canceled(stage)
code_alone()
at_once()
goes_on_elsewhere(stage)
