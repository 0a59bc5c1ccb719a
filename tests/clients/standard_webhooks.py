"""standardwebhooks (Python) as receiver: it takes every message of ours, with either secret, and none that was touched."""

import os
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from stage import PATIENCE, URL, Stage, check

# The API signs with both, as while a secret is changed.
SECRETS = os.environ["CRUNCH_WEBHOOK_SECRETS"].split(",")
CALLS = queue.Queue()


class Receiver(BaseHTTPRequestHandler):
    """Keeps what came; refuses the first attempt, so that each message comes twice."""

    refused = False

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        code = 204 if Receiver.refused else 500
        Receiver.refused = not Receiver.refused
        self.send_response(code)
        self.end_headers()
        CALLS.put((dict(self.headers), body))

    def log_message(self, *_):
        """Nothing."""


def refuses(secret, body, headers):
    try:
        Webhook(secret).verify(body, headers)
    except WebhookVerificationError:
        return True
    return False


def told(kind, job):
    """Both attempts of one message."""
    headers, body = CALLS.get(timeout=PATIENCE)
    again, body_again = CALLS.get(timeout=PATIENCE)
    for secret in SECRETS:
        message = Webhook(secret).verify(body, headers)
        check((message["type"], message["data"]["id"]), (kind, job), f"{kind} is verified with {secret[:10]}…")
        check(Webhook(secret).verify(body_again, again), message, "and so is the second attempt")
    check(again["webhook-id"], headers["webhook-id"], "both have one id")
    check(refuses(SECRETS[0], body.replace(job.encode(), b"0" * len(job)), headers), True, "another body is refused")
    check(refuses(SECRETS[0], body, {**headers, "webhook-id": "other"}), True, "another id is refused")
    check(refuses("whsec_" + "A" * 32, body, headers), True, "another secret is refused")
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
    stage.enters().told(**{"return": "ü"})
    check(told("job.succeeded", job)["data"]["result"], "ü", "the message brings the result")
    job = submit()
    stage.enters().told(fail_for_good="out of luck")
    check(told("job.failed", job)["data"]["error"]["message"], "out of luck", "the message says why")
    job = submit(delay_ms=3_600_000)
    httpx.post(f"{URL}/jobs/{job}/cancel")
    check(told("job.canceled", job)["data"]["status"], "canceled", "the message says so")


main()
