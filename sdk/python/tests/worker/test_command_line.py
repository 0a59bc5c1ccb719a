"""`python -m crunch`, started by a person."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from .conftest import CHILDREN

if sys.version_info >= (3, 11):
    import tomllib


def crunch(
    *arguments: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "crunch", *arguments],
        env={**os.environ, **(env or {})},
        cwd=CHILDREN,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_it_explains_how_to_start_it() -> None:
    finished = crunch("functions")
    assert finished.returncode == 2
    assert 'command = ["python' in finished.stderr
    assert '"-m", "crunch", "functions"]' in finished.stderr
    assert "python -m crunch worker functions" in finished.stderr
    assert '"mytasks"' in crunch().stderr


def test_it_lists_tasks() -> None:
    finished = crunch("--list", "crunch.check_tasks", "mixed")
    assert finished.returncode == 0, finished.stderr
    lines = finished.stdout.splitlines()
    assert lines[0] == "echo: Returns its payload unchanged."
    assert '    accepts: ["application/json"]' in lines
    assert '    payload_schema: {"type": "integer"}' in lines
    assert "triple" in lines
    assert crunch("--list").returncode == 2
    missing = crunch("--list", "nonexistent")
    assert missing.returncode == 1
    assert "ModuleNotFoundError: No module named 'nonexistent'" in missing.stderr
    assert f"It was looked for in {CHILDREN}" in missing.stderr


def test_what_is_wrong_with_a_module_is_shown_without_the_frames_of_this_package(
    tmp_path: Path,
) -> None:
    (tmp_path / "broken.py").write_text("import crunch\n\nopen('/no/such/file')\n")
    (tmp_path / "empty.py").write_text("")
    env = {"PYTHONPATH": str(tmp_path)}
    broken, empty = (crunch("worker", name, env=env) for name in ("broken", "empty"))
    assert (broken.returncode, empty.returncode) == (1, 1)
    lines = broken.stderr.splitlines()
    assert lines[0] == "python -m crunch: the tasks cannot be loaded:"
    assert lines[1] == f'  File "{tmp_path}/broken.py", line 3, in <module>'
    assert "FileNotFoundError" in lines[-1]
    assert len(empty.stderr.splitlines()) == 2, empty.stderr


@pytest.fixture
def bin_directory(tmp_path: Path) -> Path:
    """A directory with a program that prints how it was called, in the place of the worker."""
    directory = tmp_path / "bin"
    directory.mkdir()
    program = directory / "crunch-worker"
    program.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\ncat "$2"\n')
    program.chmod(0o755)
    return directory


def test_it_starts_a_worker(bin_directory: Path, tmp_path: Path) -> None:
    env = {"PATH": f"{bin_directory}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    arguments = ["--processes", "3", "--inherit-env", "LICENSE", "functions", "mixed"]
    finished = crunch("worker", *arguments[:-1], "--", "--name", "w", env=env)
    assert finished.returncode == 0, finished.stderr
    option, path, *rest = finished.stdout.splitlines()
    assert (option, rest[:2]) == ("--tasks", ["--name", "w"])
    directory = Path(path).parent
    assert directory.parent == tmp_path
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    if sys.version_info >= (3, 11):
        tasks = tomllib.loads(Path(path).read_text())
        (server,) = tasks["server"]
        assert tasks["builtin"] is False
        assert server["command"] == [sys.executable, "-m", "crunch", "functions"]
        assert server["cwd"] == str(CHILDREN)
        assert server["processes"] == 3
        assert "LICENSE" in server["inherit_env"]
    again = crunch("worker", *arguments[:-1], "--", "--name", "w", env=env)
    assert again.stdout == finished.stdout
    assert list(directory.iterdir()) == [Path(path)]


def test_a_directory_of_another_user_is_not_used(bin_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"crunch-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    env = {"PATH": f"{bin_directory}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    finished = crunch("worker", "functions", env=env)
    assert finished.returncode == 1
    assert "is not a directory of this user" in finished.stderr


def test_a_missing_worker_is_reported_with_what_to_install(tmp_path: Path) -> None:
    finished = crunch("worker", "functions", env={"PATH": str(tmp_path)})
    assert finished.returncode == 1
    assert "no program 'crunch-worker'" in finished.stderr
    assert "pip install ./worker" in finished.stderr


@pytest.mark.parametrize("processes", ["0", "257", "x"])
def test_wrong_processes_are_rejected(processes: str) -> None:
    finished = crunch("worker", "--processes", processes, "functions")
    assert finished.returncode == 2
    assert f"{processes!r} is not from 1 to 256" in finished.stderr


def test_a_module_that_cannot_be_imported_is_shown_before_a_worker_starts() -> None:
    finished = crunch("worker", "nonexistent")
    assert finished.returncode == 1
    assert "No module named 'nonexistent'" in finished.stderr
