"""Forty texts that try to be markup or script stay texts, wherever the dashboard shows them."""

import json
import os
import urllib.parse

from api import get, submit, wait_for_status
from chromium import chromium, visit
from stage import Stage, check

TEXTS = [
    "<script>alert(1)</script>",
    "<ScRiPt>alert(2)</sCrIpT>",
    "</script><script>alert(3)</script>",
    "</title><script>alert(4)</script>",
    "</textarea><script>alert(5)</script>",
    "</pre><script>alert(6)</script>",
    "</style><script>alert(7)</script>",
    "--><script>alert(8)</script>",
    "]]><script>alert(9)</script>",
    "<img src=x onerror=alert(10)>",
    "<img src=x onerror='alert(11)'>",
    '"><img src=x onerror=alert(12)>',
    "'><img src=x onerror=alert(13)>",
    "`><img src=x onerror=alert(14)>",
    '" onmouseover="alert(15)" x="',
    "' onmouseover='alert(16)' x='",
    '" autofocus onfocus="alert(17)',
    '" style="animation-name:x" onanimationstart="alert(18)',
    "<svg onload=alert(19)>",
    "<svg><script>alert(20)</script></svg>",
    "<svg><animate onbegin=alert(21) attributeName=x></svg>",
    "<math><mtext><script>alert(22)</script></mtext></math>",
    "<body onload=alert(23)>",
    "<iframe src=javascript:alert(24)></iframe>",
    "<iframe srcdoc='<script>alert(25)</script>'></iframe>",
    "<object data=javascript:alert(26)></object>",
    "<embed src=javascript:alert(27)>",
    "<a href=javascript:alert(28)>link</a>",
    "javascript:alert(29)",
    "data:text/html,<script>alert(30)</script>",
    "<form action=javascript:alert(31)><button>go</button></form>",
    "<button formaction=javascript:alert(32)>go</button>",
    "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=javascript:alert(34)'>",
    "<link rel=stylesheet href=https://evil.example/style.css>",
    "<style>@import 'https://evil.example/style.css'</style>",
    "<details open ontoggle=alert(37)>",
    "<video><source onerror=alert(38)></video>",
    "{{ 7*7 }}${7*7}<%= 7*7 %>#{7*7}",
    "&lt;script&gt;alert(40)&lt;/script&gt;&#60;img src=x onerror=alert(40)&#62;",
]
# What no page of the dashboard has, unless a text became markup.
MARKUP = """() => [...document.querySelectorAll('*')].filter((it) =>
    it.matches('iframe, object, embed, base, video, math, style, meta[http-equiv], script:not([src])')
    || [...it.attributes].some((attribute) => /^on|^srcdoc$|^style$/.test(attribute.name)
      || /^\\s*(javascript|data:text)/i.test(attribute.value) && /href|src|action/.test(attribute.name)))
  .map((it) => it.outerHTML.slice(0, 200))"""


def check_page(page, what, texts=()):
    """Nothing became markup, and every text is shown as it is."""
    check(page.evaluate(MARKUP), [], f"{what}: no text is markup")
    if texts:
        shown = page.evaluate("document.body.textContent + [...document.querySelectorAll('input, textarea')]"
                              ".map((it) => it.value).join('\\n')")
        missing = [text for text in texts if text not in shown and json.dumps(text)[1:-1] not in shown]
        check(missing, [], f"{what}: all texts are shown")


def fail_with_each():
    """Jobs whose failure, log, progress, metadata and payload contain the texts."""
    jobs = []
    for number, text in enumerate(TEXTS):
        payload = {"message": text, "until": "/nowhere"}
        jobs.append(submit("fail", payload, metadata={"label": text}))
    stage = Stage()
    acting = submit("act", stage.payload)
    actor = stage.wait_for_handler()
    for text in TEXTS:
        actor.send(log=text)
    actor.send(progress=[0.5, TEXTS[0]])
    actor.send(**{"return": TEXTS})
    for job in jobs:
        wait_for_status(job, "failed")
    wait_for_status(acting, "succeeded")
    return jobs, acting


def main():
    jobs, acting = fail_with_each()
    with chromium() as browser, visit(browser) as visitor:
        page = visitor.open("/errors")
        check_page(page, "the errors", TEXTS[:1])
        visitor.visit(page, f"/jobs/{acting}")
        check_page(page, "log and result", TEXTS)
        for job, text in zip(jobs, TEXTS, strict=True):
            visitor.visit(page, f"/jobs/{job}")
            check_page(page, f"job of {text}", [text])
        for path in ["", "/queues", "/queues/fail", "/jobs", "/jobs?status=failed", "/workers", "/tasks"]:
            visitor.visit(page, path)
            check_page(page, path)
        visitor.visit(page, "/tasks/hostile")
        check_page(page, "a task's description and schema", TEXTS[:3])
        visitor.visit(page, "/jobs/new?task=hostile")
        check_page(page, "a form", TEXTS[1:12])
        in_urls(visitor, page)
        in_forms(visitor, page)


def in_urls(visitor, page):
    """Texts in the search box, and in the filters of lists."""
    for text in TEXTS:
        quoted = urllib.parse.quote(text)
        page.goto(f"{os.environ['CRUNCH_URL']}/dashboard/find?q={quoted}")
        check_page(page, f"search for {text}")
    for path in ["jobs?task=", "jobs?error=", "errors?queue=", "jobs/new?task=", "jobs/", "queues/", "tasks/"]:
        page.goto(f"{os.environ['CRUNCH_URL']}/dashboard/{path}{urllib.parse.quote(TEXTS[11], safe='')}")
        check_page(page, path)


def in_forms(visitor, page):
    """A form that is shown again has what was entered, as texts."""
    visitor.visit(page, "/jobs/new?task=torture")
    page.locator('[name="field/name"]').fill(TEXTS[15])
    page.locator('[name="field/notes"]').fill("\n".join(TEXTS))
    page.locator('[name="field/code"]').fill(TEXTS[11])
    page.locator('[name="field/mode"]').select_option(label="fast")
    page.get_by_role("radio", name="Number").check()
    page.locator('[name="field/size/~option0"]').fill("1")
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("alert").wait_for()
    check_page(page, "a form that is shown again", TEXTS)


main()
