"""Controls handlers from a script: a job of the task `act` connects to the stage and executes its instructions."""

import json
import os
import socket

URL = os.environ["CRUNCH_URL"]
# Longer than any event takes, even on a busy machine.
TIMEOUT_S = 30


class Stage:
    """A listener that the handlers connect to."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(TIMEOUT_S)

    @property
    def payload(self):
        """Returns the payload of a job that connects here."""
        host, port = self.listener.getsockname()
        return {"stage": f"{host}:{port}"}

    def wait_for_handler(self):
        """Waits for the next run to start."""
        connection, _ = self.listener.accept()
        return Actor(connection)


class Actor:
    """One run of a job, waiting for instructions."""

    def __init__(self, connection):
        connection.settimeout(TIMEOUT_S)
        self.connection = connection
        self.lines = connection.makefile("r")
        self.id = json.loads(self.lines.readline())["id"]

    def send(self, **act):
        """Sends one instruction: `progress=[0.5, "half"]`, `log="line"`, `return`, `fail`, `fail_for_good`."""
        self.connection.sendall((json.dumps(act) + "\n").encode())

    def wait_for_stop_request(self):
        """Waits until the handler reports that it was asked to stop."""
        assert self.lines.readline() == "stop\n"


def check(value, expected, what):
    """Ends the script if the values differ."""
    if value != expected:
        raise SystemExit(f"{what}: {value!r} instead of {expected!r}")
    print(f"ok: {what}")
