"""The child process: imports the tasks, sends its hello, and runs jobs until the end."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import json
import os
import sys
import traceback
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from crunch import __version__
from crunch.worker import output
from crunch.worker.batches import Batched
from crunch.worker.channel import VERSION, Channel, WorkerGoneError
from crunch.worker.declaration import Task, tasks_of, unique
from crunch.worker.files import ResultFiles
from crunch.worker.frames import ProtocolError
from crunch.worker.output import RoutedStream

IN_FD: Final = "CRUNCH_IN_FD"
OUT_FD: Final = "CRUNCH_OUT_FD"
MAX_CONCURRENCY: Final = 1024
"""The most jobs that a child may run at once."""
MAX_TASKS_BYTES: Final = 4 * 1024 * 1024
"""The longest list of tasks that a worker reads."""


def run_child(modules: Sequence[str]) -> int:
    """Run the tasks of these modules for the worker that started this process."""
    try:
        channel = _channel()
    except (ValueError, OSError) as error:
        sys.stderr.write(f"crunch: {IN_FD} and {OUT_FD} are not two open descriptors: {error}\n")
        return 1
    streams = output.install()
    if not faulthandler.is_enabled():
        # A crash in C is explained by the Python code that called it.
        faulthandler.enable(2, all_threads=False)
    with contextlib.suppress(WorkerGoneError):
        return _serve(channel, modules, streams)
    return 0


def _serve(channel: Channel, modules: Sequence[str], streams: Sequence[RoutedStream]) -> int:
    try:
        tasks = load(modules)
        output.set_up_logging()
        concurrency = _concurrency(tasks.values())
        _send_hello(channel, tasks.values(), concurrency)
    except KeyboardInterrupt:
        return 130
    except BaseException as error:  # A module may raise SystemExit.
        return _send_bye(channel, error)
    # What was imported stays: the collector need not look at it again.
    gc.freeze()
    try:
        return _run(channel, tasks, streams, concurrency)
    except ProtocolError as error:
        channel.send({"type": "bye", "reason": f"the worker sent {error}"})
        return 1
    except KeyboardInterrupt:
        return 130


def _channel() -> Channel:
    """Open the channel. What handlers start inherits neither its variables nor its pipes."""
    in_fd, out_fd = int(os.environ.pop(IN_FD, "")), int(os.environ.pop(OUT_FD, ""))
    for fd in (in_fd, out_fd):
        os.fstat(fd)
    return Channel(in_fd, out_fd)


def load(modules: Sequence[str]) -> dict[str, Task[..., Any]]:
    """Import modules; return their tasks by name."""
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    if not modules:
        raise ValueError("no module is named: python -m crunch MODULE")
    tasks: list[Task[..., Any]] = []
    for name in modules:
        if name.endswith(".py"):
            raise ValueError(f"name the module, not its file: {name.removesuffix('.py')}")
        module = importlib.import_module(name)
        found = tasks_of(name, vars(module))
        if not found:
            raise ValueError(f"module {name!r} has no task: decorate a function with @crunch.task")
        tasks += [it for it in found if it not in tasks]
    for it in tasks:
        _ = it.declaration  # Raises what is wrong with its hints.
    return unique(tasks)


def _concurrency(tasks: Collection[Task[..., Any]]) -> int:
    """Return how many jobs run at once: one, if a function would keep the others waiting."""
    batches = [it.batches for it in tasks if it.batches is not None]
    concurrency = _concurrency_of_coroutines(batches) if _all_async(tasks) else 1
    for it in batches:
        # More jobs are never there at once.
        it.most = min(it.most, concurrency)
    return concurrency


def _concurrency_of_coroutines(batches: Iterable[Batched]) -> int:
    from crunch.worker.concurrent import DEFAULT_CONCURRENCY

    most = max([DEFAULT_CONCURRENCY, *(it.most for it in batches)])
    wanted = os.environ.get("CRUNCH_CONCURRENCY", str(most))
    if not wanted.isascii() or not wanted.isdigit() or not 1 <= int(wanted) <= MAX_CONCURRENCY:
        raise ValueError(f"CRUNCH_CONCURRENCY: {wanted!r} is not from 1 to {MAX_CONCURRENCY}")
    return int(wanted)


def _send_hello(channel: Channel, tasks: Iterable[Task[..., Any]], concurrency: int) -> None:
    declared = [it.declaration for it in tasks]
    body = json.dumps(declared, separators=(",", ":"), ensure_ascii=False).encode()
    if len(body) > MAX_TASKS_BYTES:
        raise ValueError(f"the tasks have {len(body)} bytes as JSON, more than {MAX_TASKS_BYTES}")
    hello = {
        "type": "hello",
        "channel": VERSION,
        "sdk": f"python/{__version__}",
        "concurrency": concurrency,
        "features": ["file"],
        "body": len(body),
    }
    channel.send(hello, body)


def _send_bye(channel: Channel, error: BaseException) -> int:
    traceback.print_exception(error)
    output.flush()
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    channel.send({"type": "bye", "reason": " ".join(reason.split())[:1000]})
    return 1


def _run(
    channel: Channel,
    tasks: Mapping[str, Task[..., Any]],
    streams: Sequence[RoutedStream],
    concurrency: int,
) -> int:
    files = ResultFiles(os.environ.get("CRUNCH_DIR"))
    if not _all_async(tasks.values()):
        from crunch.worker.serial import SerialRuntime

        return SerialRuntime(channel, tasks, files).run()
    from crunch.worker.concurrent import ConcurrentRuntime

    # What a child prints that runs one job at a time belongs to that job without our help.
    routed = streams if concurrency > 1 else []
    runtime = ConcurrentRuntime(channel, tasks, files, routed)
    for stream in routed:
        stream.route = runtime.log
    return runtime.run()


def _all_async(tasks: Iterable[Task[..., Any]]) -> bool:
    return all(it.is_async for it in tasks)
