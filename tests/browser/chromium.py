"""A headless Chromium that visits the dashboard, and reports what no page may cause: scripts that come from data,
violations of the policy of content, errors of the page's own script."""

import contextlib
import os
import shutil

from playwright.sync_api import sync_playwright
from stage import URL

DASHBOARD = f"{URL}/dashboard"
# Longer than a page takes on a busy machine.
TIMEOUT_MS = 20_000
# Every violation of the policy is reported to this script, wherever the page goes next.
REPORT_VIOLATIONS = """addEventListener('securitypolicyviolation', (event) =>
  reportViolation(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}, on ${location}`));"""


@contextlib.contextmanager
def chromium():
    """Starts the installed Chromium, and ends it."""
    names = ["chromium", "chromium-browser", "google-chrome"]
    path = os.environ.get("CRUNCH_CHROMIUM") or next(filter(None, map(shutil.which, names)))
    with sync_playwright() as playwright:
        # Its sandbox does not work for root.
        browser = playwright.chromium.launch(executable_path=path, chromium_sandbox=os.geteuid() != 0)
        try:
            yield browser
        finally:
            browser.close()


class Visitor:
    """One person's browser window."""

    def __init__(self, browser, **options):
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(TIMEOUT_MS)
        self.trouble = []
        self.context.expose_binding("reportViolation", lambda _, text: self.trouble.append(text))
        self.context.add_init_script(REPORT_VIOLATIONS)

    def open(self, path="", expected=200):
        """Opens a page of the dashboard in a new tab."""
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.trouble.append(str(error)))
        page.on("dialog", lambda dialog: (self.trouble.append(dialog.message), dialog.dismiss()))
        self.visit(page, path, expected)
        return page

    def visit(self, page, path, expected=200):
        """Opens another page in a tab."""
        response = page.goto(f"{DASHBOARD}{path}")
        if response.status != expected:
            raise SystemExit(f"{path}: {response.status}\n{page.inner_text('body')}")

    def close(self):
        """Ends the visit; nothing may have gone wrong in it."""
        self.context.close()
        if self.trouble:
            raise SystemExit("\n".join(self.trouble))


@contextlib.contextmanager
def visit(browser, **options):
    """A visit during which nothing may go wrong."""
    visitor = Visitor(browser, **options)
    yield visitor
    visitor.close()
