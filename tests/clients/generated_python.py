"""openapi-python-client: what it makes of /openapi.json is called, and understands the answers."""

import subprocess

from stage import URL, check

MADE = "crunch_client"
command = ["openapi-python-client", "generate", "--url", f"{URL}/openapi.json", "--output-path", MADE]
command += ["--meta", "none", "--config", "python_client.yaml", "--fail-on-warning"]
made = subprocess.run(command, capture_output=True, text=True, check=False)
print(made.stdout, made.stderr)
check(made.returncode, 0, "a client is generated without a warning")

# Only now is there such a package.
from crunch_client import Client  # noqa: E402
from crunch_client.api.jobs import cancel_job, get_job, list_jobs, submit_crunch, submit_job  # noqa: E402
from crunch_client.api.tasks import list_tasks  # noqa: E402
from crunch_client.models import CrunchPayload, Problem, Status, Submission  # noqa: E402


def calls(client):
    job = submit_crunch.sync(client=client, body=CrunchPayload(photons=1000), wait=30)
    check((job.status, job.result.photons), (Status.SUCCEEDED, 1000), "POST /tasks/crunch/jobs?wait=30")
    again = get_job.sync(job.id, client=client)
    check((again.id, again.finished_at), (job.id, job.finished_at), "GET /jobs/{id}")
    later = submit_job.sync(client=client, body=Submission(task="crunch", payload={"photons": 1}, delay_ms=3_600_000))
    check(later.status, Status.SCHEDULED, "POST /jobs")
    check(cancel_job.sync(later.id, client=client).status, Status.CANCELED, "POST /jobs/{id}/cancel")
    check({item.id for item in list_jobs.sync(client=client).items}, {job.id, later.id}, "GET /jobs")
    check("crunch" in {task.name for task in list_tasks.sync(client=client).items}, True, "GET /tasks")
    refused = submit_job.sync(client=client, body=Submission(task="nope"))
    check((type(refused), refused.type_), (Problem, "/problems/invalid-submission"), "a refusal is a problem")
    check([wrong.pointer for wrong in refused.errors], ["/task"], "it points at what is wrong")


with Client(base_url=URL) as client:
    calls(client)
