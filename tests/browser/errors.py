"""Very many failed jobs of three kinds are three rows; one of them is run again as a whole, and its row falls live."""

import os
import pathlib
import re

from api import get, submit_lines, wait_for
from chromium import chromium, visit
from stage import check

JOBS = int(os.environ["CRUNCH_JOBS"])
KINDS = ["disk 7 is full", "no route to host 10.0.0.1", "record 12 has no key"]
# With this file the jobs succeed.
MENDED = pathlib.Path("mended").absolute()
# Long enough for as many jobs in a build without optimization.
LIMIT_S = 150

# Keeps each number that a viewer of the row sees.
WATCH = """(cell) => {
  window.seen = [cell.textContent];
  setInterval(() => seen.at(-1) === cell.textContent || seen.push(cell.textContent), 50);
}"""


def number(text):
    """The number in a text, whatever separates its digits."""
    return int(re.sub(r"\D", "", text) or 0)


def groups():
    """How many jobs of each kind have failed."""
    return [int(group["failed_jobs"]) for group in get("/errors")["items"]]


def fail_all():
    """Submits the jobs, in bodies of lines, and waits until all have failed."""
    for start in range(0, JOBS, 10_000):
        numbers = range(start, min(start + 10_000, JOBS))
        payloads = [{"message": KINDS[at % 3], "until": str(MENDED)} for at in numbers]
        submit_lines([{"task": "fail", "payload": payload} for payload in payloads])
    wait_for("all jobs have failed", lambda: sum(groups()) == JOBS, LIMIT_S)


def run_again(page, row, expected):
    """Runs all jobs of a row again, by what its button asks."""
    row.get_by_role("link", name="Retry").click()
    check(number(page.locator(".lead strong").inner_text()), expected, "the question has the exact number")
    page.get_by_label("Type the number").fill(str(expected))
    MENDED.touch()
    page.locator("form.confirm button").click()
    while page.get_by_role("button", name="Go on").count():
        page.get_by_role("button", name="Go on").click()


def main():
    fail_all()
    with chromium() as browser, visit(browser) as visitor:
        watched, acting = visitor.open("/errors"), visitor.open("/errors")
        check(watched.locator("tbody tr").count(), 3, f"{JOBS} failed jobs of three kinds are three rows")
        watched.evaluate("window.sameDocument = true")
        watched.bring_to_front()
        row = acting.locator("tbody tr").filter(has_text=KINDS[0].split()[0])
        expected = (JOBS + 2) // 3
        live = watched.locator("tbody tr").filter(has_text=KINDS[0].split()[0]).locator("td.number").first
        check(number(live.inner_text()), expected, "the row has the exact number")
        live.evaluate(WATCH)
        run_again(acting, row, expected)

        def seen():
            return [number(text) for text in watched.evaluate("window.seen")]

        wait_for("the row has fallen to zero", lambda: seen()[-1] == 0, LIMIT_S)
        check(seen(), sorted(set(seen()), reverse=True), "the row only falls")
        check(len(seen()) > 2, True, f"it falls while it is looked at: {seen()}")
        check(watched.evaluate("window.sameDocument"), True, "the page was not loaded again")
        check(watched.locator("tbody tr").count(), 3, "the other rows are still there")


main()
