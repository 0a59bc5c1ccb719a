#!/usr/bin/env python3
"""A child in plain Python 3: the main thread runs one job at a time, another thread reads messages.

The argument, if there is one, is a prefix for the names of its tasks. The Python package does this, and more, for you.
"""
import json, os, queue, sys, threading, traceback

incoming, outgoing = open(int(os.environ["CRUNCH_IN_FD"]), "rb"), open(int(os.environ["CRUNCH_OUT_FD"]), "wb")
for pipe in incoming, outgoing:
    os.set_inheritable(pipe.fileno(), False)  # programs that a task starts do not get the pipes
prefix = "".join(sys.argv[1:])
jobs, sending = queue.SimpleQueue(), threading.Lock()


class Failed(Exception):
    """Raised by a task to choose the error of its job. Other exceptions fail the job too, and it is tried again."""


def echo(job):
    return job["payload"], job["content_type"]

def fail(job):
    raise Failed({"code": "on_purpose", "message": "this task always fails", "retryable": False})

def wait(job):
    while not job["canceled"].wait(0.1):
        answer(job, "progress", progress=0.5, message="waiting to be canceled")
    raise Failed({"code": "canceled", "message": "stopped, because the job was canceled"})

def log(job):
    print(job["payload"].decode(errors="replace"), flush=True)
    return b"null", "application/json"


def send(type, body=None, **members):
    message = {"type": type, **members} | ({} if body is None else {"body": len(body)})
    with sending:
        outgoing.write(json.dumps(message).encode() + b"\n" + (body or b""))
        outgoing.flush()

def answer(job, type, body=None, **members):
    send(type, body, id=job["id"], epoch=job["epoch"], **members)

def run(job):
    try:
        result, content_type = tasks[job["task"]](job)
        answer(job, "done", result, content_type=content_type)
    except Failed as error:
        answer(job, "failed", error=error.args[0])
    except Exception as error:
        traceback.print_exc()
        answer(job, "failed", error={"message": repr(error)})

def read():
    job = None
    while (line := incoming.readline()).endswith(b"\n"):
        message = json.loads(line)
        body = incoming.read(message.get("body", 0))
        if len(body) < message.get("body", 0):
            break
        if message["type"] == "job":
            job = message | {"payload": body, "canceled": threading.Event()}
            jobs.put(job)
        elif message["type"] == "cancel" and job and (message["id"], message["epoch"]) == (job["id"], job["epoch"]):
            job["canceled"].set()
        elif message["type"] == "ping":
            send("pong")
        elif message["type"] == "drain":
            jobs.put(None)
    os._exit(0)  # The worker is gone, or does not need this child: nobody reads an answer


accepts = ["application/json", "application/octet-stream", "text/plain"]
tasks = {prefix + task.__name__: task for task in (echo, fail, wait, log)}
declarations = json.dumps([{"name": name, "accepts": accepts, "max_payload": 1 << 20} for name in tasks]).encode()
send("hello", declarations, channel=1, sdk="child.py")
threading.excepthook = lambda error: (sys.excepthook(*error[:3]), os._exit(1))  # nothing works without the reader
threading.Thread(target=read, daemon=True).start()
while job := jobs.get():
    run(job)
os._exit(0)  # `exit` would wait for the reader
