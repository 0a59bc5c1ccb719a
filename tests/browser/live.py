"""A hundred updates of a page take nothing away from its viewer: focus, what was typed, selections, open parts.

The updates are those of the page's own script: this script answers its requests in the place of the API, so that they
come faster than one in a second."""

import itertools
import re

from api import call, submit, wait_for, wait_for_status
from chromium import chromium, visit
from stage import check

UPDATES = 100
STATE = """() => {
  const input = document.activeElement;
  return {
    focus: input.name, typed: input.value, selection: [input.selectionStart, input.selectionEnd],
    open: [...document.querySelectorAll('main details')].map((it) => it.open),
    marked: [...document.querySelectorAll('main [data-mine]')].length, scrolled: scrollY,
  };
}"""


def serve_updates(page):
    """Answers with a tick after the other, and with a page that is different each time. Returns the count so far."""
    html = call("GET", "/dashboard/jobs")[1].decode()
    served = {"pages": 0}
    numbers = itertools.count(1)

    def tick(route):
        body = f"retry: 5\nevent: tick\ndata: version-{next(numbers)}\n\n"
        route.fulfill(body=body, content_type="text/event-stream")

    def update(route):
        if route.request.resource_type != "fetch":
            route.continue_()
            return
        served["pages"] += 1
        changed = re.sub(r'data-version="[^"]*"', f'data-version="changed-{served["pages"]}"', html)
        # A part that grows, before everything else: what follows must be recognized, not replaced.
        extra = "".join(f"<p>update {n}</p>" for n in range(served["pages"] % 5))
        route.fulfill(body=changed.replace("<h1", f"{extra}<h1", 1), content_type="text/html")

    page.route("**/dashboard/ticks*", tick)
    page.route("**/dashboard/jobs*", update)
    return served


def main():
    jobs = [submit("echo", number) for number in range(60)]
    wait_for_status(jobs[-1], "succeeded")
    with chromium() as browser, visit(browser, viewport={"width": 1000, "height": 600}) as visitor:
        page = visitor.open("/jobs")
        for details in page.locator("main details").all():
            details.locator("summary").click()
        page.locator("main details input").first.fill("a text that is typed")
        page.evaluate("""() => {
          const input = document.activeElement;
          input.setSelectionRange(2, 6);
          document.querySelectorAll('main tbody tr').forEach((row) => (row.dataset.mine = 'true'));
        }""")
        page.evaluate("scrollTo(0, 120)")
        # A mark that the API does not send is removed by an update; a listener shows that an element is the same.
        page.evaluate("window.kept = document.querySelector('main tbody tr:nth-child(3)')")
        before = page.evaluate(STATE)
        served = serve_updates(page)
        # The page's stream begins anew, with the ticks of this script.
        page.evaluate("dispatchEvent(new Event('pagehide')), dispatchEvent(new Event('pageshow'))")
        wait_for(f"{UPDATES} updates", lambda: page.wait_for_timeout(50) or served["pages"] >= UPDATES, 60)
        page.unroute_all(behavior="ignoreErrors")
        after = page.evaluate(STATE)
        for part in ["focus", "typed", "selection", "open"]:
            check(after[part], before[part], f"{part} survives {UPDATES} updates")
        kept = page.evaluate("document.querySelector('main tbody').contains(window.kept)")
        check(kept, True, f"rows are the same elements after {UPDATES} updates")


main()
