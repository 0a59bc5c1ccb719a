"""openapi-python-client: a client generated from /openapi.json calls the API and parses the responses."""

import subprocess

from stage import URL, check

PACKAGE = "crunch_client"
command = ["openapi-python-client", "generate", "--url", f"{URL}/openapi.json", "--output-path", PACKAGE]
command += ["--meta", "none", "--config", "python_client.yaml", "--fail-on-warning"]
finished = subprocess.run(command, capture_output=True, text=True, check=False)
print(finished.stdout, finished.stderr)
check(finished.returncode, 0, "a client is generated without a warning")

# The package exists only after its generation.
from crunch_client import Client  # noqa: E402
from crunch_client.api.jobs import cancel_job, get_job, list_jobs, submit_crunch, submit_job  # noqa: E402
from crunch_client.api.tasks import list_tasks  # noqa: E402
from crunch_client.models import CrunchPayload, Problem, Status, Submission  # noqa: E402


def test_calls(client):
    job = submit_crunch.sync(client=client, body=CrunchPayload(photons=1000), wait=30)
    check((job.status, job.result.photons), (Status.SUCCEEDED, 1000), "POST /tasks/crunch/jobs?wait=30")
    again = get_job.sync(job.id, client=client)
    check((again.id, again.finished_at), (job.id, job.finished_at), "GET /jobs/{id}")
    later = submit_job.sync(client=client, body=Submission(task="crunch", payload={"photons": 1}, delay_ms=3_600_000))
    check(later.status, Status.SCHEDULED, "POST /jobs")
    check(cancel_job.sync(later.id, client=client).status, Status.CANCELED, "POST /jobs/{id}/cancel")
    check({item.id for item in list_jobs.sync(client=client).items}, {job.id, later.id}, "GET /jobs")
    check("crunch" in {task.name for task in list_tasks.sync(client=client).items}, True, "GET /tasks")
    problem = submit_job.sync(client=client, body=Submission(task="nope"))
    check((type(problem), problem.type_), (Problem, "/problems/invalid-submission"), "a rejected submission is a problem")
    check([error.pointer for error in problem.errors], ["/task"], "the problem has a pointer to the invalid member")


with Client(base_url=URL) as client:
    test_calls(client)
