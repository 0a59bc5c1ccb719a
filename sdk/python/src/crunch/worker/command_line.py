"""`python -m crunch` by hand: explains itself, lists tasks, or starts a worker."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import stat
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from crunch.worker.child import load
from crunch.worker.declaration import Task

MAX_PROCESSES: Final = 256
"""The most children that a server may have."""
WORKER: Final = "crunch-worker"

_INTRODUCTION: Final = """\
python -m crunch runs the tasks of Python modules for a Crunch worker. The worker starts it; started
by hand it has nothing to do. Either let it start a worker for the modules:

    python -m crunch worker {modules}

or write this into the file of tasks of a worker (crunch-worker --tasks tasks.toml):

    [[server]]
    command = ["{python}", "-m", "crunch", {quoted}]
    processes = 4

To see which tasks the modules have:

    python -m crunch --list {modules}
"""


def run_by_hand(arguments: Sequence[str]) -> int:
    """Run the command line of a person; return the exit code."""
    if arguments[:1] == ["worker"]:
        return _run_worker(arguments[1:])
    parser = argparse.ArgumentParser(
        prog="python -m crunch",
        description=_introduction(()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--list", action="store_true", help="list the tasks of the modules")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="a module, such as mytasks")
    options = parser.parse_args(arguments)
    if not options.list:
        sys.stderr.write(_introduction(options.modules))
        return 2
    if not options.modules:
        parser.error("--list needs the name of a module")
    return _list(options.modules)


def _introduction(modules: Sequence[str]) -> str:
    names = list(modules) or ["mytasks"]
    return _INTRODUCTION.format(
        modules=" ".join(names),
        python=Path(sys.executable).name,
        quoted=", ".join(json.dumps(name) for name in names),
    )


def _can_load(modules: Sequence[str]) -> bool:
    """Whether the modules can be loaded; print what is wrong with them."""
    try:
        load(modules)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        theirs = [it for it in frames if not _is_ours(it.filename)]
        lines = traceback.format_list(theirs) + traceback.format_exception_only(error)
        if isinstance(error, ModuleNotFoundError) and error.name in modules:
            lines.append(f"It was looked for in {os.getcwd()}, and where packages are installed.\n")
        sys.stderr.write("python -m crunch: the tasks cannot be loaded:\n" + "".join(lines))
        return False
    return True


def _is_ours(file: str) -> bool:
    """Whether a frame is of this package, or of the libraries by which it loads modules."""
    libraries = ("importlib/__init__.py", "functools.py")
    own = str(Path(__file__).parents[1])
    return file.startswith((own, "<frozen importlib")) or file.endswith(libraries)


def _list(modules: Sequence[str]) -> int:
    if not _can_load(modules):
        return 1
    tasks = load(modules)
    for it in tasks.values():
        print(_described(it))
    return 0


def _described(it: Task[..., Any]) -> str:
    declared = it.declaration
    description = declared["description"]
    lines = [f"{it.name}: {description}" if description else it.name]
    lines += [
        f"    {member}: {value if isinstance(value, str) else json.dumps(value)}"
        for member, value in declared.items()
        if member not in ("name", "description")
    ]
    return "\n".join(lines)


def _run_worker(arguments: Sequence[str]) -> int:
    own, rest = list(arguments), []
    if "--" in own:
        at = own.index("--")
        own, rest = own[:at], own[at + 1 :]
    options = _worker_parser().parse_args(own)
    # A mistake in a module is shown here, not in the log of a worker.
    if not _can_load(options.modules):
        return 1
    program = _find_worker()
    if program is None:
        sys.stderr.write(
            f"python -m crunch worker: no program {WORKER!r} in {sysconfig.get_path('scripts')} "
            "nor in PATH. Install it into this environment from a clone of Crunch "
            "(pip install ./worker), or for this user (cargo install --path worker).\n"
        )
        return 1
    file = _written(_tasks_file(options))
    sys.stdout.flush()
    command = [str(program), "--tasks", str(file), *rest]
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


def _worker_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m crunch worker",
        description=f"Starts {WORKER} with the tasks of Python modules. Its options follow --:\n"
        "\n    python -m crunch worker mytasks -- --redis-url redis://127.0.0.1:16379/",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--processes", type=_processes, help="how many processes run the tasks; default: the CPUs"
    )
    parser.add_argument(
        "--inherit-env",
        action="append",
        default=[],
        metavar="NAME",
        help="a variable of this environment that tasks get; may be repeated",
    )
    parser.add_argument("modules", nargs="+", metavar="MODULE", help="a module, such as mytasks")
    return parser


def _processes(text: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_PROCESSES:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not from 1 to {MAX_PROCESSES}")


def _find_worker() -> Path | None:
    """Return the worker of this environment, else the one in PATH."""
    here = Path(sysconfig.get_path("scripts")) / WORKER
    if os.access(here, os.X_OK):
        return here
    found = shutil.which(WORKER)
    return None if found is None else Path(found)


def _tasks_file(options: argparse.Namespace) -> str:
    # JSON strings and lists are TOML too.
    command = json.dumps([sys.executable, "-m", "crunch", *options.modules], ensure_ascii=False)
    inherited = dict.fromkeys(["PYTHONPATH", "PYTHONHOME", *options.inherit_env])
    lines = [
        "# Written by python -m crunch worker.",
        "builtin = false",
        "",
        "[[server]]",
        f"command = {command}",
        f"cwd = {json.dumps(os.getcwd(), ensure_ascii=False)}",
        f"inherit_env = {json.dumps(list(inherited))}",
    ]
    if options.processes is not None:
        lines.append(f"processes = {options.processes}")
    return "\n".join(lines) + "\n"


def _written(text: str) -> Path:
    """Write the file of tasks to a directory of this user; return its path.

    This process becomes the worker, so the file is not deleted. Its name depends on its content:
    the same call uses the same file, and they do not accumulate.
    """
    directory = Path(tempfile.gettempdir()) / f"crunch-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise PermissionError(f"{directory} is not a directory of this user")
    file = directory / f"tasks-{hashlib.sha256(text.encode()).hexdigest()[:16]}.toml"
    fd, name = tempfile.mkstemp(dir=directory)
    with open(fd, "w", encoding="utf-8") as new:
        new.write(text)
    Path(name).replace(file)
    return file
