"""The handler of the task `staged`: connects to the test that its payload names, and obeys.

Lines of the test: `{"progress": [0.5, "half"]}`, `{"log": "line"}`, `{"return": value}`,
`{"fail": [code, message, retryable]}`. It writes to the test when it starts, and when it must stop.
"""

import json
import os
import signal
import socket
import sys
from typing import Any


def main() -> None:
    payload = json.load(sys.stdin)
    events = open(int(os.environ["CRUNCH_EVENTS_FD"]), "w", buffering=1)  # noqa: SIM115
    stage = socket.create_connection(("127.0.0.1", payload["stage"]))

    def stop(*_: Any) -> None:
        stage.sendall(b'"stop"\n')
        sys.exit(1)

    # Before the test knows that the handler runs, and may cancel its job.
    signal.signal(signal.SIGTERM, stop)
    started = {"attempt": int(os.environ["CRUNCH_ATTEMPT"])}
    stage.sendall(json.dumps(started).encode() + b"\n")
    for line in stage.makefile("r"):
        act = json.loads(line)
        if "progress" in act:
            progress, message = act["progress"]
            print(json.dumps({"progress": progress, "message": message}), file=events)
        elif "log" in act:
            print(act["log"], file=sys.stderr, flush=True)
        elif "fail" in act:
            code, message, retryable = act["fail"]
            error = {"code": code, "message": message, "retryable": retryable}
            print(json.dumps({"error": error}), file=events)
            sys.exit(1)
        else:
            json.dump(act["return"], sys.stdout)
            return
    sys.exit("the test is gone")


main()
