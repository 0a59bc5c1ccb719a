"""Every page passes the rules of axe, and none scrolls sideways: light, dark, and as wide as a phone. With
CRUNCH_PICTURES, pictures of them are written there."""

import base64
import os
import pathlib

from api import call, get, submit, wait_for, wait_for_status
from chromium import Visitor, chromium
from stage import Stage, check

AXE = pathlib.Path(os.environ["CRUNCH_AXE"]).read_text()
PICTURES = os.environ.get("CRUNCH_PICTURES")
MODES = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 800}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 800}},
    "phone": {"color_scheme": "light", "viewport": {"width": 360, "height": 740}},
}
RUN_AXE = """async () => (await axe.run(document, { resultTypes: ['violations'] })).violations.map((rule) =>
  `${rule.id}: ${rule.help}: ${rule.nodes.slice(0, 3).map((it) => it.html.slice(0, 200)).join(' ')}`)"""
WIDTH = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
# WebP, which Playwright cannot write itself: all pictures together have less than 1.5 MB.
FORMAT = {"format": "webp", "quality": 55}


# Of all pages, so that one run reports everything.
VIOLATIONS = []


def prepare():
    """Jobs in every state, of which the pages have something to show. Returns the pages by name, and what to end."""
    payload = {"text": "to be or not to be", "top": 3}
    done = submit("echo", payload, metadata={"customer": "4711", "region": "eu-west"})
    wait_for_status(done, "succeeded")
    for number in range(12):
        message = ["disk 7 is full", f"no route to host 10.0.0.{number}", "record 12 has no key"][number % 3]
        customer = {"customer": ["acme", "globex"][number % 5 % 2]}
        submit("fail", {"message": message, "until": "/nowhere"}, metadata=customer)
    submit("echo", 1, delay_ms=3_600_000)
    failed = submit("fail", {"message": "cannot open /srv/photos/1.png", "until": "/nowhere"}, max_attempts=2)
    wait_for_status(failed, "failed")
    stage = Stage()
    running = submit("act", stage.payload)
    actor = stage.wait_for_handler()
    for number in range(1, 9):
        actor.send(log=f"photon {number * 1000} of 10000: 3 absorbed, 2 emitted")
    actor.send(progress=[0.62, "6200 of 10000 photons"])
    call("POST", "/queues/repeat/pause")
    submit("repeat", payload)
    wait_for("the progress is known", lambda: b"photons" in call("GET", f"/jobs/{running}")[1])
    # With the next heartbeat, for the charts.
    wait_for("the history is known", lambda: get("/history?queue=fail")["attempts"])
    pages = {
        "overview": "",
        "queues": "/queues",
        "queue": "/queues/fail",
        "jobs": "/jobs",
        "no-jobs": "/jobs?status=canceled",
        "summary": "/jobs?status=failed&by=customer&sort=duration",
        "running-job": f"/jobs/{running}",
        "failed-job": f"/jobs/{failed}",
        "succeeded-job": f"/jobs/{done}",
        "new-job": "/jobs/new",
        "form": "/jobs/new?task=torture",
        "question": "/jobs/actions?action=retry&status=failed&queue=fail",
        "errors": "/errors",
        "workers": "/workers",
        "tasks": "/tasks",
        "task": "/tasks/torture",
        "busy-task": "/tasks/fail",
        "deliveries": "/deliveries",
        "actions": "/actions",
        "system": "/system",
        "found": "/find?q=nothing",
    }
    return pages, actor


def log_in(visitor, mode):
    """Opens the dashboard as it asks for a key, and enters it."""
    page = visitor.open("/login")
    inspect(page, mode, "login")
    page.get_by_label("key", exact=False).first.fill(os.environ["CRUNCH_KEY"])
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/dashboard")
    return page


def inspect(page, mode, name):
    """Checks one page, and takes its picture."""
    needed, there = page.evaluate(WIDTH)
    if needed > there:
        VIOLATIONS.append(f"{name}, {mode}: scrolls sideways, {needed} of {there} pixels")
    if PICTURES:
        take_picture(page, mode, name)
    page.evaluate(AXE)
    VIOLATIONS.extend(f"{name}, {mode}: {rule}" for rule in page.evaluate(RUN_AXE))


def take_picture(page, mode, name):
    session = page.context.new_cdp_session(page)
    picture = session.send("Page.captureScreenshot", FORMAT)["data"]
    directory = pathlib.Path(PICTURES)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}-{mode}.webp").write_bytes(base64.b64decode(picture))


def inspect_wrong_form(visitor, page, mode):
    """A form that is shown again with what is wrong."""
    visitor.visit(page, "/jobs/new?task=torture")
    page.locator('[name="field/code"]').fill("abc")
    page.locator('[name="field/mode"]').select_option(label="fast")
    page.get_by_role("radio", name="Number").check()
    page.locator('[name="field/size/~option0"]').fill("1")
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("alert").wait_for()
    inspect(page, mode, "wrong-form")


def main():
    pages, actor = prepare()
    with chromium() as browser:
        for mode, options in MODES.items():
            visitor = Visitor(browser, **options)
            page = log_in(visitor, mode)
            for name, path in pages.items():
                visitor.visit(page, path)
                inspect(page, mode, name)
            inspect_wrong_form(visitor, page, mode)
            visitor.close()
    actor.send(**{"return": 1})
    check(VIOLATIONS, [], "no page violates a rule of axe or scrolls sideways")


main()
