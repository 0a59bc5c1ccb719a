"""A stage: where the task `act` calls to be told what to do, so that a script decides when a job moves and how it ends."""

import json
import os
import socket

URL = os.environ["CRUNCH_URL"]
# No event takes this long, not even on a machine that does other things.
PATIENCE = 30


class Stage:
    """Listens for handlers."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(PATIENCE)

    @property
    def payload(self):
        """Of a job that acts here."""
        host, port = self.listener.getsockname()
        return {"stage": f"{host}:{port}"}

    def enters(self):
        """The next run that starts."""
        connection, _ = self.listener.accept()
        return Actor(connection)


class Actor:
    """One run of a job, waiting for instructions."""

    def __init__(self, connection):
        connection.settimeout(PATIENCE)
        self.connection = connection
        self.lines = connection.makefile("r")
        self.id = json.loads(self.lines.readline())["id"]

    def told(self, **act):
        """Gives one instruction: `progress=[0.5, "half"]`, `log="line"`, `return`, `fail`, `fail_for_good`."""
        self.connection.sendall((json.dumps(act) + "\n").encode())

    def is_asked_to_stop(self):
        """Waits for it."""
        assert self.lines.readline() == "stop\n"


def check(value, expected, what):
    """Ends the script if they differ."""
    if value != expected:
        raise SystemExit(f"{what}: {value!r} instead of {expected!r}")
    print(f"ok: {what}")
