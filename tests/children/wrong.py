#!/usr/bin/env python3
"""Children that are wrong on purpose, for tests of the worker and of `crunch-worker check-channel`.

    wrong.py [--prefix P] [--once FILE] FAULT [ARGUMENT]
    wrong.py --list

Each fault changes one thing in a correct child, which `correct.py` describes. A fault during a job happens in jobs of
the task `a` only: the others are neighbours that must not be affected, as far as the child survives.

A child ends when its input ends. Where the fault prevents this, it ends after two minutes, by an alarm.
"""

import argparse
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time

from correct import Child, echo
from quantities import allocate, creates, endlessly, flood, read_file, slowly, write_file

# Longer than every limit of the worker that a test waits for, and soon enough after a test that was killed.
LIFE_S = 120
MIB = 1 << 20
GIB = 1 << 30
# The limits of the specification.
MAX_LINE = 64 * 1024
MAX_HELLO = 4 * MIB
# What no child may name as a result. If a worker deletes it all the same, version control has it.
OUTSIDE = os.path.abspath(__file__)


class Faults:
    """Each changes a child before it starts. `child.argument` is the ARGUMENT, or None."""

    # The first message

    def none(child):
        """Nothing is wrong."""

    def no_hello(child):
        """Sends no hello, and is silent."""
        child.hello = ignore

    def pong_before_hello(child):
        """The first message is a pong."""
        change_hello(child, before=b'{"type":"pong"}\n')

    def hello_other_version(child):
        """The hello has `"channel":2`."""
        change_hello(child, channel=2)

    def hello_not_json(child):
        """The first line is text."""
        change_hello(child, before=b"ready\n")

    def hello_twice(child):
        """Sends the hello twice."""
        hello = child.hello
        child.hello = lambda: (hello(), hello())

    def hello_body_too_long(child):
        """The body of the hello has one byte more than 4 MiB, most of them spaces."""
        child.hello = lambda: child.send({"type": "hello", "channel": 1}, b"[]" + b" " * (MAX_HELLO - 1))

    def hello_without_body_bytes(child):
        """Declares one byte more than the body of the hello has, and waits."""
        child.hello = lambda: child.write(b'{"type":"hello","channel":1,"body":3}\n[]')

    def hello_body_not_json(child):
        """The body of the hello is text."""
        child.hello = lambda: child.send({"type": "hello", "channel": 1}, b"a, b")

    def task_twice(child):
        """Declares a task twice."""
        declared = child.declaration()
        child.declaration = lambda: [*declared, declared[0]]

    def task_bad_name(child):
        """Declares a task whose name has spaces and capitals."""
        declared = child.declaration()
        child.declaration = lambda: [*declared, {"name": "Not A Name"}]

    def declares_differently(child):
        """The first child that adds a byte to the file ARGUMENT declares `a`, the others declare `b`."""
        with open(child.argument, "ab", buffering=0) as counter:
            counter.write(b".")
            name = "a" if counter.tell() == 1 else "b"
        child.declaration = lambda: [{"name": task} for task in child.tasks if task.endswith(name)]

    def too_many_credits(child):
        """Says in the hello that it runs 100000 jobs at once."""
        child.concurrency = 100_000

    def negative_credit(child):
        """Says after the hello that it runs -1 jobs at once."""
        credit_after_hello(child, -1)

    def zero_credit(child):
        """Says after the hello that it runs no jobs, which is allowed."""
        credit_after_hello(child, 0)

    def exits_before_hello(child):
        """Writes a line to standard error instead of the hello, and exits with 3."""
        child.hello = lambda: (os.write(2, b"cannot start\n"), os._exit(3))

    def bye(child):
        """Sends a bye with a reason instead of the hello, and exits with 1."""
        child.hello = lambda: (child.send({"type": "bye", "reason": "the model is missing"}), os._exit(1))

    # Answers

    def two_answers(child):
        """Answers twice."""
        in_a(child, lambda job: (echo(job), job.done(b'"the second answer"')))

    def answer_old_epoch(child):
        """Answers for the epoch before, then for the right one."""
        in_a(child, lambda job: (other_answer(job, epoch=job.key["epoch"] - 1), echo(job)))

    def answer_unknown_job(child):
        """Answers a job that does not exist, then the right one."""
        in_a(child, lambda job: (other_answer(job, id="unknown"), echo(job)))

    def result_too_large(child):
        """The result has one byte more than the worker's `max_result`."""
        in_a(child, lambda job: job.done(b'"' + b"x" * (child.max_result - 1) + b'"'))

    def result_not_json(child):
        """The result is text, and declared as JSON."""
        in_a(child, lambda job: job.done(b"not JSON", content_type="application/json"))

    def error_bad_code(child):
        """Fails with a code that has spaces and capitals."""
        in_a(child, lambda job: job.send("failed", error={"code": "Not A Code", "message": "failed"}))

    def error_too_long(child):
        """Fails with a message of 20000 bytes, four a character."""
        in_a(child, lambda job: job.send("failed", error={"message": "\U0001f600" * 5000}))

    def failed_without_error(child):
        """Fails without an error."""
        in_a(child, lambda job: job.send("failed"))

    def progress_out_of_range(child):
        """Reports the progress 7.5, then -1, then answers."""
        in_a(child, lambda job: (job.send("progress", progress=7.5), job.send("progress", progress=-1), echo(job)))

    def done_by_file_outside(child):
        """The result is a file outside of the child's directory: ARGUMENT, by default `wrong.py`."""
        in_a(child, lambda job: job.send("done", file=child.argument or OUTSIDE, content_type="text/plain"))

    def done_by_file_dotdot(child):
        """The same file, by a path that begins with the child's directory and goes on with `..`."""
        up = "../" * os.environ.get("CRUNCH_DIR", "").count("/")
        by_file(child, up + (child.argument or OUTSIDE).lstrip("/"), ignore)

    def done_by_symlink(child):
        """The same file, by a symbolic link in the child's directory."""
        by_file(child, "link", lambda path: os.path.lexists(path) or os.symlink(child.argument or OUTSIDE, path))

    def done_by_file_missing(child):
        """The result is a file that does not exist."""
        by_file(child, "missing", ignore)

    def done_by_fifo(child):
        """The result is a named pipe, which a careless worker opens forever."""
        by_file(child, "fifo", lambda path: os.path.exists(path) or os.mkfifo(path))

    def done_by_directory(child):
        """The result is a directory."""
        by_file(child, "directory", lambda path: os.makedirs(path, exist_ok=True))

    def done_by_large_file(child):
        """The result is a sparse file of ARGUMENT bytes, by default 1 TiB."""
        by_file(child, "large", lambda path: write_file(path, size=number(child, 1024 * GIB)))

    def done_by_file_and_body(child):
        """The result is a file, and a body too."""
        path = os.path.join(os.environ.get("CRUNCH_DIR", ""), "both")
        in_a(child, lambda job: (write_file(path, b'"file"'), job.done(b'"body"', file=path)))

    def takes_files(child):
        """Takes payloads by file, which is allowed. The result is the size of the payload, in a file."""
        change_hello(child, features=["file"])
        declaration = child.declaration
        child.declaration = lambda: [{**task, "max_payload": 4 * MIB} for task in declaration()]
        on_job, path = child.on_job, os.path.join(os.environ.get("CRUNCH_DIR", ""), "size")
        payload_of = lambda message, body: read_file(message["file"]) if "file" in message else body
        child.on_job = lambda message, body: on_job(message, payload_of(message, body))
        in_a(child, lambda job: (write_file(path, str(len(job.payload)).encode()), job.send("done", file=path)))

    # What is not a message

    def wrong_length(child):
        """The body of the answer has five bytes more than declared."""
        in_a(child, lambda job: child.write(job.line("done", body=1) + b"123456"))

    def half_frame(child):
        """Declares a body of 100 bytes, writes 50 and exits with 0."""
        in_a(child, lambda job: (child.write(job.line("done", body=100) + b"x" * 50), os._exit(0)))

    def half_frame_stays(child):
        """Declares a body of 100 bytes, writes 50 and stays."""
        in_a(child, lambda job: (child.write(job.line("done", body=100) + b"x" * 50), stay()))
        stay_after_end(child)

    def half_line(child):
        """Writes half of the line of an answer and exits with 0."""
        in_a(child, lambda job: (child.write(job.line("done", body=1)[:20]), os._exit(0)))

    def nul_bytes(child):
        """Writes a line of NUL bytes, then answers."""
        before_answer(child, lambda job: bytes(16) + b"\n")

    def line_too_long(child):
        """Writes a progress in a line of one byte more than 64 KiB, then answers."""
        before_answer(child, lambda job: pad(job.line("progress", progress=0.5, message=""), MAX_LINE + 1))

    def endless_line(child):
        """Writes ARGUMENT bytes without a line feed, by default 1 GiB, then answers."""
        in_a(child, lambda job: (flood(child.outgoing, b"x" * MIB, number(child, GIB)), echo(job)))

    def not_object(child):
        """Writes a list, then answers."""
        before_answer(child, lambda job: b'["done"]\n')

    def not_utf8(child):
        """Writes a progress whose message is not UTF-8, then answers."""
        before_answer(child, lambda job: job.line("progress", progress=0.5, message="").replace(b'""', b'"\xff\xfe"'))

    def no_type(child):
        """Writes an object without a type, then answers."""
        before_answer(child, lambda job: json.dumps(job.key).encode() + b"\n")

    def unknown_type(child):
        """Writes a message of an unknown type with a body, which is allowed, then answers."""
        before_answer(child, lambda job: b'{"type":"later","body":16}\n{"type":"done"}\n')

    def empty_line(child):
        """Writes an empty line, then answers."""
        before_answer(child, lambda job: b"\n")

    def deep_json(child):
        """Writes a progress with an unknown member that is nested 30000 times, then answers."""
        deep = b"[" * 30_000 + b"]" * 30_000
        before_answer(child, lambda job: job.line("progress", progress=0.5, deep="").replace(b'""', deep))

    def body_negative(child):
        """Declares a body of -1 bytes."""
        in_a(child, lambda job: child.write(job.line("done", body=-1)))

    def body_huge(child):
        """Declares a body of 2^63 bytes, and writes none."""
        in_a(child, lambda job: child.write(job.line("done", body=1 << 63)))

    def body_text(child):
        """Declares a body of "1" bytes, as a string, and writes one byte."""
        in_a(child, lambda job: child.write(job.line("done", body="1") + b"1"))

    def hello_again(child):
        """Sends a second hello, then answers."""
        in_a(child, lambda job: (child.hello(), echo(job)))

    # Floods

    def flood_stdout(child):
        """Prints ARGUMENT bytes in lines of 80, by default 1 GiB, then answers."""
        lines = (b"x" * 79 + b"\n") * (MIB // 80)
        in_a(child, lambda job: (flood(sys.stdout.buffer, lines, number(child, GIB)), echo(job)))

    def flood_stdout_no_newline(child):
        """Prints ARGUMENT bytes without a line feed, by default 1 GiB, then answers."""
        in_a(child, lambda job: (flood(sys.stdout.buffer, b"x" * MIB, number(child, GIB)), echo(job)))

    def flood_progress(child):
        """Reports progress ARGUMENT times without a pause, by default a million times, then answers."""
        in_a(child, lambda job: (repeat(child, job.line("progress", progress=0.5, message="again")), echo(job)))

    def flood_log(child):
        """Sends ARGUMENT messages `log` without a pause, by default a million, then answers."""
        in_a(child, lambda job: (repeat(child, job.line("log", text="again\nand again")), echo(job)))

    def flood_ping(child):
        """Sends ARGUMENT pings without a pause, by default a million, then answers. It reads no answer to them."""
        on_job, name = child.on_job, next(iter(child.tasks))
        in_a(child, lambda job: (repeat(child, b'{"type":"ping"}\n'), echo(job)))
        child.on_job = lambda job, payload: (on_job(job, payload), job["task"] == name and stay())

    def flood_credit(child):
        """Sends `credit` after the hello, and does not stop."""
        hello, lines = child.hello, b'{"type":"credit","concurrency":%d}\n'
        child.hello = lambda: (hello(), later(0, endlessly, child.write, (lines % 1 + lines % 2) * 100))

    # Ends

    def closes_pipe(child):
        """Closes its side of the channel, and stays."""
        in_a(child, lambda job: (setattr(child, "write", ignore), child.outgoing.close(), stay()))
        stay_after_end(child)

    def forks_and_holds(child):
        """Exits with 0. A grandchild in a session of its own holds the pipes, and stays."""
        in_a(child, lambda job: os._exit(0) if os.fork() else (os.setsid(), stay()))

    def leaks_background(child):
        """Starts a process in a session of its own that survives the job. The result is its id."""
        sleep = ["sleep", str(LIFE_S)]
        in_a(child, lambda job: job.done(str(subprocess.Popen(sleep, start_new_session=True).pid).encode()))

    def segfault(child):
        """Reads address 0."""
        in_a(child, lambda job: ctypes.string_at(0))

    def os_exit(child):
        """Writes a line to standard error, and exits with 7."""
        in_a(child, lambda job: (os.write(2, b"exits on purpose\n"), os._exit(7)))

    def exits_with_zero(child):
        """Exits with 0."""
        in_a(child, lambda job: os._exit(0))

    def exits_after_answer(child):
        """Answers, and exits with 7."""
        in_a(child, lambda job: (echo(job), os._exit(7)))

    def kills_itself(child):
        """Kills itself with SIGKILL. Before, it writes to the file ARGUMENT that the system has killed a process."""
        kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
        in_a(child, lambda job: (child.argument and write_file(child.argument, b"oom_kill 1\n"), kill()))

    def out_of_memory(child):
        """Allocates memory up to a limit of its own, 1 GiB, until a MemoryError ends it with 1."""
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        in_a(child, lambda job: (resource.setrlimit(resource.RLIMIT_AS, (GIB, hard)), allocate(1024 * GIB)))

    def eats_memory(child):
        """Allocates ARGUMENT bytes, by default 1 GiB, 16 MiB every 20 ms, keeps them and stays."""
        in_a(child, lambda job: (allocate(number(child, GIB), pause=0.02), stay()))

    def leaks_memory(child):
        """Each job allocates ARGUMENT bytes, by default 16 MiB, and does not free them."""
        in_a(child, lambda job: (allocate(number(child, 16 * MIB)), echo(job)))

    def loops_in_c(child):
        """Computes for minutes without giving up the interpreter lock: no other thread runs, no message is read."""
        in_a(child, lambda job: (signal.alarm(LIFE_S), pow(3, 1 << (1 << 22), (1 << 100_000) - 1)))

    # Deaf

    def ignores_term(child):
        """Ignores SIGTERM and cancel."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child.on_cancel = ignore

    def ignores_cancel(child):
        """Ignores cancel."""
        child.on_cancel = ignore

    def answers_at_term(child):
        """Ignores cancel. TERM cancels its jobs, and it exits a second later."""
        child.on_cancel = ignore
        signal.signal(signal.SIGTERM, lambda *_: ([job.canceled.set() for job in child.jobs], later(1, os._exit, 143)))

    def ignores_drain(child):
        """Ignores drain."""
        child.on_drain = ignore

    def ignores_end(child):
        """Stays when its input ends."""
        stay_after_end(child)

    def ignores_everything(child):
        """Ignores SIGTERM, cancel, drain and the end of its input."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child.on_cancel = child.on_drain = ignore
        stay_after_end(child)

    def answers_cancel_late(child):
        """Answers ARGUMENT seconds after a cancel, by default 4."""
        on_cancel = child.on_cancel
        child.on_cancel = lambda *message: later(float(child.argument or 4), on_cancel, *message)

    def no_pong(child):
        """Does not answer a ping."""
        child.on_ping = ignore

    def never_reads(child):
        """Reads nothing after its hello."""
        child.read = stay

    def slow_reader(child):
        """Reads bodies with 64 KiB a second."""
        read = child.read_body
        child.read_body = lambda size: b"".join(slowly(read, size))


FAULTS = {name: change for name, change in vars(Faults).items() if not name.startswith("_")}


def ignore(*_):
    pass


def stay():
    """Waits until the alarm."""
    signal.alarm(LIFE_S)
    while True:
        time.sleep(LIFE_S)


def stay_after_end(child):
    read = child.read
    child.read = lambda: (read(), stay())


def later(seconds, function, *arguments):
    timer = threading.Timer(seconds, function, arguments)
    timer.daemon = True
    timer.start()


def number(child, default):
    return default if child.argument is None else int(child.argument)


def change_hello(child, before=b"", **members):
    """Writes bytes before the hello, or replaces members of it."""
    hello, send = child.hello, child.send

    def changed():
        child.write(before)
        child.send = lambda message, body: send({**message, **members}, body)
        hello()
        child.send = send

    child.hello = changed


def credit_after_hello(child, concurrency):
    hello = child.hello
    child.hello = lambda: (hello(), child.send({"type": "credit", "concurrency": concurrency}))


def in_a(child, task):
    """Replaces the task `a`."""
    child.tasks[next(iter(child.tasks))] = task


def before_answer(child, data):
    in_a(child, lambda job: (child.write(data(job)), echo(job)))


def other_answer(job, **key):
    job.child.send({"type": "done", **job.key, **key}, b'"the answer of another job"')


def pad(line, size):
    """Fills the empty string in a line."""
    return line.replace(b'""', b'"' + b"x" * (size - len(line)) + b'"')


def by_file(child, name, make):
    """Answers with the file of this name in the child's directory."""
    path = os.path.join(os.environ.get("CRUNCH_DIR", ""), name)
    in_a(child, lambda job: (make(path), job.send("done", file=path, content_type="text/plain")))


def repeat(child, line):
    for _ in range(number(child, 1_000_000)):
        child.outgoing.write(line)
    child.outgoing.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prefix", default="", help="put in front of the names of the tasks")
    parser.add_argument("--once", metavar="FILE", help="only the child that creates FILE has the fault")
    parser.add_argument("--list", action="store_true", help="print the faults")
    parser.add_argument("fault", nargs="?", choices=FAULTS, metavar="FAULT", default="none")
    parser.add_argument("argument", nargs="?", metavar="ARGUMENT")
    options = parser.parse_args()
    if options.list:
        print(*(f"{name:26}{change.__doc__}" for name, change in FAULTS.items()), sep="\n")
        return
    child = Child(options.prefix)
    child.argument = options.argument
    if options.once is None or creates(options.once):
        FAULTS[options.fault](child)
    child.run()


if __name__ == "__main__":
    main()
