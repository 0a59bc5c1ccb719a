"""standardwebhooks (Python) as receiver: it accepts every message of Crunch, with either secret, and none that was altered."""

import os
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from stage import TIMEOUT_S, URL, Stage, check

# The API signs with both, as during the rotation of a secret.
SECRETS = os.environ["CRUNCH_WEBHOOK_SECRETS"].split(",")
REQUESTS = queue.Queue()


class Receiver(BaseHTTPRequestHandler):
    """Stores each request; fails every first attempt, so that each message arrives twice."""

    failed = False

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        code = 204 if Receiver.failed else 500
        Receiver.failed = not Receiver.failed
        self.send_response(code)
        self.end_headers()
        REQUESTS.put((dict(self.headers), body))

    def log_message(self, *_):
        """Logs nothing."""


def rejects(secret, body, headers):
    try:
        Webhook(secret).verify(body, headers)
    except WebhookVerificationError:
        return True
    return False


def receive(kind, job):
    """Receives and checks both attempts of one message; returns the message."""
    headers, body = REQUESTS.get(timeout=TIMEOUT_S)
    again, body_again = REQUESTS.get(timeout=TIMEOUT_S)
    for secret in SECRETS:
        message = Webhook(secret).verify(body, headers)
        check((message["type"], message["data"]["id"]), (kind, job), f"{kind} is verified with {secret[:10]}…")
        check(Webhook(secret).verify(body_again, again), message, "the second attempt is verified too")
    check(again["webhook-id"], headers["webhook-id"], "both attempts have the same id")
    check(rejects(SECRETS[0], body.replace(job.encode(), b"0" * len(job)), headers), True, "another body is rejected")
    check(rejects(SECRETS[0], body, {**headers, "webhook-id": "other"}), True, "another id is rejected")
    check(rejects("whsec_" + "A" * 32, body, headers), True, "another secret is rejected")
    return message


def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stage = Stage()
    host, port = server.server_address
    webhook = {"url": f"http://{host}:{port}/hook"}

    def submit(**options):
        return httpx.post(f"{URL}/jobs", json={"task": "act", "payload": stage.payload, "webhook": webhook, **options}).json()["id"]

    job = submit()
    stage.wait_for_handler().send(**{"return": "ü"})
    check(receive("job.succeeded", job)["data"]["result"], "ü", "the message contains the result")
    job = submit()
    stage.wait_for_handler().send(fail_for_good="out of luck")
    check(receive("job.failed", job)["data"]["error"]["message"], "out of luck", "the message contains the error")
    job = submit(delay_ms=3_600_000)
    httpx.post(f"{URL}/jobs/{job}/cancel")
    check(receive("job.canceled", job)["data"]["status"], "canceled", "the message contains the status")


main()
