"""Jobs are submitted by the form of a task's schema, with script and without."""

import json
import os
import pathlib

from api import call, wait_for_status
from chromium import chromium, visit
from stage import check

# A payload of the task `torture`, with everything that its schema has.
PAYLOAD = pathlib.Path(os.environ["CRUNCH_PAYLOAD"]).read_text()


def payload_of(job):
    """The payload of a job; its numbers are texts, with all digits."""
    status, body = call("GET", f"/jobs/{job}/payload")
    check(status, 200, "the job has a payload")
    return exact(body)


def exact(text):
    return json.loads(text, parse_int=str, parse_float=str)


def field(page, name):
    return page.locator(f'[name="{name}"]')


def fill(page):
    """Fills in some of the fields, one of them wrongly."""
    field(page, "field/name").fill("first")
    field(page, "field/serial").fill("123456789012345678901234567890")
    field(page, "field/ratio").fill("0.10")
    field(page, "field/mode").select_option(label="exact")
    field(page, "field/code").fill("abc")
    field(page, "field/start").fill("2026-01-02T03:04")
    field(page, "field/tags").fill("one\ntwo")
    field(page, "field/address/street").fill("Main Street")
    page.get_by_label("rectangle").check()
    field(page, "field/shape/~option1/width").fill("2.50")
    page.get_by_role("radio", name="Number").check()
    field(page, "field/size/~option0").fill("7")
    page.get_by_role("checkbox", name="active").uncheck()


EXPECTED = """{"version": 2, "name": "first", "count": 10, "serial": 123456789012345678901234567890, "ratio": 0.10,
  "active": false, "mode": "exact", "code": "ABC", "start": "2026-01-02T03:04:00Z", "tags": ["one", "two"],
  "address": {"street": "Main Street"}, "shape": {"kind": "rectangle", "width": 2.50}, "size": 7}"""


def send(page):
    page.get_by_role("button", name="Submit").click()


def job_of(page):
    page.wait_for_url("**/dashboard/jobs/*-*")
    return page.url.rsplit("/", 1)[1]


def submit_with_a_mistake(visitor, what):
    page = visitor.open("/jobs/new?task=torture")
    fill(page)
    send(page)
    code = field(page, "field/code")
    check(code.get_attribute("aria-invalid"), "true", f"{what}: the wrong field is marked")
    described = code.get_attribute("aria-describedby").split()[-1]
    message = page.locator(f"#{described}").inner_text()
    check("pattern" in message or "match" in message, True, f"{what}: the reason is at its field")
    check(page.locator("[aria-invalid]").count(), 1, f"{what}: the other fields are not")
    page.get_by_role("alert").get_by_role("link", name="code").click()
    check(page.evaluate("document.activeElement.name"), "field/code", f"{what}: the list leads to the field")
    code.fill("ABC")
    send(page)
    check(payload_of(job_of(page)), exact(EXPECTED), f"{what}: the payload has what was entered")


def submit_again(visitor, what):
    """Nothing is lost on the way through the browser's own fields."""
    status, answer = call("POST", "/tasks/torture/jobs", PAYLOAD.encode())
    check(status, 202, f"a payload with everything is accepted {answer.decode()}")
    job = json.loads(answer)["id"]
    page = visitor.open(f"/jobs/new?from={job}")
    send(page)
    again = job_of(page)
    check(again != job, True, f"{what}: there is another job")
    check(payload_of(again), exact(PAYLOAD), f"{what}: submitted again without changes, the payload is equal")
    wait_for_status(again, "succeeded")


def submit_json(visitor):
    page = visitor.open("/jobs/new?task=echo")
    field(page, "payload").fill('{"n": 1e400}')
    send(page)
    check(payload_of(job_of(page)), {"n": "1e400"}, "a task without a schema takes JSON")
    page = visitor.open("/jobs/new?task=torture")
    page.get_by_role("link", name="Write JSON instead").click()
    check(field(page, "payload").count(), 1, "a task with a schema takes JSON as well")


def main():
    with chromium() as browser:
        for what, script in [("with script", True), ("without script", False)]:
            with visit(browser, java_script_enabled=script) as visitor:
                submit_with_a_mistake(visitor, what)
                submit_again(visitor, what)
        with visit(browser) as visitor:
            submit_json(visitor)


main()
