"""A log that streams, a queue that is paused, and a page of another site that can do neither."""

import http.server
import threading

from api import get, submit
from chromium import DASHBOARD, URL, chromium, visit
from stage import Stage, check


def stream_a_log(visitor):
    stage = Stage()
    job = submit("act", stage.payload)
    actor = stage.wait_for_handler()
    page = visitor.open(f"/jobs/{job}")
    page.evaluate("window.sameDocument = true")
    for number in range(1, 6):
        actor.send(log=f"line {number} <b>of five</b>")
        page.locator(".log .line", has_text=f"line {number} <b>of five</b>").wait_for()
    actor.send(progress=[0.5, "half of it"])
    page.get_by_text("half of it").wait_for()
    actor.send(**{"return": {"done": True}})
    page.locator(".badge.succeeded").first.wait_for()
    lines = page.locator(".log .line").all_inner_texts()
    check(lines, [f"line {number} <b>of five</b>" for number in range(1, 6)], "the log has every line once")
    check(page.evaluate("window.sameDocument"), True, "the log came without loading the page again")


def pause_a_queue(visitor):
    page = visitor.open("/queues/echo")
    page.get_by_role("button", name="Pause").click()
    page.locator("h1 .badge.paused").wait_for()
    check(get("/queues/echo")["paused"], True, "the queue is paused")
    page.get_by_role("button", name="Resume").click()
    page.locator("h1 .badge.paused").wait_for(state="detached")
    check(get("/queues/echo")["paused"], False, "the queue is resumed")


class Attacker(http.server.BaseHTTPRequestHandler):
    """A page that sends a form to the dashboard as soon as it is opened."""

    def do_GET(self):
        action = f"{DASHBOARD}/queues/echo/pause"
        page = f'<form method="post" action="{action}"></form><script>document.forms[0].submit()</script>'
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(page.encode())

    def log_message(self, *_):
        pass


def attack(browser):
    """Opens the attacker's page under the dashboard's own host name, and under another."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Attacker)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for host in ["127.0.0.1", "localhost"]:
        context = browser.new_context()
        page = context.new_page()
        with page.expect_response(lambda answer: answer.url.startswith(URL)) as answer:
            page.goto(f"http://{host}:{server.server_port}/", wait_until="commit")
        check(answer.value.status, 403, f"a form of a page on {host}, of another origin, is refused")
        context.close()
    check(get("/queues/echo")["paused"], False, "the queue is not paused")
    server.shutdown()


def main():
    with chromium() as browser:
        with visit(browser) as visitor:
            submit("echo", 1)
            stream_a_log(visitor)
            pause_a_queue(visitor)
        attack(browser)


main()
