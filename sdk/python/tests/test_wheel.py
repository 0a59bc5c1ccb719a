"""A new environment, one `pip install`, and the tasks of the READMEs run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from crunch.client import Client

from .client.stack import Stack

SDK = Path(__file__).parents[1]
ROOT = SDK.parents[1]
RESULT_TIMEOUT_S = 60


def test_an_environment_with_both_wheels_runs_the_tasks_of_the_readmes(
    binaries: Path, tmp_path: Path
) -> None:
    python = _environment(tmp_path / "venv")
    _pip_install(python, ROOT / "worker", SDK)
    version = subprocess.check_output([python.with_name("crunch-worker"), "--version"], text=True)
    listed = subprocess.check_output([python, "-m", "pip", "list", "--format=freeze"], text=True)
    assert f"crunch-worker=={version.split()[1]}\n" in listed

    (tmp_path / "mytasks.py").write_text(_first_python(ROOT / "README.md"))
    (tmp_path / "words.py").write_text(_first_python(SDK / "README.md"))
    with Stack(binaries, tmp_path) as stack:
        # As a user with an environment that is not activated: nothing of it is in PATH.
        stack.start_worker_of(python, "mytasks", "words", task="word.count")
        client = Client(stack.url)
        assert client.submit("primes.count", 100).result(RESULT_TIMEOUT_S) == 25
        job = client.submit("word.count", {"text": "to be or not to be", "top": 2})
        assert job.result(RESULT_TIMEOUT_S) == ["to", "be"]


def _environment(folder: Path) -> Path:
    """Make a virtual environment, and return its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder / "bin" / "python"


def _pip_install(python: Path, *projects: Path) -> None:
    """Install like a user, but from a debug build, in the folder that has most of it already."""
    # The pip that comes with Python 3.10 has no short form of `--config-settings`.
    options = ["--quiet", "--disable-pip-version-check"]
    options += ["--config-settings", "build-args=--profile dev"]
    environment = {"CARGO_TARGET_DIR": str(ROOT / "target"), **os.environ}
    command = [str(python), "-m", "pip", "install", *options, *map(str, projects)]
    subprocess.run(command, env=environment, check=True)


def _first_python(readme: Path) -> str:
    """Return the first block of Python in a README."""
    found = re.search(r"```python\n(.*?)```", readme.read_text(), re.DOTALL)
    assert found is not None, readme
    return found[1]
